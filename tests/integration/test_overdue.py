from datetime import timedelta

from tests.factories import claimed, expire_lease, kinds_of_events, make_upload, row, set_columns
from tests.installation import Installation

from app import overdue
from app.database import session_scope
from app.models import State


def test_a_lost_attempt_is_taken_back(installation: Installation) -> None:
    upload_id = make_upload(installation)
    claimed(upload_id)
    expire_lease(installation, upload_id)

    with session_scope() as session:
        assert overdue.take_back_lost(session, 8) == []

    after = row(upload_id)
    assert (after.state, after.reason, after.attempts, after.token) == (State.QUEUED, "worker_lost", 1, None)
    assert kinds_of_events(installation, upload_id)[-1] == "worker_lost"
