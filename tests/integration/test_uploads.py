import threading
from datetime import timedelta
from uuid import uuid4

import psycopg2.errors
import pytest
from sqlalchemy import update

from app import overdue, steering, uploads
from app.database import session_scope
from app.errors import KeyReused, LostClaim, NameBusy, NotFound, NotPossible
from app.models import OnConflict, State, Upload
from app.staging import Staged
from tests.factories import (
    LEASE,
    ROOT,
    claim,
    claimed,
    expire_lease,
    kinds_of_events,
    make_destination,
    make_due,
    make_inbox_upload,
    make_staged,
    make_upload,
    race,
    row,
    set_columns,
    wide_pool,
)
from tests.installation import CORP, Installation


def whole_row(installation: Installation, upload_id: object) -> list[tuple]:
    return installation.query("SELECT * FROM corporate.uploads WHERE id = %s", str(upload_id))


# The claim


def test_of_eight_claims_for_one_upload_one_wins(installation: Installation) -> None:
    upload_id = make_upload(installation)

    with wide_pool():
        results = race([lambda: claim(upload_id)] * 8)

    assert [type(one) for one in results].count(Upload) == 1
    assert results.count(None) == 7
    assert row(upload_id).attempts == 1


def test_a_claim_that_asks_first_and_writes_later_is_won_by_several(installation: Installation) -> None:
    """The control: what the one statement with its row lock is good for."""
    upload_id = make_upload(installation)
    asked = threading.Barrier(8)

    def naive() -> bool:
        with session_scope() as session:
            free = session.get_one(Upload, upload_id).state == State.QUEUED
            asked.wait(10)
            if free:
                naive_write = update(Upload).where(Upload.id == upload_id)
                session.execute(naive_write.values(state=State.TRANSFERRING, token=uuid4()))
            return free

    with wide_pool():
        results = race([naive] * 8)

    assert results.count(True) == 8


@pytest.mark.parametrize(
    "hindrance",
    [
        {"due_at": "now() + interval '1 minute'"},
        {"attempts": "8"},
        {"deadline_at": "now() - interval '1 second'"},
        {"cancel_requested": "true"},
        {"state": "'cancelled'"},
        {"state": "'failed'", "reason": "'x'"},
        {"state": "'receiving'"},
    ],
    ids=str,
)
def test_what_is_not_to_be_had_is_not_claimed(installation: Installation, hindrance: dict[str, str]) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, **hindrance)
    before = whole_row(installation, upload_id)

    assert claim(upload_id) is None
    assert whole_row(installation, upload_id) == before


def test_an_upload_that_does_not_exist_is_not_claimed(installation: Installation) -> None:
    assert claim(uuid4()) is None


def test_a_lease_that_has_run_out_is_claimed_anew_with_another_token(installation: Installation) -> None:
    upload_id = make_upload(installation)
    first = claimed(upload_id)
    expire_lease(installation, upload_id)

    second = claimed(upload_id)

    assert (second.attempts, second.token != first.token) == (2, True)
    assert kinds_of_events(installation, upload_id) == [
        "queued",
        "transferring",
        "worker_lost",
        "transferring",
    ]


def test_a_living_lease_is_left_alone(installation: Installation) -> None:
    upload_id = make_upload(installation)
    claimed(upload_id)

    assert claim(upload_id) is None


