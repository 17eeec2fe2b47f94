import errno
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import attempt, overdue, steering, uploads
from app.database import session_scope
from app.drives.base import Delivery
from app.drives.filesystem import FilesystemDrive
from app.endings import Outcome
from app.errors import DriveUnavailable
from app.means import Means
from app.models import OnConflict, State, Upload
from app.staging import Staging
from tests.factories import (
    ROOT,
    DriveDouble,
    attempt_at,
    claim,
    claimed,
    counts,
    expire_lease,
    items,
    kinds_of_events,
    make_due,
    make_inbox_upload,
    make_means,
    make_upload,
    race,
    row,
    sessions,
    set_columns,
    staging_of,
    wide_pool,
)
from tests.installation import CORP, Installation


class Died(BaseException):
    """The process is gone: nothing of the attempt runs any more."""


def content_of(installation: Installation, item_id: str) -> bytes:
    return (installation.drive_dir / item_id).read_bytes()


def drafts(installation: Installation) -> list[str]:
    return sorted(path.name for path in (installation.drive_dir / ".haulage" / "drafts").iterdir())


def staged_files(installation: Installation) -> list[Path]:
    return [path for path in installation.staging_dir.rglob("*/*") if path.is_file()]


def until_done(installation: Installation, upload_id: UUID, means: Means, most: int = 10) -> Outcome | None:
    for _ in range(most):
        make_due(installation, upload_id)
        outcome = attempt_at(upload_id, means)
        if outcome is Outcome.FINISHED:
            return outcome
    return None


# The way of one file


def test_a_staged_file_is_stored_and_catalogued(installation: Installation) -> None:
    upload_id = make_upload(installation, b"content", folder=("docs", "2026"))

    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED

    after = row(upload_id)
    assert (after.state, after.item_id, after.transferred, after.reason) == (
        State.STORED, "7/docs/2026/a.txt", 7, None,
    )  # fmt: skip
    assert content_of(installation, "7/docs/2026/a.txt") == b"content"
    assert items(installation) == {"7/docs": "folder", "7/docs/2026": "folder", "7/docs/2026/a.txt": "file"}
    assert [counts(installation, at) for at in (ROOT, "7/docs", "7/docs/2026")] == [(1, 1)] * 3
    assert kinds_of_events(installation, upload_id) == ["queued", "transferring", "stored"]
    assert (drafts(installation), staged_files(installation)) == ([], [])


def test_an_empty_file_is_stored(installation: Installation) -> None:
    upload_id = make_upload(installation, b"")

    attempt_at(upload_id, make_means(installation))

    assert content_of(installation, "7/a.txt") == b""


def test_a_file_of_the_inbox_is_staged_and_stored(installation: Installation) -> None:
    upload_id = make_inbox_upload(installation, "in/a.txt")

    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED

    assert (row(upload_id).state, row(upload_id).size) == (State.STORED, 7)
    assert content_of(installation, "7/in/a.txt") == b"content"
    assert staged_files(installation) == []


def test_a_finished_upload_is_not_to_be_had_again(installation: Installation) -> None:
    upload_id = make_upload(installation)
    attempt_at(upload_id, make_means(installation))

    assert attempt_at(upload_id, make_means(installation)) is None


def test_no_transaction_is_open_while_the_drive_works(installation: Installation) -> None:
    seen: list[int] = []

    def look(real: Callable[..., Any], *arguments: Any) -> Any:
        seen.append(sessions(installation, "idle in transaction", "active"))
        return real(*arguments)

    drive = DriveDouble(
        installation, begin=look, put=look, held=look, make_folder=look, release=look, secure=look
    )
    upload_id = make_upload(installation, folder=("docs",))

    attempt_at(upload_id, make_means(installation, drive=drive))

    assert row(upload_id).state == State.STORED
    assert len(seen) >= 4
    assert set(seen) == {0}


def test_control_a_transaction_that_is_open_would_be_seen(installation: Installation) -> None:
    with session_scope() as session:
        session.execute(text("SELECT 1"))

        assert sessions(installation, "idle in transaction") == 1


