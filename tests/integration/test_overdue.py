from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from app import overdue, steering, uploads
from app.database import session_scope
from app.models import State, Upload
from tests.factories import (
    claim,
    claimed,
    expire_lease,
    kinds_of_events,
    make_upload,
    race,
    row,
    set_columns,
    wide_pool,
)
from tests.installation import CORP, Installation


def take_back_lost(max_attempts: int = 8) -> list[UUID]:
    with session_scope() as session:
        return [upload.id for upload in overdue.take_back_lost(session, max_attempts)]


def give_up() -> list[UUID]:
    with session_scope() as session:
        return [upload.id for upload in overdue.give_up(session)]


def pick(waiting: int = 0, window: int = 100) -> list[UUID]:
    with session_scope() as session:
        return [upload.id for upload in overdue.pick(session, waiting, window)]


# Lost attempts


def test_a_lost_attempt_is_taken_back(installation: Installation) -> None:
    upload_id = make_upload(installation)
    claimed(upload_id)
    expire_lease(installation, upload_id)

    assert take_back_lost() == []

    after = row(upload_id)
    assert (after.state, after.reason, after.attempts, after.token) == (State.QUEUED, "worker_lost", 1, None)
    assert kinds_of_events(installation, upload_id)[-1] == "worker_lost"
    assert claim(upload_id) is not None


def test_a_living_attempt_is_left_alone(installation: Installation) -> None:
    upload_id = make_upload(installation)
    claimed(upload_id)

    take_back_lost()

    assert row(upload_id).state == State.TRANSFERRING


def test_an_upload_whose_last_attempt_was_lost_is_worn_out(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, attempts="7")
    claimed(upload_id)
    expire_lease(installation, upload_id)

    assert take_back_lost() == [upload_id]

    after = row(upload_id)
    assert (after.state, after.reason) == (State.FAILED, "worn_out")
    assert after.cleanup_due_at is not None
    assert kinds_of_events(installation, upload_id)[-2:] == ["worker_lost", "failed"]


def test_a_lost_attempt_that_was_to_be_cancelled_is_cancelled(installation: Installation) -> None:
    upload_id = make_upload(installation)
    claimed(upload_id)
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)
    expire_lease(installation, upload_id)

    assert take_back_lost() == [upload_id]

    assert (row(upload_id).state, row(upload_id).token) == (State.CANCELLED, None)


def test_one_lost_attempt_does_not_hide_another(installation: Installation) -> None:
    lost = [make_upload(installation) for _ in range(3)]
    for upload_id in lost:
        claimed(upload_id)
        expire_lease(installation, upload_id)

    take_back_lost()

    assert [row(upload_id).state for upload_id in lost] == [State.QUEUED] * 3


def test_two_sweeps_at_once_take_each_attempt_back_once(installation: Installation) -> None:
    lost = [make_upload(installation) for _ in range(6)]
    for upload_id in lost:
        claimed(upload_id)
        expire_lease(installation, upload_id)

    with wide_pool():
        race([take_back_lost] * 4)

    assert all(kinds_of_events(installation, one).count("worker_lost") == 1 for one in lost)


# Giving up


def test_an_upload_beyond_its_deadline_fails_with_the_last_reason_to_wait(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(
        installation, upload_id, deadline_at="now() - interval '1 second'", message="'the drive is full'"
    )

    assert give_up() == [upload_id]

    after = row(upload_id)
    assert (after.state, after.reason) == (State.FAILED, "deadline_exceeded")
    assert "the drive is full" in str(after.message)


def test_an_upload_within_its_deadline_goes_on(installation: Installation) -> None:
    upload_id = make_upload(installation)

    assert give_up() == []
    assert row(upload_id).state == State.QUEUED


@pytest.mark.parametrize("end", ["set_back", "give_back"])
def test_a_wish_to_cancel_is_honoured_even_if_the_attempt_ended_otherwise(
    installation: Installation, end: str
) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)
    with session_scope() as session:
        if end == "set_back":
            uploads.set_back(session, held, "x", "x", timedelta(seconds=1))
        else:
            uploads.give_back(session, held, "x", "x", timedelta(0))

    assert give_up() == [upload_id]

    after = row(upload_id)
    assert (after.state, after.reason) == (State.CANCELLED, "cancelled")
    assert after.cleanup_due_at is not None


# What to wake


def woken(installation: Installation, seconds_ago: int) -> UUID:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, woken_at=f"now() - interval '{seconds_ago} seconds'")
    return upload_id


