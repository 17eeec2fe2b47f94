"""`haulage drive test`: each step by its name, in words what is missing, and nothing left behind but the folder."""

from typing import Any

import pytest

from app.drives import trial
from app.drives.filesystem import FilesystemDrive
from app.drives.onedrive import OneDrive
from app.drives.trial import Step
from tests.integration.onedrive_case import CONTENT, CREATE, FRAGMENT, UPLOAD_URL, Case

pytest_plugins = ["tests.integration.onedrive_fixtures"]

GOOD = [
    ("credentials and folder", True),
    ("a small file", True),
    ("a file in parts", True),
    ("clean-up", True),
]


def tried(drive: Any) -> list[Step]:
    return list(trial.run(drive))


def outcome(steps: list[Step]) -> list[tuple[str, bool]]:
    return [(one.name, one.is_good) for one in steps]


def left(case: Case) -> list[str]:
    return [one["path"] for one in case.control("GET tree", hashes=0) if not one["folder"]]


def is_tidy(case: Case) -> bool:
    return left(case) == [] and not any(one["state"] == "open" for one in case.uploads())


def test_a_good_drive_passes_and_keeps_the_folder_alone(case: Case) -> None:
    steps = tried(case.drive)

    assert outcome(steps) == GOOD
    assert steps[2].message == f"{FRAGMENT + 1000} bytes went there and came back"
    assert is_tidy(case)
    assert len(case.uploads()) == 1


def test_a_directory_is_a_drive_too(tmp_path: Any) -> None:
    steps = tried(FilesystemDrive(tmp_path))

    assert outcome(steps) == GOOD
    assert [one for one in tmp_path.rglob("haulage-trial-*") if one.is_file()] == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"client_secret": "wrong"}, "the client secret is wrong: its value is wanted, not its id"),
        ({"tenant_id": "nobody"}, "there is no tenant with this id"),
        ({"drive_id": "b!nobody"}, "the drive was not found: is its id right"),
        ({"drive_id": "nonsense"}, "Microsoft does not take the drive's id for one"),
        ({"client_id": "poor", "client_secret": "s"}, "needs Sites.ReadWrite.All"),
    ],
)
def test_what_is_missing_is_said_in_words(case: Case, setting: dict[str, str], words: str) -> None:
    case.simulator.control("POST client", id="poor", secrets={"s": None}, roles=["Sites.Read.All"])

    steps = tried(case.elsewhere(**setting))

    assert outcome(steps) == [("credentials and folder", False), ("clean-up", True)]
    assert words in steps[0].message


def test_a_permission_that_is_enough_for_small_files_alone_is_told_where_it_ends(case: Case) -> None:
    roles = ["Files.ReadWrite.All"]
    case.simulator.control("POST client", id="small", secrets={"s": None}, roles=roles)

    steps = tried(case.elsewhere(client_id="small", client_secret="s"))

    assert outcome(steps)[-2:] == [("a file in parts", False), ("clean-up", True)]
    assert "Files.ReadWrite.All is not enough" in steps[-2].message
    assert is_tidy(case)


def test_a_full_drive_is_told(case: Case) -> None:
    case.control("POST drive", quota=2000)

    steps = tried(case.drive)

    assert outcome(steps) == [*GOOD[:2], ("a file in parts", False), ("clean-up", True)]
    assert "the drive is full" in steps[2].message
    assert is_tidy(case)


def test_a_file_where_the_folder_should_be_is_told(case: Case) -> None:
    case.control("POST put", path="Haulage", text="a file")

    steps = tried(case.drive)

    assert outcome(steps) == [("credentials and folder", False), ("clean-up", True)]
    assert "has the name of the folder 'Haulage'" in steps[0].message


@pytest.mark.parametrize(
    ("path", "method", "nth", "step"),
    [
        (CONTENT, "PUT", 1, "a small file"),
        (CREATE, "POST", 1, "a file in parts"),
        (UPLOAD_URL, "PUT", 1, "a file in parts"),
        (UPLOAD_URL, "PUT", 2, "a file in parts"),
        ("download.aspx", "GET", 1, "a small file"),
    ],
)
def test_whatever_fails_is_named_and_nothing_is_left(
    case: Case, path: str, method: str, nth: int, step: str
) -> None:
    case.fault(path, "answer", method=method, nth=nth, status=500, when="after")

    steps = tried(case.drive)

    assert (steps[-2].name, steps[-2].is_good) == (step, False)
    if path != CREATE:  # whose answer was lost, and with it the address at which it could be cancelled
        assert is_tidy(case)


def test_other_bytes_that_come_back_are_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneDrive, "read", lambda *_: iter([b"other bytes"]))

    steps = tried(case.drive)

    assert outcome(steps) == [GOOD[0], ("a small file", False), ("clean-up", True)]
    assert steps[1].message == "other bytes came back"
    assert is_tidy(case)


def test_a_clean_up_that_fails_says_what_may_be_left(case: Case) -> None:
    case.answer("/items/", 423, "resourceLocked", method="DELETE")

    steps = tried(case.drive)

    assert outcome(steps)[-1] == ("clean-up", False)
    (name,) = (path.rpartition("/")[2] for path in left(case))
    assert f"{name} may be left: somebody has the file open" in steps[-1].message


def test_who_asks_for_no_more_steps_leaves_nothing_either(case: Case) -> None:
    steps = trial.run(case.drive)
    next(steps)
    next(steps)
    assert len(left(case)) == 1

    steps.close()  # type: ignore[attr-defined]

    assert is_tidy(case)
