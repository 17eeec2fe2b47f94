from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from app import intake, tallies
from app.database import session_scope
from app.errors import BadName, CorporationUnknown, KeyReused, NotFound, PathTooLong
from app.models import State
from tests.factories import ROOT, make_staged, race, row, staging_of, wide_pool
from tests.installation import CORP, Installation


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    told: list[UUID] = []
    monkeypatch.setattr("app.wake.queue.waiting", lambda: 0)
    monkeypatch.setattr("app.wake.queue.wake", lambda ids, _queue=None: told.extend(ids))
    return told


def files(installation: Installation) -> list[Path]:
    return [path for path in installation.staging_dir.rglob("*/*") if path.is_file()]


def receive(installation: Installation, content: bytes = b"content", window: int = 10) -> UUID:
    to = intake.destination(CORP, "a.txt", folder="docs")
    return intake.receive(staging_of(installation), to, [content], window).id


def wake_ups() -> int:
    with session_scope() as session:
        return tallies.totals(session).get((tallies.WAKE_UPS, ""), 0)


def test_a_received_file_is_safe_and_told_of(installation: Installation, sent: list[UUID]) -> None:
    upload_id = receive(installation)

    after = row(upload_id)
    assert (after.state, after.size, after.folder, after.parent_id) == (State.QUEUED, 7, ["docs"], ROOT)
    assert [path.read_bytes() for path in files(installation)] == [b"content"]
    assert sent == [upload_id]
    assert after.woken_at is not None
    assert wake_ups() == 1


def test_the_bytes_are_kept_before_the_row_is_and_the_row_before_anybody_is_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    register = intake.uploads.register

    def look(*arguments: Any) -> Any:
        seen.append(len(files(installation)))
        return register(*arguments)

    monkeypatch.setattr("app.intake.uploads.register", look)
    monkeypatch.setattr(
        "app.wake.queue.wake",
        lambda _ids, _queue=None: seen.append(installation.query("SELECT count(*) FROM corporate.uploads")),
    )

    receive(installation)

    assert seen == [1, [(1,)]]


def test_a_queue_that_is_full_is_told_nothing(
    installation: Installation, sent: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.wake.queue.waiting", lambda: 10)

    upload_id = receive(installation)

    assert (sent, row(upload_id).woken_at) == ([], None)


@pytest.mark.parametrize("step", ["waiting", "wake"])
def test_without_redis_a_file_is_received_all_the_same(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def away(*_: Any) -> None:
        raise OSError("no Redis")

    monkeypatch.setattr(f"app.wake.queue.{step}", away)

    assert row(receive(installation)).woken_at is None
    assert wake_ups() == 0


def test_a_wake_up_that_cannot_be_counted_was_sent_all_the_same(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, sent: list[UUID]
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("INSERT", None, Exception("gone"))

    monkeypatch.setattr("app.wake.tallies.add_wake_ups", away)

    upload_id = receive(installation)

    assert sent == [upload_id]
    assert row(upload_id).woken_at is not None


def test_without_postgresql_after_the_commit_a_file_is_received_all_the_same(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("UPDATE", None, Exception("gone"))

    monkeypatch.setattr("app.wake.overdue.mark_woken", away)

    assert row(receive(installation)).state == State.QUEUED


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"name": ".."}, BadName),
        ({"name": "a/b"}, BadName),
        ({"folder": "../8"}, BadName),
        ({"folder": "/".join(["x" * 200] * 5)}, PathTooLong),
        ({"parent_id": "nowhere"}, NotFound),
        ({"corp_index": 8}, CorporationUnknown),
        ({"corp_index": 8, "parent_id": ROOT}, NotFound),
    ],
    ids=str,
)
def test_a_place_that_cannot_be_is_refused_before_a_byte_is_taken(
    installation: Installation, wish: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        intake.destination(**{"corp_index": CORP, "name": "a.txt"} | wish)

    assert files(installation) == []


def test_a_repeated_request_leaves_one_upload_and_one_file(installation: Installation) -> None:
    to = intake.destination(CORP, "a.txt")
    staging = staging_of(installation)

    ids = {intake.accept(staging, to, make_staged(installation), "k").id for _ in range(3)}

    assert (len(ids), len(files(installation))) == (1, 1)


def test_repeated_requests_at_once_leave_one_upload_and_its_own_file(installation: Installation) -> None:
    to = intake.destination(CORP, "a.txt")
    staging = staging_of(installation)

    with wide_pool():
        accepted = race([lambda: intake.accept(staging, to, make_staged(installation), "k")] * 8)

    (upload_id,) = {one.id for one in accepted}
    assert [path.name for path in files(installation)] == [row(upload_id).staged_id.hex]  # type: ignore[union-attr]


def test_a_key_that_came_with_another_file_leaves_nothing(installation: Installation) -> None:
    to = intake.destination(CORP, "a.txt")
    staging = staging_of(installation)
    intake.accept(staging, to, make_staged(installation), "k")

    with pytest.raises(KeyReused):
        intake.accept(staging, to, make_staged(installation, b"other"), "k")

    assert len(files(installation)) == 1


def test_a_commit_whose_answer_was_lost_keeps_its_bytes(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.database import Session

    commit = Session.commit

    def lost(self: Session) -> None:
        commit(self)
        raise OperationalError("COMMIT", None, Exception("the answer was lost"))

    to = intake.destination(CORP, "a.txt")
    with monkeypatch.context() as patched, pytest.raises(OperationalError):  # noqa: PT012
        patched.setattr("app.database.Session.commit", lost)
        intake.accept(staging_of(installation), to, make_staged(installation))

    assert installation.query("SELECT count(*) FROM corporate.uploads") == [(1,)]
    assert len(files(installation)) == 1


def test_a_sender_that_breaks_off_leaves_nothing(installation: Installation) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        intake.receive(staging_of(installation), intake.destination(CORP, "a.txt"), broken(), 10)

    assert files(installation) == []
    assert installation.query("SELECT count(*) FROM corporate.uploads") == [(0,)]