def test_extending_keeps_the_claim(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    expire_lease(installation, upload_id)

    with session_scope() as session:
        assert uploads.extend(session, held, LEASE) is False

    assert claim(upload_id) is None


def test_a_fresh_lease_is_looked_at_and_not_renewed(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    before = whole_row(installation, upload_id)

    with session_scope() as session:
        assert uploads.ensure(session, held, LEASE) is False

    assert whole_row(installation, upload_id) == before


@pytest.mark.parametrize("left", ["29 seconds", "-1 seconds"])
def test_a_lease_of_which_less_than_half_is_left_is_renewed(installation: Installation, left: str) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    set_columns(installation, upload_id, due_at=f"now() + interval '{left}'")

    with session_scope() as session:
        assert uploads.ensure(session, held, LEASE) is False

    assert installation.query("SELECT due_at > now() + interval '50 seconds' FROM corporate.uploads") == [
        (True,)
    ]


def test_a_file_of_the_inbox_is_transferred_from_when_it_is_staged(installation: Installation) -> None:
    """What the attempt took is told from its claim on; speed and time left are those of the transfer."""
    upload_id = make_inbox_upload(installation, "a.txt")
    held = claimed(upload_id)

    with session_scope() as session:
        uploads.save_staged(session, held, make_staged(installation))

    began = row(upload_id).began_at
    assert held.began_at is not None
    assert began is not None
    assert began > held.began_at


@pytest.mark.parametrize("end", ["set_back", "give_back", "take_back_lost"])
def test_what_an_attempt_that_is_over_told_of_itself_is_forgotten(
    installation: Installation, end: str
) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    with session_scope() as session:
        uploads.tell(session, held, 3)
    expire_lease(installation, upload_id)

    with session_scope() as session:
        if end == "take_back_lost":
            overdue.take_back_lost(session, 8)
        else:
            WRITES[end](session, held)

    after = row(upload_id)
    assert (after.state, after.sent, after.sent_at) == (State.QUEUED, None, None)


# A stale attempt

WRITES = {
    "extend": lambda session, held: uploads.extend(session, held, LEASE),
    "ensure": lambda session, held: uploads.ensure(session, held, LEASE),
    "save_staged": lambda session, held: uploads.save_staged(session, held, Staged(uuid4(), 3, 64 * "0", "")),
    "tell": lambda session, held: uploads.tell(session, held, 3),
    "checkpoint": lambda session, held: uploads.checkpoint(session, held, {"draft": "x"}, 3),
    "reserve": lambda session, held: uploads.reserve(session, held, ROOT, held.name),
    "complete": lambda session, held: uploads.complete(session, held, ROOT),
    "fail": lambda session, held: uploads.fail(session, held, "x", "x"),
    "end_cancelled": uploads.end_cancelled,
    "set_back": lambda session, held: uploads.set_back(session, held, "x", "x", timedelta(seconds=1)),
    "give_back": lambda session, held: uploads.give_back(session, held, "x", "x", timedelta(0)),
}


@pytest.mark.parametrize("taken_over", ["claimed", "queued", "failed", "stored"])
def test_a_stale_attempt_can_write_nothing(installation: Installation, taken_over: str) -> None:
    upload_id = make_upload(installation)
    stale = claimed(upload_id)
    expire_lease(installation, upload_id)
    take_over(claimed(upload_id), taken_over)
    before = whole_row(installation, upload_id), kinds_of_events(installation, upload_id)

    for write in WRITES.values():
        with pytest.raises(LostClaim), session_scope() as session:
            write(session, stale)

        assert (whole_row(installation, upload_id), kinds_of_events(installation, upload_id)) == before


def take_over(fresh: Upload, taken_over: str) -> None:
    with session_scope() as session:
        if taken_over == "queued":
            uploads.set_back(session, fresh, "x", "x", timedelta(seconds=1))
        elif taken_over == "failed":
            uploads.fail(session, fresh, "x", "x")
        elif taken_over == "stored":
            uploads.complete(session, fresh, ROOT)


def test_the_holder_can_write(installation: Installation) -> None:
    for number, write in enumerate(WRITES.values()):
        held = claimed(make_upload(installation, name=str(number)))

        with session_scope() as session:
            write(session, held)


def test_of_an_old_and_a_new_attempt_that_complete_at_once_the_new_one_does(
    installation: Installation,
) -> None:
    upload_id = make_upload(installation)
    old = claimed(upload_id)
    expire_lease(installation, upload_id)
    new = claimed(upload_id)

    def complete(held: Upload) -> None:
        with session_scope() as session:
            uploads.complete(session, held, ROOT)

    results = race([lambda: complete(old), lambda: complete(new)])

    assert [type(results[0]), results[1]] == [LostClaim, None]


# Idempotency keys


def test_the_same_key_with_the_same_file_is_the_same_upload(installation: Installation) -> None:
    assert make_upload(installation, key="k") == make_upload(installation, key="k")
    assert make_upload(installation) != make_upload(installation)


def test_a_key_race_makes_one_upload(installation: Installation) -> None:
    staged = [make_staged(installation) for _ in range(8)]

    def register(number: int) -> object:
        with session_scope() as session:
            return uploads.register(session, make_destination(), staged[number], "k").id

    with wide_pool():
        results = race([lambda number=number: register(number) for number in range(8)])

    assert len(set(results)) == 1
    assert installation.query("SELECT count(*) FROM corporate.uploads") == [(1,)]
    assert installation.query("SELECT count(*) FROM corporate.upload_events") == [(1,)]


@pytest.mark.parametrize(
    "other",
    [
        {"content": b"other"},
        {"name": "b.txt"},
        {"folder": ("x",)},
        {"on_conflict": OnConflict.RENAME},
    ],
    ids=str,
)
def test_the_same_key_with_another_file_or_place_is_refused(
    installation: Installation, other: dict[str, object]
) -> None:
    make_upload(installation, key="k")

    with pytest.raises(KeyReused):
        make_upload(installation, key="k", **other)


def test_another_corporation_may_use_the_same_key(installation: Installation) -> None:
    installation.query("INSERT INTO corporate.corporations (corp_index, name) VALUES (8, 'Other')")
    installation.query(
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, name, name_key, kind)"
        " VALUES (8, '8', '8', '8', 'folder')"
    )

    first = make_upload(installation, key="k")
    second = make_upload(installation, key="k", corp_index=8, parent_id="8")

    assert first != second


# How it ends


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (2, 4), (5, 32), (8, 256), (9, 300), (20, 300)])
def test_each_wait_is_twice_the_one_before_and_five_minutes_at_most(
    installation: Installation, attempts: int, seconds: int
) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, attempts=str(attempts - 1))
    held = claim(upload_id, max_attempts=100)
    assert held is not None

    with session_scope() as session:
        uploads.set_back(session, held, "x", "x", timedelta(seconds=2))

    ((waits,),) = installation.query(
        "SELECT (detail ->> 'seconds')::float FROM corporate.upload_events WHERE kind = 'set_back'"
    )
    assert waits == seconds


