"""What a clean-up leaves in a sharepoint: everything that the catalogue has."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app import attempt, overdue, places, steering, uploads
from app.database import session_scope
from app.models import OnConflict, State
from tasks import upkeep
from tasks.means import means
from tests.factories import row, set_columns
from tests.installation import LIBRARY_CORP
from tests.integration.library_case import Library

pytest_plugins = ["tests.integration.library_fixtures"]


def test_the_same_bytes_again_under_a_name_that_becomes_the_same(sharepoint: Library) -> None:
    sharepoint.stored("a:b.txt")
    again = sharepoint.upload("a\uff1ab.txt")
    attempt.make(again, means())
    assert row(again).reason == "name_taken"

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert sharepoint.files() == ["a\uff1ab.txt"]


def test_the_same_bytes_again_whose_attempt_died(sharepoint: Library) -> None:
    sharepoint.stored("a.txt")
    again = sharepoint.upload("a.txt")
    with session_scope() as session:
        held = uploads.claim(session, again, timedelta(seconds=60), 8)
        assert held is not None
        assert places.take(session, held, held.parent_id, 0).existing is not None
    sharepoint.cancel(again)
    set_columns(sharepoint.installation, again, due_at="now() - interval '1 second'")
    upkeep.sweep()

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert sharepoint.files() == ["a.txt"]


def test_a_replacement_that_was_cancelled_before_anything_was_sent(sharepoint: Library) -> None:
    sharepoint.stored("report.docx", b"version one")
    again = sharepoint.upload("report.docx", b"version two, longer", OnConflict.REPLACE)
    sharepoint.throttle(method="GET", path="report")
    attempt.make(again, means())
    assert row(again).reason == "drive_throttled"
    sharepoint.cancel(again)
    sharepoint.lift()

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert sharepoint.files() == ["report.docx"]


def test_an_office_file_under_a_name_that_becomes_the_same(sharepoint: Library) -> None:
    sharepoint.stored("plan: a.docx")
    again = sharepoint.upload("plan\uff1a a.docx", b"other bytes")
    attempt.make(again, means())
    assert row(again).reason == "name_taken"

    upkeep.clean_up()

    assert row(again).reserved_name is None
    assert sharepoint.files() == ["plan\uff1a a.docx"]


def test_a_file_that_came_into_the_drive_and_never_into_the_catalogue_is_removed(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the others are not left for want of a clean-up."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    upload_id = sharepoint.upload("a.txt")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr("app.attempt._complete", die)
        attempt.make(upload_id, means())
    assert sharepoint.files() == ["a.txt"]
    sharepoint.cancel(upload_id)

    upkeep.clean_up()

    assert sharepoint.files() == []


def test_a_clean_up_that_was_overtaken_touches_nothing(
    sharepoint: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ten minutes were over, another one finished the row, and somebody retried the upload."""

    def die(*_: Any) -> None:
        raise ValueError

    upload_id = sharepoint.upload("a.txt")
    with monkeypatch.context() as patched:
        patched.setattr("app.attempt._complete", die)
        attempt.make(upload_id, replace(means(), max_attempts=1))
    assert (row(upload_id).state, sharepoint.files()) == (State.FAILED, ["a.txt"])
    with session_scope() as session:
        (overtaken,) = overdue.claim_cleanups(session, 50)
    set_columns(sharepoint.installation, upload_id, cleanup_due_at="now() - interval '1 second'")
    upkeep.clean_up()
    with session_scope() as session:
        steering.retry(session, LIBRARY_CORP, upload_id)
    complete = attempt._complete

    def late(*given: Any) -> None:
        assert not upkeep._tidied(overtaken)
        complete(*given)

    monkeypatch.setattr("app.attempt._complete", late)
    attempt.make(upload_id, means())

    assert (row(upload_id).state, sharepoint.files()) == (State.STORED, ["a.txt"])
