import os
from pathlib import Path

import pytest

from app.walk import Found, LeftOut, chunks, walk, walk_inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    (made / "2026" / "may").mkdir(parents=True)
    (made / "a.txt").write_bytes(b"a")
    (made / "2026" / "may" / "b.txt").write_bytes(b"bb")
    return made


def places(found: object) -> set[tuple[tuple[str, ...], str, int]]:
    return {(one.folder, one.name, one.size) for one in found if isinstance(one, Found)}  # type: ignore[attr-defined]


def test_a_folder_goes_with_its_name_and_everything_below_it(folder: Path) -> None:
    assert places(walk([folder])) == {(("photos",), "a.txt", 1), (("photos", "2026", "may"), "b.txt", 2)}


def test_the_inside_of_a_folder_goes_without_its_name(folder: Path) -> None:
    assert places(walk_inside(folder)) == {((), "a.txt", 1), (("2026", "may"), "b.txt", 2)}


def test_a_file_goes_by_its_own_name(folder: Path) -> None:
    assert places(walk([folder / "a.txt"])) == {((), "a.txt", 1)}


@pytest.mark.parametrize("path", [".", "./", "../photos", "../photos/"])
def test_a_folder_has_its_name_however_its_path_is_written(
    folder: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    assert (("photos",), "a.txt", 1) in places(walk([Path(path)]))


def test_the_order_is_the_same_each_time(folder: Path) -> None:
    assert list(walk([folder])) == list(walk([folder]))


def test_a_link_is_not_followed_and_nobody_expects_it_to_be(folder: Path) -> None:
    (folder / "link").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")

    left = [one for one in walk([folder]) if isinstance(one, LeftOut)]

    assert {(one.path.name, one.reason, one.wanted) for one in left} == {
        ("link", "a symbolic link", False),
        ("broken", "a symbolic link", False),
    }


def test_a_fifo_is_left_out_without_being_opened(folder: Path) -> None:
    os.mkfifo(folder / "fifo")

    assert LeftOut(folder / "fifo", "not a regular file", wanted=False) in list(walk([folder]))


def test_an_empty_folder_is_mentioned(folder: Path) -> None:
    (folder / "empty").mkdir()

    assert LeftOut(folder / "empty", "an empty folder", wanted=False) in list(walk([folder]))


def test_what_is_not_there_is_missed(tmp_path: Path) -> None:
    (one,) = walk([tmp_path / "nowhere"])

    assert one == LeftOut(tmp_path / "nowhere", os.strerror(2), wanted=True)


def test_a_name_that_is_no_utf8_is_missed_and_does_not_stop_the_walk(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.txt")).write_bytes(b"x")

    found = list(walk([folder]))

    (left,) = [one for one in found if isinstance(one, LeftOut)]
    assert left.wanted
    assert "UTF-8" in left.reason
    assert len(places(found)) == 2


def test_a_folder_whose_name_is_no_utf8_is_missed_and_does_not_stop_the_walk(folder: Path) -> None:
    bad = folder / os.fsdecode(b"\xff")
    bad.mkdir()
    (bad / "a.txt").write_bytes(b"x")

    found = list(walk([folder]))

    assert [one.wanted for one in found if isinstance(one, LeftOut)] == [True]
    assert len(places(found)) == 2


def test_a_path_that_is_too_long_is_missed(folder: Path) -> None:
    deep = folder
    for _ in range(4):
        deep /= "x" * 250
    deep.mkdir(parents=True)

    (left,) = [one for one in walk([folder]) if isinstance(one, LeftOut)]

    assert left.wanted
    assert "900" in left.reason


def test_a_folder_that_cannot_be_listed_is_missed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Path.iterdir

    def refused(self: Path) -> object:
        if self.name == "2026":
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", refused)

    assert LeftOut(folder / "2026", "Permission denied", wanted=True) in list(walk([folder]))


def test_a_files_bytes_come_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (2**20 + 1))

    assert [len(one) for one in chunks(tmp_path / "a")] == [2**20, 1]