def test_no_transaction_is_open_at_the_step_that_makes_a_file_visible(installation: Installation) -> None:
    seen: list[int] = []

    def look(real: Callable[..., Any], *arguments: Any) -> Any:
        *given, may_place = arguments

        def then() -> None:
            may_place()
            seen.append(sessions(installation, "idle in transaction"))

        return real(*given, then)

    attempt_at(
        make_upload(installation), make_means(installation, drive=DriveDouble(installation, finish=look))
    )

    assert seen == [0]


def test_forty_siblings_at_once_are_stored_and_counted_exactly(installation: Installation) -> None:
    ids = [
        make_upload(installation, bytes([number]), name=f"{number}.txt", folder=("new",))
        for number in range(40)
    ]
    means = make_means(installation)

    def some(mine: list[UUID]) -> list[Outcome | None]:
        return [attempt_at(one, means) for one in mine]

    with wide_pool():
        results = race([lambda start=start: some(ids[start::8]) for start in range(8)])

    assert [outcome for some in results for outcome in some] == [Outcome.FINISHED] * 40
    assert counts(installation, "7/new") == (40, 40)
    assert counts(installation) == (1, 1)


def test_many_attempts_at_one_upload_store_it_once(installation: Installation) -> None:
    upload_id = make_upload(installation)
    means = make_means(installation)

    with wide_pool():
        results = race([lambda: attempt_at(upload_id, means)] * 8)

    assert sorted(results, key=str) == sorted([Outcome.FINISHED] + [None] * 7, key=str)
    assert counts(installation) == (1, 1)


# Conflicts

SAME, OTHER = b"same bytes", b"other bytes"


@pytest.mark.parametrize("name", ["a\u00e9.txt", "A\u00c9.TXT", "ae\u0301.txt"], ids=ascii)
@pytest.mark.parametrize("policy", OnConflict)
def test_the_same_bytes_at_the_same_place_are_a_success_with_the_existing_item(
    installation: Installation, policy: OnConflict, name: str
) -> None:
    means = make_means(installation)
    attempt_at(make_upload(installation, SAME, name="a\u00e9.txt"), means)
    upload_id = make_upload(installation, SAME, name=name, on_conflict=policy)

    attempt_at(upload_id, means)

    assert (row(upload_id).state, row(upload_id).item_id) == (State.STORED, "7/a\u00e9.txt")
    assert counts(installation) == (1, 1)
    assert (drafts(installation), staged_files(installation)) == ([], [])


@pytest.mark.parametrize("name", ["a\u00e9.txt", "A\u00c9.TXT", "ae\u0301.txt"], ids=ascii)
@pytest.mark.parametrize(
    ("policy", "state", "held", "number"),
    [
        (OnConflict.FAIL, State.FAILED, SAME, 1),
        (OnConflict.RENAME, State.STORED, SAME, 2),
        (OnConflict.REPLACE, State.STORED, OTHER, 1),
    ],
)
def test_other_bytes_at_the_same_place_go_by_the_policy(  # noqa: PLR0913, PLR0917
    installation: Installation, policy: OnConflict, state: State, held: bytes, number: int, name: str
) -> None:
    means = make_means(installation)
    attempt_at(make_upload(installation, SAME, name="a\u00e9.txt"), means)
    upload_id = make_upload(installation, OTHER, name=name, on_conflict=policy)

    attempt_at(upload_id, means)

    after = row(upload_id)
    assert (after.state, after.reason) == (state, "name_taken" if state == State.FAILED else None)
    assert content_of(installation, "7/a\u00e9.txt") == held
    assert counts(installation) == (number, number)
    if policy == OnConflict.RENAME:
        assert after.item_id == f"7/{name.rpartition('.')[0]} (1).{name.rpartition('.')[2]}"
        assert content_of(installation, str(after.item_id)) == OTHER


@pytest.mark.parametrize("policy", OnConflict)
def test_a_folder_is_never_replaced_by_a_file(installation: Installation, policy: OnConflict) -> None:
    means = make_means(installation)
    attempt_at(make_upload(installation, SAME, folder=("thing",)), means)
    upload_id = make_upload(installation, OTHER, name="thing", on_conflict=policy)

    attempt_at(upload_id, means)

    assert items(installation)["7/thing"] == "folder"
    if policy == OnConflict.RENAME:
        assert row(upload_id).item_id == "7/thing (1)"
    else:
        assert (row(upload_id).state, row(upload_id).reason) == (State.FAILED, "name_taken")