def test_a_wait_is_bounded_however_many_attempts_there_were(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, attempts="99")
    held = claim(upload_id, max_attempts=1000)
    assert held is not None

    with session_scope() as session:
        uploads.set_back(session, held, "x", "x", timedelta(seconds=2))

    assert row(upload_id).state == State.QUEUED


def test_giving_back_takes_the_attempt_back(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)

    with session_scope() as session:
        uploads.give_back(session, held, "slice_ended", "later", timedelta(0))

    after = row(upload_id)
    assert (after.state, after.attempts, after.token, after.woken_at) == (State.QUEUED, 0, None, None)


def test_a_reservation_lets_nobody_else_in(installation: Installation) -> None:
    first, second = claimed(make_upload(installation)), claimed(make_upload(installation))
    with session_scope() as session:
        uploads.reserve(session, first, ROOT, "A.txt")

    with pytest.raises(NameBusy) as caught, session_scope() as session:
        uploads.reserve(session, second, ROOT, "a.TXT")

    assert caught.value.delay > timedelta(0)


def test_of_two_reservations_at_once_one_wins(installation: Installation) -> None:
    rivals = [claimed(make_upload(installation)) for _ in range(6)]

    def reserve(held: Upload) -> None:
        with session_scope() as session:
            uploads.reserve(session, held, ROOT, "a.txt")

    with wide_pool():
        results = race([lambda held=held: reserve(held) for held in rivals])

    assert results.count(None) == 1
    assert [type(one) for one in results].count(NameBusy) == 5


# What people ask for


def change(what: steering.Change, upload_id: object, corp_index: int = CORP) -> Upload:
    with session_scope() as session:
        return what(session, corp_index, upload_id)  # type: ignore[arg-type]


def test_a_waiting_upload_is_cancelled_at_once(installation: Installation) -> None:
    upload_id = make_upload(installation)

    change(steering.cancel, upload_id)

    after = row(upload_id)
    assert (after.state, after.reason) == (State.CANCELLED, "cancelled")
    assert after.finished_at is not None
    assert after.cleanup_due_at is not None
    assert claim(upload_id) is None


