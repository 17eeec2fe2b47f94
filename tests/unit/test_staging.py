import errno
import hashlib
import os
import threading
import time
from io import BufferedWriter
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app import staging as room
from app.errors import SourceMissing, StagingFull, TooLarge, WrongStaging
from app.staging import IDENTITY_FILE, Staging


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    made = Staging(tmp_path / "staging", 1000, 0)
    made.prepare()
    return made


def files(staging: Staging) -> list[Path]:
    return [path for path in staging.root.rglob("*") if path.is_file() and path.name != IDENTITY_FILE]


def test_kept_bytes_are_hashed_and_come_back(staging: Staging) -> None:
    staged = staging.put([b"one", b"", b"two"])

    assert (staged.size, staged.sha256) == (6, hashlib.sha256(b"onetwo").hexdigest())
    with staging.open(staged.id) as file:
        assert file.read() == b"onetwo"
    assert files(staging) == [staging.path(staged.id)]


def test_an_empty_file_is_a_file(staging: Staging) -> None:
    staged = staging.put([])

    assert staged.size == 0
    with staging.open(staged.id) as file:
        assert file.read() == b""


def test_bytes_and_both_their_names_are_flushed_before_they_count_as_kept(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(
            f"flush {path.relative_to(staging.root).parts[0]} {len(path.relative_to(staging.root).parts)}"
        )
        fsync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr("app.staging.os.fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)

    staging.put([b"x"])

    assert steps == ["flush drafts 2", "rename", "flush kept 2"]


def test_what_is_not_kept_leaves_nothing_behind(staging: Staging) -> None:
    with staging.draft() as draft:
        draft.write(b"x" * 500)

    assert files(staging) == []


def test_a_sender_that_breaks_off_leaves_nothing_behind(staging: Staging) -> None:
    def broken() -> object:
        yield b"x"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        staging.put(broken())  # type: ignore[arg-type]

    assert files(staging) == []


def test_a_file_may_have_as_many_bytes_as_allowed_and_no_more(staging: Staging) -> None:
    assert staging.put([b"x" * 1000]).size == 1000

    with pytest.raises(TooLarge):
        staging.put([b"x" * 1000, b"x"])

    assert len(files(staging)) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_full_disk_is_told_by_name_and_nothing_is_left_behind(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    class FullFile(BufferedWriter):
        write = full  # type: ignore[assignment]

    with pytest.raises(StagingFull) as caught, staging.draft() as draft:  # noqa: PT012
        if step == "write":
            draft._file.close()
            draft._file = FullFile(open(draft._path, "wb", buffering=0))  # noqa: PTH123, SIM115
        elif step == "fsync":
            monkeypatch.setattr("app.staging.os.fsync", full)
        else:
            monkeypatch.setattr(Path, step, full)
        draft.write(b"x")
        draft.keep()

    assert caught.value.delay.total_seconds() > 0
    assert files(staging) == []


def test_a_real_limit_on_a_files_size_leaves_nothing_behind(tmp_path: Path) -> None:
    full = Path("/dev/full")
    staging = Staging(tmp_path, 10**6, 0)
    staging.prepare()

    with pytest.raises(StagingFull), staging.draft() as draft:  # noqa: PT012
        draft._file.close()
        draft._file = full.open("wb")
        draft.write(b"x" * 500_000)
        draft.keep()

    assert files(staging) == []


def test_another_error_of_the_disk_is_not_taken_for_a_full_one(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with pytest.raises(OSError, match="I/O error"), staging.draft() as draft:  # noqa: PT012
        monkeypatch.setattr("app.staging.os.fsync", broken)
        draft.keep()

    assert files(staging) == []


def test_what_cannot_fit_is_refused_early(staging: Staging) -> None:
    with pytest.raises(TooLarge):
        staging.make_room(1001)

    with pytest.raises(StagingFull):
        Staging(staging.root, 1000, 2**60).make_room(1)

    staging.make_room(1000)


def test_missing_bytes_blame_the_mount(staging: Staging, caplog: pytest.LogCaptureFixture) -> None:
    missing = uuid4()

    with pytest.raises(SourceMissing, match="mounted") as caught:
        staging.open(missing)

    assert str(missing) in caplog.text
    assert str(staging.root) in caplog.text
    assert str(staging.root) not in str(caught.value), "a sender may see the message"


def test_removing_twice_is_removing_once(staging: Staging) -> None:
    staged = staging.put([b"x"])

    staging.remove(staged.id)
    staging.remove(staged.id)

    assert files(staging) == []


def test_a_client_never_names_a_file_in_staging(staging: Staging) -> None:
    staged = staging.put([b"x"])

    assert UUID(staging.path(staged.id).name) == staged.id


# Its identity


def test_a_staging_keeps_its_identity(staging: Staging) -> None:
    assert staging.prepare() == staging.identity() == Staging(staging.root, 1, 0).prepare()


def test_an_empty_directory_has_none(tmp_path: Path) -> None:
    assert Staging(tmp_path, 1, 0).identity() is None
    assert Staging(tmp_path / "missing", 1, 0).identity() is None


@pytest.mark.parametrize("content", ["", "rubbish", "\0"])
def test_an_identity_that_cannot_be_read_is_told_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / IDENTITY_FILE).write_text(content)

    with pytest.raises(WrongStaging, match=IDENTITY_FILE):
        Staging(tmp_path, 1, 0).identity()


def test_two_that_prepare_at_once_agree_on_one_identity(tmp_path: Path) -> None:
    found: list[object] = []
    start = threading.Barrier(8)

    def prepare() -> None:
        start.wait()
        try:
            found.append(Staging(tmp_path / "staging", 1, 0).prepare())
        except Exception as error:  # noqa: BLE001
            found.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(found) == {Staging(tmp_path / "staging", 1, 0).identity()}


def test_a_staging_whose_making_was_interrupted_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("app.staging.os.fsync", cut)
        with pytest.raises(KeyboardInterrupt):
            Staging(tmp_path, 1, 0).prepare()

    assert Staging(tmp_path, 1, 0).identity() is None
    assert Staging(tmp_path, 1, 0).prepare() == Staging(tmp_path, 1, 0).identity()


# What is left over


def test_only_what_is_old_is_listed(staging: Staging) -> None:
    old, new = staging.put([b"old"]), staging.put([b"new"])
    with staging.draft() as draft:
        for path in (staging.path(old.id), draft._path):
            os.utime(path, (1000, 1000))

        listed = list(staging.older_than(time.time() - 3600))

        assert listed == [old.id, draft._path]
    assert new.id not in listed


def test_a_strangers_file_does_not_stop_the_listing(staging: Staging) -> None:
    old = staging.put([b"old"])
    stranger = staging.path(old.id).with_name(".nfs000000000001")
    stranger.write_bytes(b"")
    for path in (staging.path(old.id), stranger):
        os.utime(path, (1000, 1000))

    assert list(staging.older_than(2000)) == [old.id]


def test_a_file_that_vanishes_meanwhile_does_not_stop_the_listing(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, staying = staging.put([b"going"]), staging.put([b"staying"])
    for one in (going, staying):
        os.utime(staging.path(one.id), (1000, 1000))
    stat = Path.stat

    def stat_after_removal(self: Path, **options: bool) -> os.stat_result:
        if self == staging.path(going.id):
            staging.remove(going.id)
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", stat_after_removal)

    assert list(staging.older_than(2000)) == [staying.id]


def test_the_identity_is_never_listed(staging: Staging) -> None:
    os.utime(staging.root / IDENTITY_FILE, (1, 1))

    assert list(staging.older_than(time.time())) == []


def test_the_room_waits_a_while_before_it_asks_a_full_disk_again() -> None:
    assert room._WAIT.total_seconds() >= 1