@pytest.mark.parametrize("policy", OnConflict)
def test_a_file_is_never_replaced_by_a_folder(installation: Installation, policy: OnConflict) -> None:
    means = make_means(installation)
    attempt_at(make_upload(installation, SAME, name="thing"), means)
    ids = [
        make_upload(installation, OTHER, name=name, folder=("thing",), on_conflict=policy)
        for name in ("a", "b")
    ]

    for upload_id in ids:
        attempt_at(upload_id, means)

    assert items(installation)["7/thing"] == "file"
    if policy == OnConflict.RENAME:
        assert [row(one).item_id for one in ids] == ["7/thing (1)/a", "7/thing (1)/b"]
    else:
        assert [row(one).reason for one in ids] == ["not_a_folder"] * 2


@pytest.mark.parametrize("policy", OnConflict)
def test_a_file_in_the_drive_that_the_catalogue_does_not_know_is_not_overwritten_unasked(
    installation: Installation, policy: OnConflict
) -> None:
    (installation.drive_dir / "7" / "a.txt").write_bytes(SAME)
    upload_id = make_upload(installation, OTHER, on_conflict=policy)

    attempt_at(upload_id, make_means(installation))

    after = row(upload_id)
    expected = {
        OnConflict.FAIL: (State.FAILED, None),
        OnConflict.RENAME: (State.STORED, "7/a (1).txt"),
        OnConflict.REPLACE: (State.STORED, "7/a.txt"),
    }
    assert (after.state, after.item_id) == expected[policy]
    assert content_of(installation, "7/a.txt") == (OTHER if policy == OnConflict.REPLACE else SAME)


@pytest.mark.parametrize("policy", OnConflict)
@pytest.mark.parametrize("names", [("a.txt", "a.txt"), ("a.txt", "A.TXT"), ("\u00e9", "e\u0301")], ids=ascii)
def test_two_rivals_at_the_same_moment_end_by_the_policy(
    installation: Installation, policy: OnConflict, names: tuple[str, str]
) -> None:
    bytes_of = {
        make_upload(installation, bytes([n]), name=name, on_conflict=policy): bytes([n])
        for n, name in enumerate(names)
    }
    means = make_means(installation)

    with wide_pool():
        race([lambda one=one: attempt_at(one, means) for one in bytes_of])
        for one in bytes_of:  # the one that found the name busy
            if row(one).state == State.QUEUED:
                make_due(installation, one)
                attempt_at(one, means)

    states = sorted(row(one).state for one in bytes_of)
    wanted = [State.FAILED, State.STORED] if policy == OnConflict.FAIL else [State.STORED, State.STORED]
    assert states == wanted
    there = 2 if policy == OnConflict.RENAME else 1
    assert counts(installation) == (there, there)
    for item_id, sha256 in installation.query(
        "SELECT onedrive_item_id, sha256 FROM corporate.vmb_items WHERE kind = 'file'"
    ):
        assert hashlib.sha256(content_of(installation, item_id)).hexdigest() == sha256
    assert len(list((installation.drive_dir / "7").iterdir())) == there


def test_eight_renamed_rivals_are_all_stored(installation: Installation) -> None:
    ids = [make_upload(installation, bytes([n]), on_conflict=OnConflict.RENAME) for n in range(8)]
    means = make_means(installation)

    with wide_pool():
        for _ in range(8):
            race([lambda one=one: attempt_at(one, means) for one in ids])
            for one in ids:
                if row(one).state != State.STORED:
                    make_due(installation, one)

    assert {row(one).state for one in ids} == {State.STORED}
    assert counts(installation) == (8, 8)


# Setbacks


def broken(*_: Any) -> Any:
    raise RuntimeError("secret detail")


