"""What a clean-up leaves in a library: everything that the catalogue has."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app import attempt, catalogue, pauses, places, steering, uploads
from app.database import session_scope
from app.models import OnConflict, State
from app.uploads import Destination
from tasks import upkeep
from tasks.means import means
from tests.factories import row, set_columns, staging_of
from tests.graph.launch import Simulator, running
from tests.installation import LIBRARY, LIBRARY_CORP, Installation, with_library

DATA = b"the same bytes"


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wake.queue.waiting", lambda *_: 0)
    monkeypatch.setattr("app.wake.queue.wake", lambda ids, _queue=None: list(ids))
    monkeypatch.setattr("tasks.upkeep.is_due", lambda *_: True)


class Library:
    """A document library of SharePoint, and an installation whose corporation lives there."""

    def __init__(self, installation: Installation, simulator: Simulator) -> None:
        self.installation, self.simulator = installation, simulator

    def upload(self, name: str, data: bytes = DATA, policy: OnConflict = OnConflict.FAIL) -> UUID:
        with session_scope() as session:
            to = Destination(LIBRARY_CORP, catalogue.root_id(session, LIBRARY_CORP), (), name, policy)
            return uploads.register(session, to, staging_of(self.installation).put([data])).id

    def stored(self, name: str, data: bytes = DATA) -> UUID:
        upload_id = self.upload(name, data)
        attempt.make(upload_id, means())
        assert row(upload_id).state == State.STORED
        return upload_id

    def cancel(self, upload_id: UUID) -> None:
        with session_scope() as session:
            steering.cancel(session, LIBRARY_CORP, upload_id)

    def files(self) -> list[str]:
        found = self.simulator.control("GET tree", drive=self.simulator.drive)
        return [one["path"].rpartition("/")[2] for one in found if not one["folder"]]


@pytest.fixture
def library(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    (tmp_path / "graph").mkdir()
    with running("--resource-units=0", folder=tmp_path / "graph") as simulator:
        simulator.drive = simulator.new_drive(type="documentLibrary")
        made = with_library(installation, simulator)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        made.forget_process_state()
        yield Library(made, simulator)


def test_the_same_bytes_again_under_a_name_that_becomes_the_same(library: Library) -> None:
    library.stored("a:b.txt")
    again = library.upload("a\uff1ab.txt")
    attempt.make(again, means())
    assert row(again).reason == "name_taken"

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert library.files() == ["a\uff1ab.txt"]


def test_the_same_bytes_again_whose_attempt_died(library: Library) -> None:
    library.stored("a.txt")
    again = library.upload("a.txt")
    with session_scope() as session:
        held = uploads.claim(session, again, timedelta(seconds=60), 8)
        assert held is not None
        assert places.take(session, held, held.parent_id, 0).existing is not None
    library.cancel(again)
    set_columns(library.installation, again, due_at="now() - interval '1 second'")
    upkeep.sweep()

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert library.files() == ["a.txt"]


def test_a_replacement_that_was_cancelled_before_anything_was_sent(library: Library) -> None:
    library.stored("report.docx", b"version one")
    again = library.upload("report.docx", b"version two, longer", OnConflict.REPLACE)
    throttle: dict[str, Any] = {"status": 429, "code": "activityLimitReached"}
    library.simulator.control("POST faults", method="GET", path="report", action="answer", **throttle)
    attempt.make(again, means())
    assert row(again).reason == "drive_throttled"
    library.cancel(again)
    with session_scope() as session:
        pauses.lift(session, LIBRARY)

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert library.files() == ["report.docx"]


def test_an_office_file_under_a_name_that_becomes_the_same(library: Library) -> None:
    library.stored("plan: a.docx")
    again = library.upload("plan\uff1a a.docx", b"other bytes")
    attempt.make(again, means())
    assert row(again).reason == "name_taken"

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert library.files() == ["plan\uff1a a.docx"]


def test_a_file_that_came_into_the_drive_and_never_into_the_catalogue_is_removed(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the others are not left for want of a clean-up."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    upload_id = library.upload("a.txt")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr("app.attempt._complete", die)
        attempt.make(upload_id, means())
    assert library.files() == ["a.txt"]
    library.cancel(upload_id)

    upkeep.clean_up()

    assert library.files() == []
