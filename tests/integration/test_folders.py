import pytest

from app import folders
from app.drives.filesystem import FilesystemDrive
from app.errors import NotAFolder
from app.models import OnConflict, Upload
from tests.factories import ROOT, attempt_at, claimed, counts, items, make_means, make_upload, race, wide_pool
from tests.installation import Installation


def held(installation: Installation, *folder: str, policy: OnConflict = OnConflict.FAIL) -> Upload:
    return claimed(make_upload(installation, folder=folder, on_conflict=policy))


def make(installation: Installation, upload: Upload) -> str:
    return folders.make(FilesystemDrive(installation.drive_dir), upload)


def in_drive(installation: Installation) -> set[str]:
    return {
        str(path.relative_to(installation.drive_dir)) for path in (installation.drive_dir / "7").rglob("*")
    }


def test_a_path_is_made_once_in_drive_and_catalogue(installation: Installation) -> None:
    for _ in range(2):
        assert make(installation, held(installation, "a", "b")) == "7/a/b"

    assert items(installation) == {"7/a": "folder", "7/a/b": "folder"}
    assert in_drive(installation) == {"7/a", "7/a/b"}
    assert [counts(installation, one) for one in (ROOT, "7/a")] == [(1, 1), (1, 1)]


def test_no_path_is_the_parent_itself(installation: Installation) -> None:
    assert make(installation, held(installation)) == ROOT


def test_sixteen_uploads_at_once_make_each_folder_once(installation: Installation) -> None:
    uploads = [held(installation, "a", "b", "c") for _ in range(16)]

    with wide_pool():
        made = race([lambda one=one: make(installation, one) for one in uploads])

    assert made == ["7/a/b/c"] * 16
    assert [counts(installation, one) for one in (ROOT, "7/a", "7/a/b")] == [(1, 1)] * 3


@pytest.mark.parametrize(("one", "other"), [("Docs", "docs"), ("\u00e9", "e\u0301")], ids=ascii)
def test_a_name_that_counts_as_the_same_is_the_same_folder(
    installation: Installation, one: str, other: str
) -> None:
    assert make(installation, held(installation, one)) == make(installation, held(installation, other))
    assert in_drive(installation) == {f"7/{one}"}


def test_two_spellings_at_the_same_moment_leave_no_folder_that_nobody_knows(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = held(installation, "Docs"), held(installation, "docs")
    real = FilesystemDrive.make_folder

    def meanwhile(self: FilesystemDrive, parent_id: str, name: str) -> object:
        monkeypatch.setattr(FilesystemDrive, "make_folder", real)
        make(installation, other)
        return real(self, parent_id, name)

    monkeypatch.setattr(FilesystemDrive, "make_folder", meanwhile)

    assert make(installation, one) == "7/docs"
    assert in_drive(installation) == {"7/docs"}


def test_a_folder_in_the_drive_that_the_catalogue_does_not_know_is_taken_up(
    installation: Installation,
) -> None:
    (installation.drive_dir / "7" / "docs").mkdir()

    assert make(installation, held(installation, "docs")) == "7/docs"
    assert counts(installation) == (1, 1)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("policy", OnConflict)
def test_a_file_in_a_folders_place_stays(installation: Installation, policy: OnConflict, known: bool) -> None:
    if known:
        attempt_at(make_upload(installation, name="docs"), make_means(installation))
    else:
        (installation.drive_dir / "7" / "docs").write_bytes(b"x")
    uploads = [held(installation, "docs", policy=policy) for _ in range(2)]

    if policy == OnConflict.RENAME:
        assert [make(installation, one) for one in uploads] == ["7/docs (1)"] * 2
    else:
        with pytest.raises(NotAFolder):
            make(installation, uploads[0])
    assert (installation.drive_dir / "7" / "docs").is_file()