def test_a_failed_attempt_is_tried_again_later_and_in_the_end_no_more(installation: Installation) -> None:
    upload_id = make_upload(installation)
    means = make_means(installation, drive=DriveDouble(installation, put=broken), max_attempts=3)

    outcomes = []
    waits = []
    for _ in range(3):
        outcomes.append(attempt_at(upload_id, means))
        ((wait,),) = installation.query("SELECT extract(epoch FROM due_at - now()) FROM corporate.uploads")
        waits.append(float(wait))
        if outcomes[-1] is Outcome.LATER:
            assert attempt_at(upload_id, means) is None
            make_due(installation, upload_id)

    after = row(upload_id)
    assert outcomes == [Outcome.LATER, Outcome.LATER, Outcome.FINISHED]
    assert 0 < waits[0] <= 2 < waits[1] <= 4
    assert (after.state, after.reason, after.attempts) == (State.FAILED, "worn_out", 3)
    assert "secret" not in str(after.message)


def test_a_retry_after_the_failure_stores_it(installation: Installation) -> None:
    upload_id = make_upload(installation)
    attempt_at(
        upload_id, make_means(installation, drive=DriveDouble(installation, put=broken), max_attempts=1)
    )
    assert row(upload_id).state == State.FAILED

    with session_scope() as session:
        steering.retry(session, CORP, upload_id)
    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
    assert content_of(installation, "7/a.txt") == b"content"


def test_what_is_postponed_takes_the_attempt_back(installation: Installation) -> None:
    def away(*_: Any) -> Any:
        raise DriveUnavailable("not mounted", timedelta(seconds=30))

    upload_id = make_upload(installation)

    outcome = attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, begin=away)))

    after = row(upload_id)
    assert outcome is Outcome.LATER
    assert (after.state, after.attempts, after.reason) == (State.QUEUED, 0, "drive_unavailable")
    assert claim(upload_id) is None


def test_a_shutdown_takes_the_attempt_back_and_the_next_one_goes_on(installation: Installation) -> None:
    upload_id = make_upload(installation, b"x" * 25)
    drive = DriveDouble(installation)
    drive.chunk_bytes = 10
    told = iter([False, False, True])
    means = make_means(installation, drive=drive, is_shutting_down=lambda: next(told))

    outcome = attempt_at(upload_id, means)

    between = row(upload_id)
    assert outcome is Outcome.GOES_ON
    assert (between.state, between.attempts, between.reason, between.transferred) == (
        State.QUEUED, 0, "shutting_down", 20,
    )  # fmt: skip
    sent: list[int] = []

    def note(real: Callable[..., Any], session: Any, offset: int, data: bytes) -> Any:
        sent.append(offset)
        return real(session, offset, data)

    assert (
        attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, put=note)))
        is Outcome.FINISHED
    )
    assert sent == [20]


def test_the_end_of_a_slice_takes_the_attempt_back(installation: Installation) -> None:
    upload_id = make_upload(installation)

    outcome = attempt_at(upload_id, make_means(installation, slice=timedelta(0)))

    assert outcome is Outcome.GOES_ON
    assert (row(upload_id).attempts, row(upload_id).reason) == (0, "slice_ended")


def test_staging_from_the_inbox_ends_although_it_takes_longer_than_a_slice(
    installation: Installation,
) -> None:
    upload_id = make_inbox_upload(installation, "a.txt")
    means = make_means(installation, slice=timedelta(0))

    for _ in range(3):
        attempt_at(upload_id, means)

    assert row(upload_id).staged_id is not None


def test_beyond_its_deadline_an_upload_is_not_tried(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, deadline_at="now()")

    assert attempt_at(upload_id, make_means(installation)) is None


@pytest.mark.parametrize("path", ["../8/a.txt", "missing.txt", "link"])
def test_an_inbox_file_that_cannot_be_had_fails_for_good(installation: Installation, path: str) -> None:
    (installation.inbox / "link").symlink_to("/etc/passwd")
    upload_id = make_inbox_upload(installation, "stand-in", None)
    set_columns(installation, upload_id, inbox_path=f"'{path}'")

    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED

    assert row(upload_id).state == State.FAILED
    assert row(upload_id).reason in {"bad_name", "inbox_file_missing", "inbox_file_refused"}
    assert staged_files(installation) == []


