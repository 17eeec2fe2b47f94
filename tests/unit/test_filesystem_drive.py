import errno
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.drives.base import Delivery
from app.drives.filesystem import DRAFTS, FilesystemDrive
from app.errors import (
    DrivePathTooLong,
    DriveUnavailable,
    HaulageError,
    LostClaim,
    NameTaken,
    NotAFolder,
    NotVerified,
)
from app.models import Kind

OLD, NEW, THIRD = b"old bytes", b"new bytes!", b"third"


@pytest.fixture
def drive(tmp_path: Path) -> FilesystemDrive:
    made = FilesystemDrive(tmp_path)
    made.make_root(7)
    return made


def delivery(
    content: bytes = NEW, name: str = "a.txt", upload_id: UUID | None = None, **more: Any
) -> Delivery:
    digest = hashlib.sha256(content).hexdigest()
    return Delivery(upload_id or uuid4(), more.pop("parent_id", "7"), name, len(content), digest, "", **more)


def sent(drive: FilesystemDrive, to: Delivery, content: bytes) -> dict[str, Any]:
    session = drive.begin(to)[0]
    drive.put(session, 0, content)
    return drive.secure(session, len(content))


def stored(drive: FilesystemDrive, content: bytes, **more: Any) -> tuple[Delivery, dict[str, Any]]:
    """Bring a file into the drive, up to the point where its upload would be completed."""
    to = delivery(content, **more)
    session = sent(drive, to, content)
    drive.finish(to, session, b"", lambda: None)
    return to, session


def at(drive: FilesystemDrive, item_id: str = "7/a.txt") -> bytes | None:
    path = drive._root / item_id
    return path.read_bytes() if path.exists() else None


def leftovers(drive: FilesystemDrive) -> list[str]:
    return [path.name for path in (drive._root / DRAFTS).iterdir()]


# One way


def test_nothing_is_visible_until_it_is_finished(drive: FilesystemDrive) -> None:
    to = delivery()
    session = sent(drive, to, NEW)

    assert list(drive.children("7")) == []
    made = drive.finish(to, session, b"", lambda: None)

    assert (made.id, made.name, made.kind, made.size) == ("7/a.txt", "a.txt", Kind.FILE, len(NEW))
    assert b"".join(drive.read("7/a.txt")) == NEW
    assert [child.id for child in drive.children("7")] == ["7/a.txt"]


def test_release_leaves_the_file_and_nothing_else(drive: FilesystemDrive) -> None:
    _, session = stored(drive, NEW)

    drive.release(session)
    drive.release(session)

    assert at(drive) == NEW
    assert leftovers(drive) == []


def test_a_session_goes_on_in_another_process(drive: FilesystemDrive) -> None:
    to = delivery()
    session = drive.begin(to)[0]
    drive.put(session, 0, NEW[:4])
    session = drive.secure(session, 4)

    other = FilesystemDrive(drive._root)
    assert other.held(session, delivery()) == 4
    other.put(session, 4, NEW[4:])
    other.finish(to, session, b"", lambda: None)

    assert at(drive) == NEW


def test_only_secured_bytes_count_as_held(drive: FilesystemDrive) -> None:
    session = drive.begin(delivery())[0]

    drive.put(session, 0, NEW)

    assert drive.held(session, delivery()) == 0
    assert drive.held(drive.secure(session, 4), delivery()) == 4


def test_a_draft_that_lost_bytes_holds_none(drive: FilesystemDrive) -> None:
    session = sent(drive, delivery(), NEW)
    os.truncate(drive._draft(session), 3)

    assert drive.held(session, delivery()) == 0


def test_a_draft_that_is_gone_is_a_session_that_is_gone(drive: FilesystemDrive) -> None:
    session = sent(drive, delivery(), NEW)
    drive._draft(session).unlink()

    assert drive.held(session, delivery()) is None


def test_an_earlier_session_of_the_same_upload_cannot_touch_a_later_one(drive: FilesystemDrive) -> None:
    to = delivery()
    earlier = sent(drive, to, NEW)
    later = sent(drive, to, NEW)
    drive.finish(to, later, b"", lambda: None)

    drive.abort(earlier, to)

    assert at(drive) == NEW