def test_what_was_never_woken_is_picked_once(installation: Installation) -> None:
    upload_id = make_upload(installation)

    assert [pick(), pick()] == [[upload_id], []]


@pytest.mark.parametrize(
    ("seconds_ago", "waiting", "picked"),
    [(1, 0, False), (6, 0, True), (6, 1, False), (500, 1, False), (601, 1, True), (601, 0, True)],
)
def test_what_was_woken_is_woken_again_in_time(
    installation: Installation, seconds_ago: int, waiting: int, picked: bool
) -> None:
    upload_id = woken(installation, seconds_ago)

    assert pick(waiting) == ([upload_id] if picked else [])


def test_the_oldest_are_picked_first_and_no_more_than_the_window_holds(installation: Installation) -> None:
    ids = [make_upload(installation) for _ in range(5)]
    for age, upload_id in enumerate(ids):
        set_columns(installation, upload_id, due_at=f"now() - interval '{age + 1} minutes'")

    assert pick(waiting=0, window=2) == [ids[4], ids[3]]
    assert pick(waiting=1, window=2) == [ids[2]]
    assert pick(waiting=2, window=2) == []
    assert pick(waiting=9, window=2) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"due_at": "now() + interval '1 minute'"},
        {"state": "'failed'", "reason": "'x'"},
        {"state": "'cancelled'"},
        {"state": "'receiving'"},
    ],
    ids=str,
)
def test_what_is_not_due_is_not_picked(installation: Installation, columns: dict[str, str]) -> None:
    set_columns(installation, make_upload(installation), **columns)

    assert pick() == []


def test_two_picks_at_once_share_the_work(installation: Installation) -> None:
    ids = [make_upload(installation) for _ in range(12)]

    with wide_pool():
        picked = race([pick] * 4)

    assert sorted(one for some in picked for one in some) == sorted(ids)


def test_an_attempt_that_died_counts_as_never_woken(installation: Installation) -> None:
    upload_id = woken(installation, 1)
    claimed(upload_id)
    expire_lease(installation, upload_id)
    take_back_lost()

    assert pick(waiting=50) == [upload_id]


def test_what_could_not_be_sent_is_picked_again(installation: Installation) -> None:
    upload_id = make_upload(installation)
    (picked,) = pick()
    with session_scope() as session:
        overdue.mark_not_woken(session, [picked])

    assert pick(waiting=1) == [upload_id]


# What is left over


def cleanups() -> Sequence[Upload]:
    with session_scope() as session:
        return overdue.claim_cleanups(session, 100)


def cancelled(installation: Installation) -> UUID:
    upload_id = make_upload(installation)
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)
    return upload_id


def test_a_clean_up_is_claimed_once(installation: Installation) -> None:
    upload_id = cancelled(installation)

    assert [[one.id for one in cleanups()], [one.id for one in cleanups()]] == [[upload_id], []]


def test_a_clean_up_that_died_comes_again(installation: Installation) -> None:
    upload_id = cancelled(installation)
    cleanups()
    set_columns(installation, upload_id, cleanup_due_at="now() - interval '1 second'")

    assert [one.id for one in cleanups()] == [upload_id]


def test_a_late_clean_up_notes_nothing(installation: Installation) -> None:
    upload_id = cancelled(installation)
    late = cleanups()
    set_columns(installation, upload_id, cleanup_due_at="now() - interval '1 second'")
    cleanups()
    before = installation.query("SELECT * FROM corporate.uploads")

    with session_scope() as session:
        overdue.cleaned(session, late)

    assert installation.query("SELECT * FROM corporate.uploads") == before


def test_an_upload_that_is_cleaned_up_has_left_nothing(installation: Installation) -> None:
    upload_id = cancelled(installation)

    with session_scope() as session:
        overdue.cleaned(session, cleanups())

    after = row(upload_id)
    assert (after.staged_id, after.drive_session, after.reserved_key, after.token, after.cleanup_due_at) == (
        None,
    ) * 5
    assert cleanups() == []


def test_a_failed_upload_that_is_cleaned_up_keeps_its_bytes_for_a_retry(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    with session_scope() as session:
        uploads.fail(session, held, "x", "x")
    with session_scope() as session:
        overdue.cleaned(session, cleanups())

    with session_scope() as session:
        steering.retry(session, CORP, upload_id)

    assert row(upload_id).staged_id is not None
    assert claim(upload_id) is not None