def test_staged_bytes_that_are_missing_are_waited_for(installation: Installation) -> None:
    upload_id = make_upload(installation)
    staging_of(installation).remove(row(upload_id).staged_id)  # type: ignore[arg-type]

    attempt_at(upload_id, make_means(installation))

    assert (row(upload_id).state, row(upload_id).reason) == (State.QUEUED, "staged_bytes_missing")


@pytest.mark.parametrize("damaged", [b"CONTENT", b"cont", b"", b"content and more"])
def test_staged_bytes_that_were_damaged_fail_for_good(installation: Installation, damaged: bytes) -> None:
    upload_id = make_upload(installation)
    staging_of(installation).path(row(upload_id).staged_id).write_bytes(damaged)  # type: ignore[arg-type]

    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED

    assert (row(upload_id).state, row(upload_id).reason) == (State.FAILED, "staged_bytes_damaged")
    assert not (installation.drive_dir / "7" / "a.txt").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_bytes_that_were_damaged_on_the_way_are_sent_again(installation: Installation, times: int) -> None:
    left = [times]

    def damage(real: Callable[..., Any], session: Any, offset: int, data: bytes) -> Any:
        left[0] -= 1
        return real(session, offset, data if left[0] < 0 else b"x" * len(data))

    upload_id = make_upload(installation)
    means = make_means(installation, drive=DriveDouble(installation, put=damage))

    assert until_done(installation, upload_id, means) is Outcome.FINISHED

    assert (row(upload_id).state, row(upload_id).attempts) == (State.STORED, times + 1)
    assert content_of(installation, "7/a.txt") == b"content"


# Cancel


def cancel(upload_id: UUID) -> None:
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)


def test_an_upload_that_was_cancelled_while_queued_is_not_tried(installation: Installation) -> None:
    upload_id = make_upload(installation)
    cancel(upload_id)

    assert attempt_at(upload_id, make_means(installation)) is None


def test_an_upload_that_is_cancelled_while_it_is_transferred_is_not_placed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.watch.SURE_SECONDS", 0)

    def cancel_first(real: Callable[..., Any], *arguments: Any) -> Any:
        cancel(upload_id)
        return real(*arguments)

    upload_id = make_upload(installation)
    means = make_means(installation, drive=DriveDouble(installation, put=cancel_first))

    assert attempt_at(upload_id, means) is Outcome.FINISHED

    assert row(upload_id).state == State.CANCELLED
    assert items(installation) == {}
    assert not (installation.drive_dir / "7" / "a.txt").exists()


def test_a_transfer_that_is_cancelled_ends_before_its_next_heartbeat(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_first(real: Callable[..., Any], *arguments: Any) -> Any:
        if not put:
            cancel(upload_id)
        put.append(arguments)
        return real(*arguments)

    put: list[object] = []
    monkeypatch.setattr("app.watch.TELL_SECONDS", 0)
    upload_id = make_upload(installation, b"x" * 50)
    drive = DriveDouble(installation, put=cancel_first)
    drive.chunk_bytes = 10

    assert attempt_at(upload_id, make_means(installation, drive=drive)) is Outcome.FINISHED

    assert row(upload_id).state == State.CANCELLED
    assert len(put) == 1


def test_a_figure_that_cannot_be_written_ends_no_attempt(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Session, *_: Any) -> None:
        session.execute(text("SELECT 1 / 0"))

    monkeypatch.setattr("app.watch.TELL_SECONDS", 0)
    monkeypatch.setattr("app.watch.uploads.tell", fail)
    upload_id = make_upload(installation)

    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED

    assert row(upload_id).state == State.STORED
    assert "how far it has come could not be written down" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("x"), DriveUnavailable("x"), Died()], ids=repr)
def test_a_wish_to_cancel_outlives_an_attempt_that_ended_otherwise(
    installation: Installation, error: BaseException
) -> None:
    def cancel_and_break(*_: Any) -> Any:
        cancel(upload_id)
        raise error

    upload_id = make_upload(installation)
    means = make_means(installation, drive=DriveDouble(installation, put=cancel_and_break))
    with suppress(Died):
        attempt_at(upload_id, means)

    with session_scope() as session:
        overdue.give_up(session)

    assert row(upload_id).state == State.CANCELLED