def test_a_transferring_upload_is_asked_to_stop(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)

    change(steering.cancel, upload_id)

    assert row(upload_id).state == State.TRANSFERRING
    with session_scope() as session:
        assert uploads.extend(session, held, LEASE) is True
        assert uploads.ensure(session, held, LEASE) is True
        assert uploads.tell(session, held, 3) is True


@pytest.mark.parametrize("state", ["stored", "failed", "cancelled", "expired"])
def test_a_finished_upload_cannot_be_cancelled(installation: Installation, state: str) -> None:
    upload_id = make_upload(installation)
    item = f"'{ROOT}'" if state == "stored" else "NULL"
    set_columns(installation, upload_id, state=f"'{state}'", reason="'x'", finished_at="now()", item_id=item)

    with pytest.raises(NotPossible):
        change(steering.cancel, upload_id)


def failed(installation: Installation, **columns: str) -> object:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    with session_scope() as session:
        uploads.fail(session, held, "x", "x")
    if columns:
        set_columns(installation, upload_id, **columns)
    return upload_id


def test_a_failed_upload_can_be_retried_with_all_its_attempts(installation: Installation) -> None:
    upload_id = failed(installation, deadline_at="now() - interval '1 hour'")

    change(steering.retry, upload_id)

    after = row(upload_id)  # type: ignore[arg-type]
    assert (after.state, after.attempts, after.reason, after.finished_at, after.cleanup_due_at) == (
        State.QUEUED, 0, None, None, None,
    )  # fmt: skip
    assert claim(upload_id) is not None  # type: ignore[arg-type]


def test_a_retried_upload_forgets_that_it_was_to_be_cancelled(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    change(steering.cancel, upload_id)
    with session_scope() as session:
        uploads.fail(session, held, "name_taken", "the attempt found this before it heard of the wish")

    change(steering.retry, upload_id)

    assert claim(upload_id) is not None


def test_what_failed_since_is_not_retried_with_what_failed_before(installation: Installation) -> None:
    before = failed(installation)
    ((begun,),) = installation.query("SELECT clock_timestamp()")
    failed(installation)

    with session_scope() as session:
        retried = [upload.id for upload in steering.retry_failed(session, CORP, begun)]
        left = steering.retriable(session, CORP, begun), steering.retriable(session, CORP)

    assert (retried, left) == ([before], (0, 1))


def test_an_upload_that_is_being_cleaned_up_cannot_be_retried(installation: Installation) -> None:
    upload_id = failed(installation, token="gen_random_uuid()")

    with pytest.raises(NotPossible):
        change(steering.retry, upload_id)


def test_an_upload_whose_bytes_are_gone_cannot_be_retried(installation: Installation) -> None:
    upload_id = failed(installation, staged_id="NULL")

    with pytest.raises(NotPossible, match="send the file again"):
        change(steering.retry, upload_id)


@pytest.mark.parametrize("what", [steering.cancel, steering.retry, uploads.get])
def test_nobody_reaches_another_corporations_upload(
    installation: Installation, what: steering.Change
) -> None:
    upload_id = make_upload(installation)

    with pytest.raises(NotFound):
        change(what, upload_id, corp_index=8)


def test_what_is_not_there_is_null_for_every_reader_of_the_table(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)

    with session_scope() as session:
        uploads.checkpoint(session, held, None, 0)

    assert installation.query("SELECT drive_session IS NULL FROM corporate.uploads") == [(True,)]
    make_due(installation, upload_id)


def test_a_release_that_knows_one_drive_is_refused_the_claims_of_others(installation: Installation) -> None:
    """0.2.0 sets a token and nothing else; it would put the file into its own drive, and call it stored."""
    installation.query("UPDATE corporate.corporations SET drive = 'elsewhere'")
    elsewhere = make_upload(installation)
    claim_as_before = (
        "UPDATE corporate.uploads SET state = 'transferring', token = gen_random_uuid() WHERE id = %s"
    )

    with pytest.raises(psycopg2.errors.CheckViolation):
        installation.query(claim_as_before, elsewhere)

    with session_scope() as session:
        held = uploads.claim(session, elsewhere, timedelta(seconds=60), 8)
    assert held is not None
    assert held.drive == "elsewhere"
