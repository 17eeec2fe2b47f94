"""`haulage doctor` on drives that have names: a OneDrive in the simulator, sound and with faults planted into it."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app import pauses
from app.database import session_scope
from app.diagnosis import drives
from app.diagnosis.findings import Level
from app.errors import DriveFull, DriveHalted, DriveThrottled
from tests.graph.launch import Simulator
from tests.installation import CORP, LIBRARY, library_environment, library_settings
from tests.integration.test_diagnosis import OF_WORKERS, Doctor, Told, assert_told, doctor

pytest_plugins = ["tests.integration.onedrive_fixtures"]
__all__ = ["doctor"]

FILES, LIVE = f"onedrive-files:{LIBRARY}", f"onedrive:{LIBRARY}"
SECRET, SECRET_FILE, DRIVE_ID = (
    f"DRIVE_{LIBRARY.upper()}_{name}" for name in ("CLIENT_SECRET", "CLIENT_SECRET_FILE", "DRIVE_ID")
)
TRIAL = f"haulage drive test {LIBRARY}"
CANARY = "canary-of-a-secret"

Look = Callable[..., Told]


@pytest.fixture
def look(doctor: Doctor, graph_tls: Simulator, clear: None) -> Look:
    """Return a function that looks at an installation with a drive in the simulator; None takes a variable away."""
    good = library_environment(graph_tls)
    doctor.secrets |= {graph_tls.client_secret, good["SESSION_KEYS"], CANARY}
    doctor.missing = set()

    def looked(**changed: str | None) -> Told:
        return doctor.look(**{name: one for name, one in (good | changed).items() if one is not None})

    return looked


@pytest.fixture
def clear(graph_tls: Simulator) -> Iterator[None]:
    yield
    graph_tls.control("DELETE faults")


def not_good(told: Told) -> set[str]:
    return {name for name in told.lines if told.level(name) != "good"} - OF_WORKERS


def test_a_drive_that_answers_is_good_and_asked_no_more_than_that(look: Look, graph_tls: Simulator) -> None:
    before = len(graph_tls.control("GET requests", since=0))

    told = look()

    asked = [(one["method"], one["path"]) for one in graph_tls.control("GET requests", since=0)[before:]]
    assert not_good(told) == set()
    assert told.found("drives") == f"{LIBRARY} (onedrive), filesystem (filesystem)"
    assert TRIAL in told.found(LIVE)
    assert [one for one in asked if "/drives/" in one[1]] == [("GET", f"/v1.0/drives/{graph_tls.drive}")]
    assert [method for method, path in asked if path.endswith("/token")] == ["POST"]


# Settings


def test_settings_that_cannot_be_read_are_told_and_hide_no_other_drive(look: Look, doctor: Doctor) -> None:
    doctor.missing = {"onedrive", "onedrive-files"}

    told = look(**{DRIVE_ID: None, SECRET_FILE: "/etc/secret"})

    assert not_good(told) == {"drives"}
    assert_told(told, "drives", "bad", f"{DRIVE_ID} is not set", "docs/onedrive.md")
    assert told.level("drive") == "good"


def test_keys_that_are_none_are_told_and_not_shown(look: Look) -> None:
    told = look(SESSION_KEYS=CANARY)

    assert not_good(told) == {"drives"}
    assert_told(told, "drives", "bad", "SESSION_KEYS: each key must be", "environment")
    assert "haulage drive key" in told.found("drives")


def test_another_directory_has_lines_of_its_own(look: Look, tmp_path: Path) -> None:
    told = look(
        DRIVES=f"{LIBRARY},space", DRIVE_SPACE_KIND="filesystem", DRIVE_SPACE_DIR=str(tmp_path / "none")
    )

    assert_told(told, "drive:space", "bad", f"DRIVE_SPACE_DIR ({tmp_path}/none) is not there", "mount")
    assert told.level("drive-space:space") == "warning"
    assert told.level("drive") == told.level("drive-space") == told.level(LIVE) == "good"


def test_where_no_directory_is_a_drive_there_are_no_lines_of_one(
    look: Look, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRIVE_DIR")
    doctor.missing = {"drive", "drive-space"}

    told = look()

    assert not_good(told) == {"corporations"}
    says = f"corporation {CORP}: the settings here name no drive 'filesystem'"
    assert_told(told, "corporations", "bad", says, "DRIVES")


# Files


def test_a_file_that_is_not_there_hides_only_what_needs_it(look: Look) -> None:
    told = look(**{SECRET: None, SECRET_FILE: "/nonexistent/secret"})

    assert not_good(told) == {FILES, LIVE}
    assert_told(told, FILES, "bad", f"{SECRET_FILE} (/nonexistent/secret) cannot be read", "every machine")
    assert told.found(LIVE) == f"not examined: it depends on {FILES}"


# Whether it answers


def asked_since(simulator: Simulator, number: int) -> list[str]:
    """Return the methods of what was asked of the drive after so many requests."""
    return [
        one["method"]
        for one in simulator.control("GET requests", since=0)[number:]
        if "/drives/" in one["path"]
    ]


def test_a_wrong_secret_is_told_not_shown_and_hides_no_other(look: Look) -> None:
    told = look(**{SECRET: CANARY})

    assert not_good(told) == {LIVE}
    assert_told(told, LIVE, "bad", "the client secret is wrong", "Microsoft Entra")
    assert TRIAL in told.lines[LIVE]["do"]


@pytest.mark.parametrize(
    ("changed", "says", "do"),
    [
        ({"tenant_id": "00000000-0000-0000-0000-000000000000"}, "no tenant with this id", "Microsoft Entra"),
        ({"drive_id": "b!nobodys"}, "the drive was not found", f"Correct {DRIVE_ID}"),
        ({"drive_id": "b"}, "does not take the drive's id for one", f"Correct {DRIVE_ID}"),
        ({"login_url": "https://127.0.0.1:1"}, "login service is out of reach", "HTTPS_PROXY"),
        ({"graph_url": "https://127.0.0.1:1"}, "the drive cannot be reached", "reach 127.0.0.1:"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_and_what_to_correct(
    graph_tls: Simulator, changed: dict[str, str], says: str, do: str
) -> None:
    found = drives.answers(LIBRARY, library_settings(graph_tls).model_copy(update=changed))

    assert (found.level, found.found) == (Level.BAD, found.found)
    assert says in found.found
    assert do in found.do
    assert TRIAL in found.do


@pytest.mark.parametrize(
    ("status", "code", "level", "says", "do"),
    [
        (403, "accessDenied", Level.BAD, "Sites.ReadWrite.All", "Microsoft Entra"),
        (429, "activityLimitReached", Level.WARNING, "asks for a pause", "ends by itself"),
        (500, "generalException", Level.BAD, "trouble of its own", "reach 127.0.0.1:"),
    ],
)
def test_a_drive_that_refuses_is_asked_once_and_not_written_to(  # noqa: PLR0913, PLR0917  parameters and fixtures
    graph_tls: Simulator, clear: None, status: int, code: str, level: Level, says: str, do: str
) -> None:
    graph_tls.control("POST faults", path="/drives/", action="answer", status=status, code=code, times=None)
    before = len(graph_tls.control("GET requests", since=0))

    found = drives.answers(LIBRARY, library_settings(graph_tls))

    assert (found.level, says in found.found, do in found.do) == (level, True, True), found
    assert asked_since(graph_tls, before) == ["GET"]


@pytest.mark.parametrize("path", ["/oauth2/v2.0/token", "/drives/"])
def test_an_answer_that_does_not_come_is_told_and_hides_no_other(
    look: Look, graph_tls: Simulator, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drives, "ANSWER_SECONDS", 1.0)
    graph_tls.control("POST faults", path=path, action="stall")

    told = look()

    assert not_good(told) == {LIVE}
    assert_told(told, LIVE, "bad", "no answer within 1 s", graph_tls.url.removeprefix("https://"))


# Pauses


def halt(drive: str, error: type[DriveHalted]) -> None:
    with session_scope() as session:
        pauses.halt(session, drive, error.code, "says the test", timedelta(minutes=9))


def test_a_throttle_is_a_warning(look: Look) -> None:
    halt(LIBRARY, DriveThrottled)

    told = look()

    assert not_good(told) == {"drive-pauses"}
    assert_told(told, "drive-pauses", "warning", "drive_throttled: says the test", "ends by itself")
    assert re.search(rf"^{LIBRARY} pauses until .*, since \d{{4}}-", told.found("drive-pauses"))


def test_of_several_pauses_all_are_told_and_the_worst_one_judges(look: Look) -> None:
    halt(LIBRARY, DriveThrottled)
    halt("filesystem", DriveFull)

    told = look()

    assert_told(told, "drive-pauses", "bad", f"{LIBRARY} pauses", "haulage drive resume filesystem")
    assert "filesystem pauses" in told.found("drive-pauses")


def test_a_pause_that_is_over_is_none(look: Look) -> None:
    halt(LIBRARY, DriveFull)
    with session_scope() as session:
        pauses.lift(session, LIBRARY)

    assert look().level("drive-pauses") == "good"


# Corporations


def test_a_corporation_whose_drive_is_not_named_is_told(look: Look, doctor: Doctor) -> None:
    doctor.installation.query("UPDATE corporate.corporations SET drive = 'archive'")

    told = look()

    assert not_good(told) == {"corporations"}
    assert_told(
        told,
        "corporations",
        "bad",
        f"corporation {CORP}: the settings here name no drive 'archive'",
        "DRIVES",
    )


def test_a_drive_with_bad_settings_is_told_once(look: Look, doctor: Doctor) -> None:
    doctor.installation.query("UPDATE corporate.corporations SET drive = %s", LIBRARY)
    doctor.missing = {"onedrive", "onedrive-files"}

    assert not_good(look(**{DRIVE_ID: None})) == {"drives"}
