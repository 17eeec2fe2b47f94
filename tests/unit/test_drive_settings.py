"""Settings of drives by name: every problem in one message, and no secret in it."""

import base64
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.drive_settings import FilesystemSettings, OneDriveSettings, drive_settings, session_keys
from app.drives.base import Drive
from app.drives.filesystem import FilesystemDrive
from app.drives.registry import Drives
from app.errors import BadSettings, DriveUnknown
from app.settings import settings
from tests.factories import race

CANARY = "canary-3f1c"
KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
GOOD = {
    "DATABASE_URL": "postgresql://user@db/haulage",
    "REDIS_URL": "redis://redis/0",
    "STAGING_DIR": "/srv/staging",
    "INBOX_DIR": "/srv/inbox",
    "DRIVES": "reports",
    "SESSION_KEYS": KEY,
    "DRIVE_REPORTS_KIND": "onedrive",
    "DRIVE_REPORTS_TENANT_ID": "00000000-0000-0000-0000-000000000000",
    "DRIVE_REPORTS_CLIENT_ID": "11111111-1111-1111-1111-111111111111",
    "DRIVE_REPORTS_CLIENT_SECRET": CANARY,
    "DRIVE_REPORTS_DRIVE_ID": "b!abc",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    forget()
    yield monkeypatch
    forget()


def forget() -> None:
    settings.cache_clear()
    drive_settings.cache_clear()


def problems() -> list[str]:
    """Return the problems that are told, without their heading."""
    with pytest.raises(BadSettings) as caught:
        drive_settings()
    heading, *found = str(caught.value).split("\n")
    assert heading == f"The settings of the drives have {len(found)} problem(s):"
    assert CANARY not in str(caught.value)
    return [one.strip() for one in found]


def test_a_onedrive_needs_five_settings_and_a_key(environment: pytest.MonkeyPatch) -> None:
    chosen = drive_settings()["reports"]

    assert isinstance(chosen, OneDriveSettings)
    assert (chosen.folder, chosen.graph_url, chosen.login_url, chosen.units_per_minute) == (
        "Haulage",
        "https://graph.microsoft.com/v1.0",
        "https://login.microsoftonline.com",
        1250,
    )
    assert CANARY not in repr(chosen)
    assert CANARY not in str(chosen)


def test_every_problem_of_every_drive_is_told_at_once(environment: pytest.MonkeyPatch) -> None:
    wrong = {
        "DRIVES": "reports, Upper archive mystery reports filesystem",
        "SESSION_KEYS": f"{CANARY}",
        "DRIVE_REPORTS_TENANT_ID": f"{CANARY}/x",
        "DRIVE_REPORTS_FOLDER": "a/../b",
        "DRIVE_REPORTS_GRAPH_URL": f"http://{CANARY}",
        "DRIVE_REPORTS_UPLOAD_HOSTS": "files.example, https://files.example/",
        "DRIVE_REPORTS_UNITS_PER_MINUTE": "many",
        "DRIVE_REPORTS_CA_FILE": "ca.pem",
        "DRIVE_REPORTS_CLIENTSECRET": CANARY,
        "DRIVE_ARCHIVE_KIND": "filesystem",
        "DRIVE_ARCHIVE_DIR": "relative",
        "DRIVE_MYSTERY_KIND": CANARY,
    }
    for name, value in wrong.items():
        environment.setenv(name, value)
    environment.delenv("DRIVE_REPORTS_DRIVE_ID")

    assert sorted(problems()) == sorted(
        [
            "DRIVE_REPORTS_CLIENTSECRET is no setting of a onedrive drive",
            "DRIVE_REPORTS_TENANT_ID has characters that no such id has: docs/onedrive.md says where to find it",
            "DRIVE_REPORTS_DRIVE_ID is not set",
            "DRIVE_REPORTS_FOLDER: '..' is not a name",
            "DRIVE_REPORTS_GRAPH_URL: must be an address that begins with https://",
            "DRIVE_REPORTS_UPLOAD_HOSTS: 'https://files.example/' is no name of a host, like files.example.com or .example.com",
            "DRIVE_REPORTS_UNITS_PER_MINUTE: Input should be a valid integer, unable to parse string as an integer",
            "DRIVE_REPORTS_CA_FILE: must be an absolute path, since every process has its own working directory",
            "DRIVE_ARCHIVE_DIR: must be an absolute path, since every process has its own working directory",
            "DRIVE_MYSTERY_KIND must be one of filesystem, onedrive",
            "DRIVES: 'Upper' is no name for a drive: small letters, digits and _, each once, and not filesystem",
            "DRIVES: 'filesystem' is no name for a drive: small letters, digits and _, each once, and not filesystem",
            "DRIVES: 'reports' is no name for a drive: small letters, digits and _, each once, and not filesystem",
            "SESSION_KEYS: each key must be 32 bytes in base64: `haulage drive key` makes one",
        ]
    )


@pytest.mark.parametrize("name", [*(one for one in GOOD if one.startswith("DRIVE_")), "SESSION_KEYS"])
def test_what_has_no_default_is_asked_for(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)

    (problem,) = problems()

    assert problem == {
        "SESSION_KEYS": "SESSION_KEYS is not set; a onedrive needs it: `haulage drive key` makes one",
        "DRIVE_REPORTS_KIND": "DRIVE_REPORTS_KIND must be one of filesystem, onedrive",
        "DRIVE_REPORTS_CLIENT_SECRET": "DRIVE_REPORTS: needs exactly one of"
        " CLIENT_SECRET, CLIENT_SECRET_FILE and CERTIFICATE_FILE",
    }.get(name, f"{name} is not set")


def test_a_missing_key_is_told_beside_what_else_is_wrong(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("SESSION_KEYS")
    environment.delenv("DRIVE_REPORTS_DRIVE_ID")

    assert [one.partition(" ")[0] for one in problems()] == ["DRIVE_REPORTS_DRIVE_ID", "SESSION_KEYS"]


@pytest.mark.parametrize("folder", ["Forms", "/forms/Haulage"])
def test_a_folder_that_sharepoint_keeps_for_itself_is_refused(
    environment: pytest.MonkeyPatch, folder: str
) -> None:
    environment.setenv("DRIVE_REPORTS_FOLDER", folder)

    assert problems() == [
        "DRIVE_REPORTS_FOLDER: SharePoint keeps Forms at a library's root for itself: name another folder"
    ]


def test_forms_is_a_name_like_any_other_below_the_root(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DRIVE_REPORTS_FOLDER", "Haulage/Forms")

    drive_settings()


@pytest.mark.parametrize("second", ["CLIENT_SECRET_FILE", "CERTIFICATE_FILE"])
def test_two_credentials_are_one_too_many(environment: pytest.MonkeyPatch, second: str) -> None:
    environment.setenv(f"DRIVE_REPORTS_{second}", "/etc/haulage/file")

    (problem,) = problems()

    assert "exactly one of" in problem


def test_a_name_that_begins_like_another_is_another(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DRIVES", "reports,reports_old")
    environment.setenv("DRIVE_REPORTS_OLD_KIND", "filesystem")
    environment.setenv("DRIVE_REPORTS_OLD_DIR", "/srv/old")

    found = drive_settings()

    assert {name: one.kind for name, one in found.items()} == {
        "reports": "onedrive",
        "reports_old": "filesystem",
    }


def test_a_directory_alone_needs_no_key(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DRIVES", "")
    environment.setenv("DRIVE_DIR", "/srv/drive")
    environment.delenv("SESSION_KEYS")

    (only,) = drive_settings().values()

    assert isinstance(only, FilesystemSettings)
    assert session_keys() == ()


def test_keys_are_given_the_one_in_use_first(environment: pytest.MonkeyPatch) -> None:
    other = base64.urlsafe_b64encode(b"o" * 32).decode()
    environment.setenv("SESSION_KEYS", f"{other}, {KEY}")

    assert session_keys() == (other, KEY)


# The drives themselves


def test_threads_that_ask_at_the_same_time_share_one_drive(
    environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, one would have requests that nobody counts, and a token of its own."""
    drives = Drives(drive_settings())
    real, second = drives._make, threading.Barrier(2)

    def make(*given: Any) -> Drive:
        with suppress(threading.BrokenBarrierError):  # which is the good case: nobody else has come as far
            second.wait(0.2)
        return real(*given)

    monkeypatch.setattr(drives, "_make", make)

    made = race([lambda: drives.named("reports")] * 8)

    assert len({id(one) for one in made}) == 1


def test_a_child_makes_drives_of_its_own_and_counts_for_itself_alone(
    environment: pytest.MonkeyPatch,
) -> None:
    drives = Drives(drive_settings())
    before = drives.named("reports")
    drives._meters["reports"].count(2)

    drives._pid = -1  # as it is found in a child of the process that made it

    assert drives.requests() == []
    assert drives.named("reports") is not before


def test_a_name_without_settings_stops_what_wants_it(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(DriveUnknown, match="no settings for the drive 'nobody'"):
        Drives(drive_settings()).named("nobody")


def test_a_directory_is_a_drive_by_its_name(tmp_path: Path) -> None:
    chosen = FilesystemSettings(kind="filesystem", dir=tmp_path)

    made = Drives({"archive": chosen}).named("archive")

    assert isinstance(made, FilesystemDrive)
    assert made.name == "archive"
