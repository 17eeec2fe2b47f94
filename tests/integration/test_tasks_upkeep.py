import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app import logs, queue, results, steering, tallies, uploads
from app.database import session_scope
from app.errors import DriveUnknown, WrongStaging
from app.models import OnConflict, State
from tasks import upkeep
from tests.factories import (
    DriveDouble,
    attempt_at,
    claimed,
    expire_lease,
    items,
    make_due,
    make_inbox_upload,
    make_means,
    make_staged,
    make_upload,
    race,
    row,
    set_columns,
    staging_of,
    wide_pool,
)
from tests.installation import CORP, Installation


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[UUID]]:
    """What was told to the workers; a double at our own door to Celery."""
    told: list[UUID] = []
    monkeypatch.setattr("app.wake.queue.waiting", lambda *_: 0)
    monkeypatch.setattr("app.wake.queue.wake", lambda ids, _queue=None: told.extend(ids))
    return told


@pytest.fixture(autouse=True)
def _always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.upkeep.is_due", lambda *_: True)


def files_in_staging(installation: Installation) -> list[Path]:
    return [path for path in installation.staging_dir.rglob("*/*") if path.is_file()]


def drafts(installation: Installation) -> list[str]:
    return sorted(path.name for path in (installation.drive_dir / ".haulage" / "drafts").iterdir())


def fail(upload_id: UUID) -> None:
    held = claimed(upload_id)
    with session_scope() as session:
        uploads.fail(session, held, "x", "x")


# The sweep


def test_a_sweep_wakes_what_is_due(installation: Installation, sent: list[UUID]) -> None:
    upload_id = make_upload(installation)

    upkeep.sweep()
    upkeep.sweep()

    assert sent == [upload_id]


def test_a_sweep_takes_back_and_wakes_what_a_lost_worker_held(
    installation: Installation, sent: list[UUID]
) -> None:
    lost, other = make_upload(installation), make_upload(installation)
    claimed(lost)
    expire_lease(installation, lost)

    upkeep.sweep()

    assert sorted(sent) == sorted([lost, other])
    assert row(lost).state == State.QUEUED


def test_a_sweep_fails_what_is_worn_out(installation: Installation, sent: list[UUID]) -> None:
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, attempts="7")
    claimed(upload_id)
    expire_lease(installation, upload_id)

    upkeep.sweep()

    assert (row(upload_id).reason, sent) == ("worn_out", [])


def test_a_sweep_without_redis_still_takes_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> int:
        raise OSError("no Redis")

    upload_id = make_upload(installation)
    claimed(upload_id)
    expire_lease(installation, upload_id)
    monkeypatch.setattr("app.wake.queue.waiting", away)

    upkeep.sweep()

    assert row(upload_id).state == State.QUEUED


def test_what_could_not_be_sent_is_sent_by_the_next_sweep(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, sent: list[UUID]
) -> None:
    def away(*_: Any) -> None:
        raise OSError("no Redis")

    upload_id = make_upload(installation)
    with monkeypatch.context() as patched:
        patched.setattr("app.wake.queue.wake", away)
        upkeep.sweep()
    assert wake_ups() == 0

    upkeep.sweep()

    assert sent == [upload_id]
    assert wake_ups() == 1


def wake_ups() -> int:
    with session_scope() as session:
        return tallies.totals(session).get((tallies.WAKE_UPS, ""), 0)


def test_a_transfer_that_goes_on_has_its_own_queue(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[object, list[UUID]] = {}
    monkeypatch.setattr(
        "app.wake.queue.wake", lambda ids, to=queue.Queue.UPLOADS: told.setdefault(to, []).extend(ids)
    )
    fresh, going_on = make_upload(installation), make_upload(installation)
    set_columns(installation, going_on, drive_session='\'{"draft": "x"}\'')

    upkeep.sweep()

    assert told == {queue.Queue.RESUME: [going_on], queue.Queue.UPLOADS: [fresh]}


def test_a_wish_to_cancel_that_nobody_honoured_is_honoured_by_the_sweep(installation: Installation) -> None:
    upload_id = make_upload(installation)
    held = claimed(upload_id)
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)
    with session_scope() as session:
        uploads.give_back(session, held, "x", "x", uploads.RIVAL_DELAY)

    upkeep.sweep()

    assert row(upload_id).state == State.CANCELLED


