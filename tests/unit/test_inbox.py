import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import BadName, InboxFileMissing, InboxFileRefused, InboxUnavailable, SourceChanged
from app.inbox import Inbox

CORP = 7


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / str(CORP)).mkdir(parents=True)
    (tmp_path / "inbox" / "8").mkdir()
    (tmp_path / "inbox" / "8" / "theirs.txt").write_bytes(b"theirs")
    (tmp_path / "outside.txt").write_bytes(b"outside")
    return tmp_path / "inbox"


@pytest.fixture
def mine(root: Path) -> Path:
    return root / str(CORP)


def read(root: Path, path: str) -> bytes:
    return b"".join(Inbox(root).read(CORP, path))


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("path", ["a.txt", "deep/er/a.txt", "-", " ", "\u00e9.txt"])
def test_a_file_is_read(root: Path, mine: Path, path: str) -> None:
    (mine / path).parent.mkdir(parents=True, exist_ok=True)
    (mine / path).write_bytes(b"x" * 3_000_000)

    assert read(root, path) == b"x" * 3_000_000


@pytest.mark.parametrize(
    "path", ["../8/theirs.txt", "..", "a/../../8/theirs.txt", "./a", "../../outside.txt", "a\0b"]
)
def test_a_path_cannot_lead_out(root: Path, path: str) -> None:
    with pytest.raises(BadName):
        read(root, path)


def test_an_absolute_path_is_one_below_the_inbox(root: Path, mine: Path) -> None:
    with pytest.raises(InboxFileMissing):
        read(root, "/etc/passwd")

    (mine / "etc").mkdir()
    (mine / "etc" / "passwd").write_bytes(b"ours")
    assert read(root, "/etc/passwd") == b"ours"


@pytest.mark.parametrize(
    "target", ["../8/theirs.txt", "../../outside.txt", "/etc/passwd", "nowhere", "itself"]
)
def test_a_link_is_refused(root: Path, mine: Path, target: str) -> None:
    (mine / "itself").symlink_to(target)

    with pytest.raises(InboxFileRefused):
        read(root, "itself")


@pytest.mark.parametrize("at", ["link/theirs.txt", "folder/link/theirs.txt"])
def test_a_path_through_a_link_is_refused(root: Path, mine: Path, at: str) -> None:
    link = mine / Path(at).parent
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(root / "8")

    with pytest.raises(InboxFileRefused):
        read(root, at)


def test_a_link_in_the_place_of_the_corporations_own_directory_is_refused(root: Path, mine: Path) -> None:
    mine.rmdir()
    mine.symlink_to("8")

    with pytest.raises(InboxFileRefused):
        read(root, "theirs.txt")


def test_a_link_that_takes_a_folders_place_while_the_path_is_walked_leads_nowhere(
    root: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine / "folder").mkdir()
    (mine / "folder" / "theirs.txt").write_bytes(b"ours")
    real = os.open

    def swapped(path: object, flags: int, **options: int) -> int:
        if path == "folder":
            (mine / "folder").rename(mine / "moved")
            (mine / "folder").symlink_to(root / "8")
        return real(path, flags, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("app.inbox.os.open", swapped)

    with pytest.raises(InboxFileRefused):
        read(root, "folder/theirs.txt")


def test_a_fifo_is_refused_without_waiting(root: Path, mine: Path) -> None:
    os.mkfifo(mine / "fifo")

    with pytest.raises(InboxFileRefused):
        read(root, "fifo")


def test_a_socket_is_refused(root: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")

        with pytest.raises(InboxFileRefused):
            read(root, "socket")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused(root: Path, mine: Path) -> None:
    try:
        os.mknod(mine / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets nobody make a device")

    with pytest.raises(InboxFileRefused):
        read(root, "null")


@pytest.mark.parametrize("path", ["folder", "", "/"])
def test_a_directory_is_refused(root: Path, mine: Path, path: str) -> None:
    (mine / "folder").mkdir()

    with pytest.raises(InboxFileRefused, match="not a regular file"):
        read(root, path)


def test_a_file_in_a_folders_place_is_refused(root: Path, mine: Path) -> None:
    (mine / "a").write_bytes(b"x")

    with pytest.raises(InboxFileRefused):
        read(root, "a/b")


@pytest.mark.parametrize("path", ["a.txt", "folder/a.txt"])
def test_a_missing_file_is_missing_for_good(root: Path, path: str) -> None:
    with pytest.raises(InboxFileMissing):
        read(root, path)


def test_a_missing_inbox_blames_the_mount(tmp_path: Path) -> None:
    with pytest.raises(InboxUnavailable, match="not on the worker") as caught:
        read(tmp_path / "nowhere", "a.txt")

    assert caught.value.delay.total_seconds() > 0


def test_an_empty_mount_point_blames_the_mount(tmp_path: Path) -> None:
    with pytest.raises(InboxUnavailable, match="not on the worker"):
        read(tmp_path, "a.txt")


@pytest.mark.parametrize("change", [b"longer", b"same"])
def test_a_file_that_is_written_to_while_it_is_read_has_changed(
    root: Path, mine: Path, change: bytes
) -> None:
    file = mine / "a.txt"
    file.write_bytes(b"four")
    os.utime(file, ns=(1, 1))
    chunks = Inbox(root).read(CORP, "a.txt")

    assert next(chunks) == b"four"
    file.write_bytes(change)

    with pytest.raises(SourceChanged):
        list(chunks)


def test_a_name_is_escaped_in_what_people_are_told(root: Path) -> None:
    with pytest.raises(InboxFileMissing) as caught:
        read(root, "\x1b[2J")

    assert "\x1b" not in str(caught.value)