def test_a_clean_up_copes_with_a_path_that_was_too_long(drive: FilesystemDrive) -> None:
    session = sent(drive, delivery(), NEW)

    drive.abort(session, delivery(parent_id="/".join(["7", *["x" * 100] * 10])))

    assert drive.held(session, delivery()) is None


def test_an_id_belongs_to_its_corporation(drive: FilesystemDrive) -> None:
    assert drive.owns(7, "7/a/b.txt")
    for foreign in (
        "8/a",
        "8",
        "70/a",
        "",
        "7/../8/a",
        "7//a",
        "7/a\0",
        ".haulage/drafts/x",
        "7/" + "x" * 1000,
    ):
        assert not drive.owns(7, foreign), foreign


def test_a_short_write_is_gone_on_with(drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(
        "app.drives.filesystem.os.pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset)
    )
    to = delivery()
    session = drive.begin(to)[0]

    assert drive.put(session, 0, NEW) == len(NEW)
    drive.finish(to, session, b"", lambda: None)

    assert at(drive) == NEW


def test_an_empty_file_can_be_stored(drive: FilesystemDrive) -> None:
    stored(drive, b"")

    assert at(drive) == b""


@pytest.mark.parametrize("content", [NEW[:-1], NEW + b"!", NEW[::-1], b""])
def test_other_bytes_are_not_verified_and_not_shown(drive: FilesystemDrive, content: bytes) -> None:
    to = delivery(NEW)
    session = sent(drive, to, content)

    with pytest.raises(NotVerified):
        drive.finish(to, session, b"", lambda: None)

    assert at(drive) is None


def test_finishing_twice_is_finishing_once(drive: FilesystemDrive) -> None:
    to, session = stored(drive, NEW)

    assert drive.held(session, delivery()) == len(NEW)
    again = drive.finish(to, session, b"", lambda: None)
    drive.release(session)

    assert again.id == "7/a.txt"
    assert at(drive) == NEW
    assert leftovers(drive) == []


def test_a_lost_claim_is_noticed_right_before_the_file_would_be_seen(drive: FilesystemDrive) -> None:
    def lost() -> None:
        assert at(drive) is None
        raise LostClaim("gone")

    to = delivery()
    session = sent(drive, to, NEW)

    with pytest.raises(LostClaim):
        drive.finish(to, session, b"", lost)

    assert at(drive) is None


# A place that is taken


def test_another_file_is_not_replaced_unasked(drive: FilesystemDrive) -> None:
    stored(drive, OLD)

    with pytest.raises(NameTaken):
        stored(drive, NEW)

    assert at(drive) == OLD


@pytest.mark.parametrize("what", ["folder", "dangling link", "fifo"])
@pytest.mark.parametrize("replace", [True, False])
def test_what_is_no_file_is_never_replaced(drive: FilesystemDrive, what: str, replace: bool) -> None:
    path = drive._root / "7" / "a.txt"
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    before = path.lstat().st_ino

    with pytest.raises(NameTaken):
        stored(drive, NEW, replace=replace)

    assert path.lstat().st_ino == before


def test_the_same_bytes_at_the_same_place_are_a_success(drive: FilesystemDrive) -> None:
    stored(drive, NEW)

    stored(drive, NEW)

    assert at(drive) == NEW


def test_replacing_keeps_the_former_bytes_until_the_release(drive: FilesystemDrive) -> None:
    _, first = stored(drive, OLD)
    drive.release(first)
    to, session = stored(drive, NEW, replace=True)

    drive.abort(session, to)

    assert at(drive) == OLD
    assert leftovers(drive) == []


def test_after_the_release_nothing_comes_back(drive: FilesystemDrive) -> None:
    stored(drive, OLD)
    to, session = stored(drive, NEW, replace=True)
    drive.release(session)

    drive.abort(session, to)

    assert at(drive) == NEW


@pytest.mark.parametrize("rivals", [2, 8])
def test_of_rivals_for_one_place_exactly_one_gets_it(drive: FilesystemDrive, rivals: int) -> None:
    start = threading.Barrier(rivals)
    won: list[bytes] = []

    def try_it(content: bytes) -> None:
        to = delivery(content)
        session = sent(drive, to, content)
        start.wait()
        with suppress(NameTaken):
            drive.finish(to, session, b"", lambda: None)
            won.append(content)

    threads = [threading.Thread(target=try_it, args=(bytes([number]) * 5,)) for number in range(rivals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [at(drive)] == won


# Abort


def test_abort_removes_what_it_placed(drive: FilesystemDrive) -> None:
    to, session = stored(drive, NEW)

    drive.abort(session, to)
    drive.abort(session, to)

    assert at(drive) is None
    assert leftovers(drive) == []


def test_abort_leaves_what_somebody_else_placed(drive: FilesystemDrive) -> None:
    to = delivery(NEW)
    session = sent(drive, to, NEW)
    stored(drive, OLD)

    drive.abort(session, to)

    assert at(drive) == OLD


def test_abort_leaves_the_same_bytes_that_somebody_else_placed(drive: FilesystemDrive) -> None:
    to = delivery(NEW)
    session = sent(drive, to, NEW)
    stored(drive, NEW)

    drive.abort(session, to)

    assert at(drive) == NEW


def test_abort_leaves_what_replaced_ours_meanwhile(drive: FilesystemDrive) -> None:
    to, session = stored(drive, OLD)
    stored(drive, NEW, replace=True)

    drive.abort(session, to)

    assert at(drive) == NEW


def test_abort_without_a_place_removes_the_session_alone(drive: FilesystemDrive) -> None:
    _, session = stored(drive, NEW)

    drive.abort(session, None)

    assert at(drive) == NEW
    assert leftovers(drive) == []


# An earlier attempt wakes up: it may stop before each of its steps for as long as it likes.

DOORS = ("link", "replace", "rename", "unlink", "fsync")


class Pause:
    """Runs what happens meanwhile right before the numbered step of an attempt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, meanwhile: Callable[[], None]) -> None:
        self.count, self.number, self.meanwhile, self.active = 0, number, meanwhile, False
        for name in DOORS:
            monkeypatch.setattr(os, name, self._door(getattr(os, name)))

    def _door(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def door(*arguments: Any, **options: Any) -> Any:
            self.step()
            return real(*arguments, **options)

        return door

    def step(self) -> None:
        if not self.active:
            return
        self.count += 1
        if self.count == self.number:
            self.active = False
            self.meanwhile()
            self.active = True


def wake_up_late(
    drive: FilesystemDrive,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    replace: bool,
    meanwhile: Callable[..., None],
) -> bool:
    """Let one attempt pause before its step `number`; return False if it has no such step."""
    to = delivery(NEW, replace=replace)
    session = sent(drive, to, NEW)
    with monkeypatch.context() as patched:
        pause = Pause(patched, number, lambda: meanwhile(to, session))
        pause.active = True
        # What it comes to is refused by its token; here only what it does to the drive counts.
        with suppress(HaulageError, OSError):
            drive.finish(to, session, b"", pause.step)
        pause.active = False
    return pause.count >= number


def finish_again(drive: FilesystemDrive, to: Delivery, session: dict[str, Any]) -> None:
    offset = drive.held(session, delivery())
    if offset < to.size:
        drive.put(session, offset, NEW[offset:])
    drive.finish(to, session, b"", lambda: None)


def outlive(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, *, replace: bool, meanwhile: Callable[..., None]
) -> list[bytes | None]:
    """Pause an attempt before each of its steps in turn; return what its place held in the end, each time."""
    seen = []
    for number in range(1, 100):
        (drive._root / "7" / "a.txt").unlink(missing_ok=True)
        if replace:
            _, session = stored(drive, OLD)
            drive.release(session)
        if not wake_up_late(drive, monkeypatch, number, replace, meanwhile):
            return seen
        seen.append(at(drive))
    raise AssertionError("an attempt without an end")


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("released", [True, False])
def test_a_late_attempt_overwrites_nothing_after_another_one_has_finished(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, replace: bool, released: bool
) -> None:
    def meanwhile(to: Delivery, session: dict[str, Any]) -> None:
        finish_again(drive, to, session)  # completed from here on
        if released:
            drive.release(session)
        _, other = stored(drive, THIRD, replace=True)
        drive.release(other)

    seen = outlive(drive, monkeypatch, replace=replace, meanwhile=meanwhile)

    assert len(seen) > 2
    assert set(seen) == {THIRD}


@pytest.mark.parametrize("replace", [True, False])
def test_a_late_attempt_places_nothing_after_its_upload_was_cleaned_up(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    seen = outlive(
        drive, monkeypatch, replace=replace, meanwhile=lambda to, session: drive.abort(session, to)
    )

    assert len(seen) > 2
    assert set(seen) == {OLD if replace else None}


@pytest.mark.parametrize("replace", [True, False])
def test_a_late_attempt_overwrites_nothing_after_its_upload_was_cleaned_up(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    def meanwhile(to: Delivery, session: dict[str, Any]) -> None:
        drive.abort(session, to)
        _, other = stored(drive, THIRD, replace=True)
        drive.release(other)

    seen = outlive(drive, monkeypatch, replace=replace, meanwhile=meanwhile)

    assert set(seen) == {THIRD}


def test_control_a_drive_that_renames_into_place_is_caught_by_these_tests(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def naive(self: FilesystemDrive, to: Delivery, draft: Path, path: Path) -> None:
        copy = draft.with_suffix(".placing")
        copy.write_bytes(draft.read_bytes())
        os.replace(copy, path)  # noqa: PTH105

    def meanwhile(to: Delivery, session: dict[str, Any]) -> None:
        finish_again(drive, to, session)
        _, other = stored(drive, THIRD, replace=True)
        drive.release(other)

    monkeypatch.setattr(FilesystemDrive, "_place", naive)

    assert set(outlive(drive, monkeypatch, replace=False, meanwhile=meanwhile)) != {THIRD}


@pytest.mark.parametrize("replace", [True, False])
def test_an_attempt_that_dies_at_any_step_is_gone_on_with(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    for number in range(1, 100):
        (drive._root / "7" / "a.txt").unlink(missing_ok=True)
        if replace:
            drive.release(stored(drive, OLD)[1])
        to = delivery(NEW, replace=replace)
        session = sent(drive, to, NEW)
        with monkeypatch.context() as patched:
            pause = Pause(patched, number, die)
            pause.active = True
            with suppress(Died):
                drive.finish(to, session, b"", pause.step)
        if pause.count < number:
            return

        finish_again(drive, to, session)
        drive.release(session)

        assert at(drive) == NEW
        assert leftovers(drive) == []
    raise AssertionError("an attempt without an end")


@pytest.mark.parametrize("replace", [True, False])
def test_an_abort_that_dies_at_any_step_is_gone_on_with(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    for number in range(1, 100):
        (drive._root / "7" / "a.txt").unlink(missing_ok=True)
        if replace:
            drive.release(stored(drive, OLD)[1])
        to, session = stored(drive, NEW, replace=replace)
        with monkeypatch.context() as patched:
            pause = Pause(patched, number, die)
            pause.active = True
            with suppress(Died):
                drive.abort(session, to)
        if pause.count < number:
            return

        drive.abort(session, to)

        assert at(drive) == (OLD if replace else None)
        assert leftovers(drive) == []
    raise AssertionError("an abort without an end")


def test_a_late_writer_leaves_no_draft_behind(drive: FilesystemDrive) -> None:
    to = delivery()
    session = drive.begin(to)[0]
    drive.put(session, 0, NEW[:4])
    drive.abort(session, to)

    with suppress(HaulageError, OSError):
        drive.put(session, 4, NEW[4:])

    assert leftovers(drive) == []


# Folders


def test_a_folder_is_made_once_by_sixteen_threads(drive: FilesystemDrive) -> None:
    start = threading.Barrier(16)
    made: list[object] = []

    def make() -> None:
        start.wait()
        try:
            made.append(drive.make_folder("7", "docs").id)
        except Exception as error:  # noqa: BLE001
            made.append(error)

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == ["7/docs"] * 16
    assert [(one.id, one.kind) for one in drive.children("7")] == [("7/docs", Kind.FOLDER)]


def test_a_file_in_a_folders_place_is_told(drive: FilesystemDrive) -> None:
    stored(drive, OLD, name="docs")

    with pytest.raises(NotAFolder):
        drive.make_folder("7", "docs")


# Trouble


@pytest.mark.parametrize("step", ["make_folder", "begin", "put", "secure", "held", "finish", "abort"])
def test_a_drive_that_is_not_mounted_is_tried_again_later(
    drive: FilesystemDrive, tmp_path: Path, step: str
) -> None:
    to = delivery()
    session = sent(drive, to, NEW)
    away = FilesystemDrive(tmp_path / "empty mount point")
    (tmp_path / "empty mount point").mkdir()
    steps: dict[str, Callable[[], object]] = {
        "make_folder": lambda: away.make_folder("7", "x"),
        "begin": lambda: away.begin(to),
        "put": lambda: away.put(session, 0, NEW),
        "secure": lambda: away.secure(session, 3),
        "held": lambda: away.held(session, delivery()),
        "finish": lambda: away.finish(to, session, b"", lambda: None),
        "abort": lambda: away.abort(session, to),
    }

    with pytest.raises(DriveUnavailable, match="mounted") as caught:
        steps[step]()

    assert caught.value.delay.total_seconds() > 0
    assert list((tmp_path / "empty mount point").iterdir()) == []


def test_a_root_is_not_made_where_no_drive_is(tmp_path: Path) -> None:
    with pytest.raises(DriveUnavailable):
        FilesystemDrive(tmp_path / "nowhere").make_root(7)

    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("door", ["pwrite", "fsync", "link", "mkdir"])
def test_a_drive_that_takes_nothing_now_is_tried_again_later(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch, door: str, number: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, door, full)

    with pytest.raises(DriveUnavailable) as caught:  # noqa: PT012
        if door == "mkdir":
            drive.make_folder("7", "docs")
        stored(drive, NEW)

    assert caught.value.delay.total_seconds() > 0
    assert at(drive) is None


def test_another_error_counts_as_a_failed_attempt(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EACCES, "not allowed")

    session = drive.begin(delivery())[0]
    monkeypatch.setattr(os, "pwrite", broken)

    with pytest.raises(OSError, match="not allowed"):
        drive.put(session, 0, NEW)


# Names and paths


@pytest.mark.parametrize(
    "name", ["x" * 255, "\u00e9" * 127, " ", "...", "-rf", "\n", "a\\b", "\u202e"], ids=ascii
)
def test_a_name_is_kept_as_it_is(drive: FilesystemDrive, name: str) -> None:
    stored(drive, NEW, name=name)

    assert [one.name for one in drive.children("7")] == [name]


def test_a_path_that_is_too_long_is_refused_for_good(drive: FilesystemDrive) -> None:
    parent = "7"
    for _ in range(3):
        parent = drive.make_folder(parent, "x" * 250).id

    drive.make_folder(parent, "y" * 240)
    with pytest.raises(DrivePathTooLong):
        drive.make_folder(parent, "y" * 250)
    with pytest.raises(DrivePathTooLong):
        stored(drive, NEW, parent_id=parent, name="y" * 250)


def test_a_path_that_is_too_long_is_told_before_the_bytes_are_sent(drive: FilesystemDrive) -> None:
    with pytest.raises(DrivePathTooLong):
        drive.begin(delivery(parent_id="7/" + "x" * 900, name="y" * 250))[0]


def test_a_name_is_shortened_where_the_file_system_allows_less(
    drive: FilesystemDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drives.filesystem.os.pathconf", lambda *_: 143)
    one, other = "\u00e9" * 100 + "1.pdf", "\u00e9" * 100 + "2.pdf"

    stored(drive, OLD, name=one)
    stored(drive, NEW, name=other)

    there = [child.name for child in drive.children("7")]
    assert len(set(there)) == 2
    assert all(len(name.encode()) <= 143 and name.endswith(".pdf") for name in there)


@pytest.mark.parametrize(
    "item_id", ["../outside", "7/../../outside", "/etc/passwd", "7//a", "", ".haulage/drafts/x", "7/."]
)
def test_an_id_cannot_lead_out_of_the_drive(drive: FilesystemDrive, item_id: str) -> None:
    with pytest.raises(FileNotFoundError):
        list(drive.read(item_id))


def test_a_file_that_is_not_there_is_told(drive: FilesystemDrive) -> None:
    with pytest.raises(FileNotFoundError):
        list(drive.read("7/nothing"))