@pytest.fixture
def tasks_are_bound(installation: Installation) -> None:
    """As in any worker. Of two threads that call a task for the first time, one may find it half bound.

    Celery reads its settings for that, and they the environment.
    """
    queue.celery.finalize()


@pytest.mark.usefixtures("tasks_are_bound")
def test_many_sweeps_at_once_wake_everything_once(installation: Installation, sent: list[UUID]) -> None:
    ids = [make_upload(installation) for _ in range(12)]

    with wide_pool():
        results = race([upkeep.sweep] * 4)

    assert results == [None] * 4
    assert sorted(sent) == sorted(ids)


# The clean-up


def test_a_cancelled_upload_leaves_nothing(installation: Installation) -> None:
    upload_id = make_upload(installation, b"x" * 25)
    drive = DriveDouble(installation)
    drive.chunk_bytes = 10
    told = iter([False, True])
    attempt_at(upload_id, make_means(installation, drive=drive, is_shutting_down=lambda: next(told)))
    assert drafts(installation) != []
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)

    upkeep.clean_up()

    assert (drafts(installation), files_in_staging(installation)) == ([], [])
    assert row(upload_id).cleanup_due_at is None


def placed_and_failed(installation: Installation, monkeypatch: pytest.MonkeyPatch, **to: Any) -> UUID:
    """An upload that came into the drive, never into the catalogue, and then failed for good."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    upload_id = make_upload(installation, b"placed", **to)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr("app.attempt._complete", die)
        attempt_at(upload_id, make_means(installation))
    make_due(installation, upload_id)
    fail(upload_id)
    return upload_id


def test_a_failed_upload_takes_back_what_it_placed_and_keeps_its_bytes(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = placed_and_failed(installation, monkeypatch)
    assert (installation.drive_dir / "7" / "a.txt").exists()

    upkeep.clean_up()

    assert not (installation.drive_dir / "7" / "a.txt").exists()
    assert drafts(installation) == []
    assert len(files_in_staging(installation)) == 1
    with session_scope() as session:
        steering.retry(session, CORP, upload_id)
    attempt_at(upload_id, make_means(installation))
    assert row(upload_id).state == State.STORED


def test_a_failed_replacement_brings_the_former_bytes_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt_at(make_upload(installation, b"former"), make_means(installation))
    placed_and_failed(installation, monkeypatch, on_conflict=OnConflict.REPLACE)
    assert (installation.drive_dir / "7" / "a.txt").read_bytes() == b"placed"

    upkeep.clean_up()

    assert (installation.drive_dir / "7" / "a.txt").read_bytes() == b"former"
    assert drafts(installation) == []


def test_a_clean_up_frees_the_name(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    placed_and_failed(installation, monkeypatch)
    other = make_upload(installation, b"other")
    attempt_at(other, make_means(installation))
    assert row(other).reason == "name_busy"

    upkeep.clean_up()
    make_due(installation, other)
    attempt_at(other, make_means(installation))

    assert row(other).state == State.STORED
    assert (installation.drive_dir / "7" / "a.txt").read_bytes() == b"other"


@pytest.mark.parametrize(("last_byte_places", "expected"), [(True, [({}, "a.txt")]), (False, [])])
def test_a_clean_up_looks_for_what_one_request_without_a_session_may_have_placed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, last_byte_places: bool, expected: list[Any]
) -> None:
    aborted: list[tuple[Any, str]] = []

    def abort(_real: Any, session: Any, placed: Any) -> None:
        aborted.append((session, placed.name))

    upload_id = placed_and_failed(installation, monkeypatch)
    installation.query("UPDATE corporate.uploads SET drive_session = NULL WHERE id = %s", upload_id)
    drive = DriveDouble(installation, abort=abort)
    drive.finish_brings_last = last_byte_places
    monkeypatch.setattr(upkeep, "means", lambda: make_means(installation, drive=drive))

    upkeep.clean_up()

    assert aborted == expected


def test_a_clean_up_of_what_no_drive_has_seen_needs_no_drive(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> Any:
        raise DriveUnknown("no settings for it")

    upload_id = make_upload(installation)
    staged_id = row(upload_id).staged_id
    assert staged_id is not None
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)
    chosen = make_means(installation)
    monkeypatch.setattr(chosen.drives, "named", unknown)
    monkeypatch.setattr(upkeep, "means", lambda: chosen)

    upkeep.clean_up()

    assert not staging_of(installation).path(staged_id).exists()


def test_an_upload_whose_bytes_were_damaged_leaves_no_draft_in_the_drive(installation: Installation) -> None:
    upload_id = make_upload(installation)
    staging_of(installation).path(row(upload_id).staged_id).write_bytes(b"CONTENT")  # type: ignore[arg-type]
    attempt_at(upload_id, make_means(installation))
    assert row(upload_id).reason == "staged_bytes_damaged"

    upkeep.clean_up()

    assert drafts(installation) == []


def test_a_stored_upload_that_was_not_tidied_up_is_tidied_up_later(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = make_upload(installation)
    with monkeypatch.context() as patched:
        patched.setattr("app.attempt._release", lambda *_: None)
        attempt_at(upload_id, make_means(installation))
    set_columns(installation, upload_id, cleanup_due_at="now() - interval '1 second'")

    upkeep.clean_up()

    assert (installation.drive_dir / "7" / "a.txt").read_bytes() == b"content"
    assert items(installation) == {"7/a.txt": "file"}
    assert (drafts(installation), files_in_staging(installation)) == ([], [])
    assert (row(upload_id).state, row(upload_id).staged_id) == (State.STORED, None)


def test_one_that_cannot_be_cleaned_now_does_not_hold_up_the_others(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [make_upload(installation) for _ in range(3)]
    for upload_id in ids:
        with session_scope() as session:
            steering.cancel(session, CORP, upload_id)
    real = upkeep._tidy

    def tidy(upload: Any) -> None:
        if upload.id == ids[0]:
            raise OSError("away")
        real(upload)

    monkeypatch.setattr("tasks.upkeep._tidy", tidy)

    upkeep.clean_up()

    assert [row(one).cleanup_due_at is None for one in ids] == [False, True, True]


def facts_of(caplog: pytest.LogCaptureFixture, says: str) -> str:
    (line,) = [one for one in caplog.text.splitlines() if says in one]
    return line


def test_a_line_about_a_clean_up_tells_what_it_is_about(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise OSError("away")

    caplog.handler.setFormatter(logs.Text(None))
    monkeypatch.setattr("tasks.upkeep._tidy", away)
    upload_id = make_upload(installation)
    set_columns(installation, upload_id, request_id="'r-1'")
    with session_scope() as session:
        steering.cancel(session, CORP, upload_id)

    upkeep.clean_up()

    assert f"[upload={upload_id} corporation=7 request=r-1]" in facts_of(caplog, "could not be removed yet")


def test_a_line_about_a_result_tells_what_it_is_about(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise OSError("away")

    caplog.handler.setFormatter(logs.Text(None))
    monkeypatch.setattr("app.results.queue.report", away)
    upload_id = make_upload(installation)
    fail(upload_id)
    set_columns(installation, upload_id, task_id="'t'")

    results.report(upload_id)

    assert f"[upload={upload_id} corporation=7]" in facts_of(caplog, "could not be stored for the sender")


def test_a_clean_up_while_the_drive_is_away_comes_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = placed_and_failed(installation, monkeypatch)
    installation.drive_dir.rename(installation.root / "away")
    installation.drive_dir.mkdir()
    upkeep.clean_up()
    installation.drive_dir.rmdir()
    (installation.root / "away").rename(installation.drive_dir)
    assert row(upload_id).drive_session is not None
    set_columns(installation, upload_id, cleanup_due_at="now() - interval '1 second'")

    upkeep.clean_up()

    assert (drafts(installation), row(upload_id).drive_session) == ([], None)


# The purge


def age(path: Path) -> None:
    os.utime(path, (1000, 1000))


def test_a_purge_removes_what_no_upload_knows_and_leaves_what_is_in_use(installation: Installation) -> None:
    staging = staging_of(installation)
    used, failed = make_upload(installation), make_upload(installation)
    fail(failed)
    unknown, young = make_staged(installation), make_staged(installation)
    with staging.draft() as draft:
        for one in (row(used).staged_id, row(failed).staged_id, unknown.id):
            age(staging.path(one))  # type: ignore[arg-type]
        age(draft._path)

        upkeep.purge()

        assert not draft._path.exists()
    assert [staging.path(one).exists() for one in (row(used).staged_id, row(failed).staged_id, unknown.id, young.id)] == [  # type: ignore[arg-type]
        True, True, False, True,
    ]  # fmt: skip


def test_bytes_of_what_failed_long_ago_are_let_go(installation: Installation) -> None:
    old, recent = make_upload(installation), make_upload(installation)
    for upload_id in (old, recent):
        fail(upload_id)
    upkeep.clean_up()
    set_columns(installation, old, finished_at="now() - interval '8 days'")

    upkeep.purge()

    assert (row(old).staged_id, row(recent).staged_id is None) == (None, False)
    assert len(files_in_staging(installation)) == 1


def test_after_the_purge_a_file_of_the_inbox_can_still_be_retried(installation: Installation) -> None:
    upload_id = make_inbox_upload(installation, "a.txt")

    def broken(*_: Any) -> Any:
        raise RuntimeError

    attempt_at(
        upload_id, make_means(installation, drive=DriveDouble(installation, put=broken), max_attempts=1)
    )
    upkeep.clean_up()
    set_columns(installation, upload_id, finished_at="now() - interval '8 days'")
    upkeep.purge()
    assert row(upload_id).staged_id is None
    (installation.inbox / "a.txt").write_bytes(b"other and longer content")

    with session_scope() as session:
        steering.retry(session, CORP, upload_id)
    attempt_at(upload_id, make_means(installation))

    assert row(upload_id).state == State.STORED
    assert (installation.drive_dir / "7" / "a.txt").read_bytes() == b"other and longer content"


@pytest.mark.usefixtures("tasks_are_bound")
def test_many_purges_at_once_hinder_nobody(installation: Installation) -> None:
    staging = staging_of(installation)
    for _ in range(20):
        age(staging.path(make_staged(installation).id))

    with wide_pool():
        results = race([upkeep.purge] * 4)

    assert results == [None] * 4
    assert files_in_staging(installation) == []


def test_transfers_that_wait_to_go_on_are_not_woken_again_and_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[UUID] = []
    monkeypatch.setattr(
        "app.wake.queue.waiting", lambda to=queue.Queue.UPLOADS: len(sent) * (to == queue.Queue.RESUME)
    )
    monkeypatch.setattr("app.wake.queue.wake", lambda ids, _to=None: sent.extend(ids))
    for _ in range(5):
        set_columns(installation, make_upload(installation), drive_session='\'{"draft": "x"}\'')

    for _ in range(4):
        upkeep.sweep()
        installation.query("UPDATE corporate.uploads SET woken_at = woken_at - interval '1 minute'")

    assert len(sent) == 5


def test_a_purge_touches_no_staging_but_its_own(installation: Installation) -> None:
    (installation.staging_dir / ".haulage-staging").write_text("00000000-0000-0000-0000-000000000000\n")
    upload_id = make_upload(installation)

    with pytest.raises(WrongStaging):
        upkeep.purge()

    assert row(upload_id).state == State.QUEUED
    assert len(files_in_staging(installation)) >= 1