# Ends of every kind

ENDS = (
    RuntimeError("x"),
    OSError(5, "x"),
    SystemExit(0),
    KeyboardInterrupt(),
    SoftTimeLimitExceeded(),
    Died(),
)
STEPS = ("make_folder", "begin", "put", "finish")


@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_that_ends_in_any_way_leaves_nothing_half_done(
    installation: Installation, step: str
) -> None:
    for number, end in enumerate(ENDS):
        upload_id = make_upload(installation, name=f"{number}.txt", folder=("docs", str(number)))

        break_off(installation, upload_id, step, end)

        after = row(upload_id)
        assert (after.state, after.token) == (State.QUEUED, None)
        assert after.attempts == (1 if isinstance(end, Exception) else 0)
        assert sessions(installation, "idle in transaction") == 0
        assert [one.name for one in threading.enumerate() if one.name.startswith("heartbeat")] == []
        make_due(installation, upload_id)
        assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED
        assert counts(installation, f"7/docs/{number}") == (1, 1)


def break_off(installation: Installation, upload_id: UUID, step: str, end: BaseException) -> None:
    def die(*_: Any) -> Any:
        raise end

    means = make_means(installation, drive=DriveDouble(installation, **{step: die}))
    if isinstance(end, Exception):
        attempt_at(upload_id, means)
    else:
        with pytest.raises(type(end)):
            attempt_at(upload_id, means)


def test_an_attempt_that_dies_between_the_drive_and_the_catalogue_is_found_out(
    installation: Installation,
) -> None:
    def place_and_die(real: Callable[..., Any], *arguments: Any) -> Any:
        real(*arguments)
        raise Died

    upload_id = make_upload(installation)
    with pytest.raises(Died):
        attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, finish=place_and_die)))
    assert content_of(installation, "7/a.txt") == b"content"
    assert items(installation) == {}

    sent: list[object] = []
    drive = DriveDouble(installation, put=lambda real, *arguments: sent.append(arguments) or real(*arguments))
    make_due(installation, upload_id)
    assert attempt_at(upload_id, make_means(installation, drive=drive)) is Outcome.FINISHED

    assert sent == []
    assert items(installation) == {"7/a.txt": "file"}
    assert counts(installation) == (1, 1)
    assert (drafts(installation), staged_files(installation)) == ([], [])


@pytest.mark.parametrize("policy", OnConflict)
def test_an_attempt_that_dies_in_the_commit_is_found_out(
    installation: Installation, policy: OnConflict, monkeypatch: pytest.MonkeyPatch
) -> None:
    if policy == OnConflict.REPLACE:
        attempt_at(make_upload(installation, b"before"), make_means(installation))
    upload_id = make_upload(installation, on_conflict=policy)

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patched, pytest.raises(Died):  # noqa: PT012
        patched.setattr("app.attempt._complete", die)
        attempt_at(upload_id, make_means(installation))
    make_due(installation, upload_id)
    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
    assert content_of(installation, "7/a.txt") == b"content"
    assert counts(installation) == (1, 1)


