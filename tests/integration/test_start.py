from uuid import UUID

from app import start, uploads
from app.database import session_scope
from app.drives.registry import Drives
from app.models import OnConflict, State
from app.start import Start
from tests.factories import (
    ROOT,
    attempt_at,
    claimed,
    kinds_of_events,
    make_inbox_upload,
    make_means,
    make_upload,
    row,
)
from tests.installation import Installation


def begun(installation: Installation, upload_id: UUID, **means: object) -> Start:
    found = start.begin(upload_id, make_means(installation, **means))
    assert found is not None
    assert row(upload_id).token == found.held.token
    assert (found.held.attempts, kinds_of_events(installation, upload_id)[1:]) == (1, ["transferring"])
    return found


def test_a_claim_takes_the_place_with_it_in_one_transaction(installation: Installation) -> None:
    upload_id = make_upload(installation)

    found = begun(installation, upload_id)

    assert found.place is not None
    assert (found.parent_id, found.place.name, found.place.existing) == (ROOT, "a.txt", None)
    assert row(upload_id).reserved_name == "a.txt"
    # xmin names the transaction that wrote a row last: the event of the claim was written by the same one.
    [[is_one]] = installation.query(
        "SELECT u.xmin = e.xmin FROM corporate.uploads u JOIN corporate.upload_events e ON e.upload_id = u.id"
        " WHERE u.id = %s AND e.kind = 'transferring'",
        str(upload_id),
    )
    assert is_one


def test_a_place_that_another_upload_is_taking_leaves_the_claim_alone(installation: Installation) -> None:
    first, second = make_upload(installation), make_upload(installation, b"other", name="A.TXT")
    begun(installation, first)

    found = begun(installation, second)

    assert (found.parent_id, found.place, row(second).reserved_key) == (ROOT, None, None)


def test_a_name_that_is_taken_leaves_the_claim_alone(installation: Installation) -> None:
    attempt_at(make_upload(installation), make_means(installation))
    second = make_upload(installation, b"other")

    found = begun(installation, second)

    assert (found.place, row(second).reserved_key, row(second).state) == (None, None, State.TRANSFERRING)


def test_a_claim_does_not_walk_over_numbers(installation: Installation) -> None:
    """Its row would be locked for as long, with no heartbeat yet."""
    attempt_at(make_upload(installation), make_means(installation))
    second = make_upload(installation, b"other", on_conflict=OnConflict.RENAME)

    found = begun(installation, second)

    assert (found.place, row(second).reserved_key) == (None, None)


def test_what_must_be_staged_or_needs_a_folder_gets_its_place_later(installation: Installation) -> None:
    staged_later = make_inbox_upload(installation, "b.txt")
    folder_later = make_upload(installation, name="c.txt", folder=("new",))

    assert [begun(installation, one).parent_id for one in (staged_later, folder_later)] == [ROOT, None]
    assert [row(one).reserved_key for one in (staged_later, folder_later)] == [None, None]


def test_nothing_is_reserved_in_a_drive_that_this_process_does_not_know(installation: Installation) -> None:
    upload_id = make_upload(installation)

    found = begun(installation, upload_id, drives=Drives({}))

    assert (found.place, row(upload_id).reserved_key) == (None, None)


def test_what_is_in_other_hands_is_not_to_be_had(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)

    assert start.begin(upload_id, make_means(installation)) is None
    with session_scope() as session:
        uploads.extend(session, held, make_means(installation).lease)  # raises LostClaim if it were touched
