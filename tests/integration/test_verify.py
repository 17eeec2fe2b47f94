"""What `haulage verify` finds in a library, and that neither a pause nor trouble on the way loses what it has found."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from app import catalogue, pauses, verify
from app.catalogue import NewItem
from app.cli.main import haulage
from app.database import Session, session_scope, short_lived_engine
from app.errors import DriveFull, DriveHalted, DrivePauses, DriveRefuses, DriveThrottled
from app.models import Kind
from app.verify import Findings
from tests.factories import sessions
from tests.installation import Installation
from tests.integration.onedrive_case import Case, bytes_of

pytest_plugins = ["tests.integration.onedrive_fixtures"]

CORP = 9  # its folder in the drive is called otherwise, which nobody minds
DATA = bytes_of(5000)
HOUR = timedelta(hours=1)


class Library:
    """A corporation in a drive of the simulator, and what verifying it comes to."""

    def __init__(self, installation: Installation, case: Case) -> None:
        self.installation, self.case = installation, case
        self.waits: list[float] = []
        owner = short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
        with Session(owner) as session, session.begin():
            catalogue.add_corporation(session, CORP, "Nine", case.root, case.drive.name)

    def store(self, name: str) -> str:
        made = self.case.sending(DATA, name).attempt()
        sha256 = hashlib.sha256(DATA).hexdigest()
        new = NewItem(made.id, self.case.root, name, Kind.FILE, len(DATA), sha256, made.info)
        with session_scope() as session:
            catalogue.record(session, CORP, new)
            catalogue.count_in(session, CORP, self.case.root)
        return made.id

    def halt(self, error: type[DriveHalted]) -> None:
        with session_scope() as session:
            pauses.halt(session, self.case.drive.name, error.code, "the test says so", HOUR)

    def paused(self) -> list[Any]:
        return self.installation.query("SELECT reason FROM corporate.drives WHERE paused_until > now()")

    def wait(self, seconds: float) -> None:
        """Stand in for sleep: nothing is open meanwhile, and then somebody lets the drive be asked."""
        self.waits.append(seconds)
        assert sessions(self.installation, "idle in transaction") == 0
        with session_scope() as session:
            pauses.lift(session, self.case.drive.name)

    def verify(self, at_each_item: Callable[[], None] = lambda: None) -> Findings:
        self.case.since = self.case._last()
        return verify.corporation(self.case.drive, CORP, at_each_item)

    def asked(self) -> list[str]:
        return [one["path"] for one in self.case.requests("/items/")]


@pytest.fixture
def business(installation: Installation, case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made = Library(installation, case)
    monkeypatch.setattr("app.verify.time.sleep", made.wait)
    return made


@pytest.fixture
def altering(installation: Installation, library: Case) -> Library:
    return Library(installation, library)


def test_a_throttle_is_waited_out_told_to_all_and_costs_nothing_of_what_was_found(business: Library) -> None:
    ids = [business.store(name) for name in ("a", "b", "c")]
    reasons: list[Any] = []
    business.case.answer(ids[1], 429, "activityLimitReached", headers={"Retry-After": "77"})
    waited = business.wait
    business.wait = lambda seconds: (reasons.append(business.paused()), waited(seconds))[1]  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.verify.time.sleep", business.wait)
        found = business.verify()

    assert (found.files, found.folders, found.bytes) == (3, 1, 3 * len(DATA))
    assert (found.problems, found.stopped) == ([], None)
    assert (business.waits, reasons) == ([77], [[("drive_throttled",)]])
    assert [sum(one in path for path in business.asked()) for one in ids] == [1, 2, 1]


def test_a_pause_that_another_process_heard_of_is_kept_to(business: Library) -> None:
    business.store("a")
    business.halt(DriveThrottled)
    before: list[str] = []
    waited = business.wait
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "app.verify.time.sleep", lambda seconds: (before.extend(business.asked()), waited(seconds))
        )
        found = business.verify()

    assert (found.files, found.stopped) == (1, None)
    assert (before, business.waits) == ([], [60]), "and looked at each minute, whether it is over"


def test_a_drive_that_is_only_full_is_looked_at(business: Library) -> None:
    business.store("a")
    business.halt(DriveFull)

    found = business.verify()

    assert (found.files, found.stopped, business.waits) == (1, None, [])


def test_a_drive_that_stops_ends_it_with_what_was_found(business: Library) -> None:
    first, _ = business.store("a"), business.store("b")
    business.case.control("POST put", path="Haulage/7/a", text="somebody's")
    items: list[int] = []

    def stop_before_the_last() -> None:
        items.append(1)
        if len(items) == 3:  # the root, a, b
            business.halt(DriveRefuses)

    found = business.verify(stop_before_the_last)

    assert (found.files, found.folders) == (1, 0)
    assert found.stopped == "drive_refuses: the test says so"
    assert found.problems == [f"{first}: the drive holds other bytes than were received"]
    assert business.waits == []


def test_a_drive_that_is_gone_is_not_told_as_files_that_are_gone(business: Library) -> None:
    for name in ("a", "b"):
        business.store(name)
    business.case.drive = business.case.elsewhere(drive_id="b!nobody")

    found = business.verify()

    assert (found.files, found.problems) == (0, [])
    assert (found.stopped or "").startswith("drive_missing: ")
    assert business.paused() == [("drive_missing",)]


def test_a_drive_that_does_not_answer_is_asked_again_and_not_for_ever(business: Library) -> None:
    business.store("a")
    business.case.fault("/items/", "cut", times=2)

    assert business.verify().stopped is None
    assert business.waits == [30, 30]

    business.case.drive = business.case.elsewhere(graph_url="https://127.0.0.1:1/v1.0")
    found = business.verify()
    refused = "the drive cannot be reached at the host 127.0.0.1: nobody takes the connection"
    assert (found.files, found.stopped) == (0, f"drive_unavailable: {refused}")
    assert len(business.waits) == 2 + 4
    assert business.paused() == []


def test_a_file_that_the_drive_does_not_tell_of_is_one_difference(business: Library) -> None:
    ids = [business.store(name) for name in ("a", "b", "c")]
    business.case.answer(ids[1], 418, "unheardOf")

    found = business.verify()

    (problem,) = found.problems
    assert problem.startswith(
        f"{ids[1]}: recorded, but not to be read in the drive: the drive answered HTTP 418"
    )
    assert (found.files, found.folders, found.stopped) == (3, 1, None)


def test_a_database_that_goes_away_ends_it_with_what_was_found(
    business: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [business.store(name) for name in ("a", "b")]
    business.case.control("POST delete", path="Haulage/7/a")
    items: list[int] = []

    def cut_before_the_last() -> None:
        items.append(1)
        if len(items) == 3:
            monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x?sslmode=disable")
            business.installation.forget_process_state()

    found = business.verify(cut_before_the_last)

    assert (found.stopped or "").startswith("database_unavailable: ")
    assert found.problems == [
        f"{ids[0]}: recorded, but not to be read in the drive: no such file in the drive"
    ]


# Altered by SharePoint


def test_what_sharepoint_altered_is_compared_with_what_it_had_made_of_it(altering: Library) -> None:
    altering.store("same.docx")
    altering.store("other.docx")
    altering.case.control("POST put", path="Haulage/7/other.docx", text="another report")

    found = altering.verify()

    assert (found.files, found.problems, found.altered_again) == (2, [], 1)
    assert found.bytes == len(DATA), "those of the other one were not compared"


def test_an_office_file_that_was_emptied_or_removed_is_a_difference(altering: Library) -> None:
    emptied, removed = altering.store("emptied.docx"), altering.store("removed.docx")
    altering.case.control("POST put", path="Haulage/7/emptied.docx", text="")
    altering.case.control("POST delete", path="Haulage/7/removed.docx")

    found = altering.verify()

    assert found.problems == [
        f"{emptied}: the drive holds other bytes than were received",
        f"{removed}: recorded, but not to be read in the drive: no such file in the drive",
    ]
    assert (found.bytes, found.altered_again) == (0, 0)


def test_an_altered_file_without_a_recorded_hash_is_not_held_against_what_was_received(
    altering: Library,
) -> None:
    altering.store("a.docx")
    altering.installation.query(
        "UPDATE corporate.vmb_items SET drive_info = drive_info || '{\"quick_xor_hash\": null}'"
    )

    found = altering.verify()

    assert (found.problems, found.altered_again, found.bytes) == ([], 1, 0)


# The commands


@pytest.fixture
def named(business: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    """The library as the drive that the environment names."""
    chosen = business.case.chosen().model_dump(exclude_none=True)
    monkeypatch.setenv("DRIVES", "reports")
    monkeypatch.setenv("SESSION_KEYS", Fernet.generate_key().decode())
    for name, value in chosen.items():
        monkeypatch.setenv(f"DRIVE_REPORTS_{name.upper()}", str(value))
    business.installation.forget_process_state()
    return business


def run(*words: str) -> Any:
    return CliRunner().invoke(haulage, [*words, "--corp", str(CORP)], catch_exceptions=False)


@pytest.mark.parametrize(("is_damaged", "code"), [(False, 75), (True, 1)])
def test_verify_says_why_it_ended_early(named: Library, *, is_damaged: bool, code: int) -> None:
    ids = [named.store(name) for name in ("a", "b")]
    if is_damaged:
        named.case.control("POST put", path="Haulage/7/a", text="somebody's")
    named.case.answer(ids[1], 401, "InvalidAuthenticationToken", times=None)

    ended = run("verify")

    assert ended.exit_code == code
    assert "1 files (" in ended.stdout
    assert "it ended before everything was compared: drive_refuses: " in ended.stderr
    assert ("holds other bytes" in ended.stderr) == is_damaged


def test_commands_count_what_they_ask_of_a_drive(named: Library) -> None:
    named.store("a")
    named.case.since = named.case._last()

    assert run("verify").exit_code == 0
    assert run("mkdir", "a folder").exit_code == 0

    noted = named.installation.query("SELECT sum(requests)::int FROM corporate.drive_requests")
    assert noted == [(len(named.case.requests("/v1.0/")),)]


def test_mkdir_keeps_to_a_pause_and_tells_of_one(named: Library) -> None:
    named.case.answer("/children", 429, "activityLimitReached", headers={"Retry-After": "77"})

    with pytest.raises(DriveThrottled):
        run("mkdir", "a folder")
    assert named.paused() == [("drive_throttled",)]

    named.case.since = named.case._last()
    with pytest.raises(DrivePauses):
        run("mkdir", "a folder")
    assert named.case.requests() == []