def test_an_attempt_that_dies_after_the_commit_is_stored(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Died

    upload_id = make_upload(installation)
    monkeypatch.setattr("app.attempt._release", die)

    with pytest.raises(Died):
        attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
    assert row(upload_id).cleanup_due_at is not None


def lose_the_connection(session: Session) -> None:
    """Commit, and lose the connection before the answer is heard."""
    pid = session.scalar(text("SELECT pg_backend_pid()"))
    session.commit()
    session.scalar(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


def test_an_attempt_that_lost_the_answer_to_its_commit_has_finished(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attempt._complete

    def complete(session: Session, *arguments: Any) -> None:
        real(session, *arguments)
        lose_the_connection(session)

    monkeypatch.setattr("app.attempt._complete", complete)
    upload_id = make_upload(installation)

    assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED

    assert row(upload_id).state == State.STORED
    assert kinds_of_events(installation, upload_id) == ["queued", "transferring", "stored"]


def test_an_attempt_whose_upload_was_stored_by_another_is_fenced(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed, was retried and stored, all while this attempt hung: under the same number, with another deadline."""

    def overtaken(*_: Any) -> None:
        held = row(upload_id)
        with session_scope() as session:
            uploads.fail(session, held, "x", "x")
        with session_scope() as session:
            steering.retry(session, CORP, upload_id)
        patched.undo()
        assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED
        raise RuntimeError

    upload_id = make_upload(installation)
    with monkeypatch.context() as patched:
        patched.setattr("app.attempt._complete", overtaken)

        assert attempt_at(upload_id, make_means(installation)) is Outcome.LATER

    assert kinds_of_events(installation, upload_id)[-1] == "fenced"


# Zombies and heartbeats


def test_an_attempt_that_wakes_up_late_places_nothing_and_writes_nothing(installation: Installation) -> None:
    upload_id = make_upload(installation)

    def sleep(real: Callable[..., Any], *arguments: Any) -> Any:
        expire_lease(installation, upload_id)
        assert attempt_at(upload_id, make_means(installation)) is Outcome.FINISHED
        return real(*arguments)

    late = make_means(installation, drive=DriveDouble(installation, finish=sleep))

    assert attempt_at(upload_id, late) is Outcome.LATER

    assert row(upload_id).state == State.STORED
    assert counts(installation) == (1, 1)
    assert kinds_of_events(installation, upload_id).count("stored") == 1


def test_the_heartbeat_keeps_a_slow_step_alive_beyond_its_lease(installation: Installation) -> None:
    def slow(real: Callable[..., Any], *arguments: Any) -> Any:
        ((before,),) = installation.query("SELECT due_at FROM corporate.uploads")
        # Beyond the first lease by the server's own clock, however slow this machine is.
        while not installation.query("SELECT 1 WHERE clock_timestamp() > %s + interval '0.3 s'", before):
            threading.Event().wait(0.05)
        taken.append(claim(upload_id, timedelta(seconds=1)))
        return real(*arguments)

    taken: list[object] = []
    upload_id = make_upload(installation)
    means = make_means(installation, lease=timedelta(seconds=1.5), drive=DriveDouble(installation, put=slow))

    assert attempt_at(upload_id, means) is Outcome.FINISHED

    assert taken == [None]
    assert row(upload_id).attempts == 1


def test_without_a_heartbeat_a_slow_step_loses_its_claim(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what the heartbeat is good for."""

    def slow(real: Callable[..., Any], *arguments: Any) -> Any:
        while (one := claim(upload_id)) is None:
            threading.Event().wait(0.05)
        taken.append(one.attempts)
        return real(*arguments)

    taken: list[int] = []
    upload_id = make_upload(installation)
    monkeypatch.setattr("app.watch.Watch._beat", lambda _: None)
    means = make_means(installation, lease=timedelta(seconds=0.5), drive=DriveDouble(installation, put=slow))

    assert attempt_at(upload_id, means) is Outcome.LATER

    assert taken == [2]


def test_a_stale_attempts_failure_does_not_touch_the_new_one(installation: Installation) -> None:
    def taken_over(*_: Any) -> Any:
        expire_lease(installation, upload_id)
        claimed(upload_id)
        raise RuntimeError("x")

    upload_id = make_upload(installation)

    assert (
        attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, put=taken_over)))
        is Outcome.LATER
    )

    assert (row(upload_id).state, row(upload_id).attempts) == (State.TRANSFERRING, 2)


def test_the_deadline_counts_from_the_first_attempt(installation: Installation) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, created_at="now() - interval '9 days'")
    assert row(upload_id).deadline_at is None

    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED


def test_a_staging_that_is_not_mounted_costs_no_attempt(installation: Installation) -> None:
    upload_id = make_upload(installation)
    elsewhere = make_means(installation, staging=Staging(installation.root / "not mounted", 2**30, 0))

    for _ in range(10):
        attempt_at(upload_id, elsewhere)
        make_due(installation, upload_id)

    assert (row(upload_id).attempts, row(upload_id).reason) == (0, "staging_unavailable")
    attempt_at(upload_id, make_means(installation))
    assert row(upload_id).state == State.STORED


def test_a_row_that_others_have_locked_costs_no_attempt(installation: Installation) -> None:
    upload_id = make_upload(installation)
    connection = psycopg2.connect(installation.environment["OWNER_DATABASE_URL"])
    try:
        connection.cursor().execute("SELECT FROM corporate.vmb_items FOR UPDATE")
        attempt_at(upload_id, make_means(installation))
    finally:
        connection.close()

    assert (row(upload_id).state, row(upload_id).attempts) == (State.QUEUED, 0)
    assert row(upload_id).reason == "database_busy"


def test_a_renamed_file_that_was_placed_already_keeps_its_number(installation: Installation) -> None:
    upload_id = make_upload(installation, on_conflict=OnConflict.RENAME)
    foreign = installation.drive_dir / ROOT / "a.txt"
    foreign.write_bytes(b"foreign")

    def place_and_die(real: Callable[..., Any], *arguments: Any) -> Any:
        real(*arguments)
        raise Died

    with pytest.raises(Died):
        attempt_at(upload_id, make_means(installation, drive=DriveDouble(installation, finish=place_and_die)))
    foreign.unlink()
    make_due(installation, upload_id)
    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
    assert [path.name for path in (installation.drive_dir / ROOT).iterdir()] == ["a (1).txt"]


def test_a_clean_up_that_is_late_leaves_a_retried_upload_alone(installation: Installation) -> None:
    """The clean-up of the failed upload stops for so long that another one, a retry and an attempt overtake it."""
    upload_id = make_upload(installation)
    (installation.drive_dir / ROOT / "a.txt").write_bytes(b"foreign")
    attempt_at(upload_id, make_means(installation))
    assert row(upload_id).reason == "name_taken"
    with session_scope() as session:
        [late] = overdue.claim_cleanups(session, 10)
    set_columns(installation, upload_id, cleanup_due_at="now() - interval '1 second'")
    with session_scope() as session:
        overdue.cleaned(session, overdue.claim_cleanups(session, 10))
    (installation.drive_dir / ROOT / "a.txt").unlink()
    with session_scope() as session:
        steering.retry(session, CORP, upload_id)
    attempt_at(upload_id, make_means(installation))

    FilesystemDrive(installation.drive_dir).abort(late.drive_session, placed_by(late))

    assert row(upload_id).state == State.STORED
    assert content_of(installation, "7/a.txt") == b"content"


def placed_by(upload: Upload) -> Delivery:
    return Delivery(
        upload.id, upload.reserved_parent_id, upload.reserved_name, upload.size, upload.sha256, ""
    )


# A file that the catalogue has, and a directory that has not


def test_a_file_that_was_removed_by_hand_is_brought_back(installation: Installation) -> None:
    before = make_upload(installation, name="A.txt")
    attempt_at(before, make_means(installation))
    (installation.drive_dir / "7" / "A.txt").unlink()

    again = make_upload(installation, name="a.txt")
    attempt_at(again, make_means(installation))

    assert (row(again).state, row(again).item_id) == (State.STORED, "7/A.txt")
    assert content_of(installation, "7/A.txt") == b"content"


def test_a_folder_in_a_files_place_is_not_the_file(installation: Installation) -> None:
    attempt_at(make_upload(installation), make_means(installation))
    path = installation.drive_dir / "7" / "a.txt"
    path.unlink()
    path.mkdir()

    again = make_upload(installation)
    attempt_at(again, make_means(installation))

    assert (row(again).state, row(again).reason) == (State.FAILED, "name_taken")


def test_a_directory_in_trouble_is_waited_for_before_a_file_counts_as_there(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt_at(make_upload(installation), make_means(installation))
    again = make_upload(installation)
    stat = Path.stat

    def stale(self: Path, **more: Any) -> Any:
        if self.name == "a.txt":
            raise OSError(errno.ESTALE, "stale file handle")
        return stat(self, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", stale)
        attempt_at(again, make_means(installation))

    assert (row(again).state, row(again).reason, row(again).attempts) == (
        State.QUEUED,
        "drive_unavailable",
        0,
    )
