"""How far an upload has come, from what its row says; and the places where lists go on."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from app import listing
from app.errors import BadRequest
from app.listing import Cursor, Progress
from app.models import State, Upload

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOME_ID = UUID("12345678-1234-5678-1234-567812345678")


def upload(**columns: object) -> Upload:
    values = {
        "state": State.TRANSFERRING,
        "size": 1000,
        "transferred": 0,
        "began_at": NOW,
        "began_from": 0,
        "sent": None,
        "sent_at": None,
    }
    return Upload(**values | columns)


@pytest.mark.parametrize(
    ("columns", "progress"),
    [
        ({"state": State.QUEUED}, Progress(0)),
        ({}, Progress(0)),
        ({"sent": 400, "sent_at": NOW + timedelta(seconds=4)}, Progress(400, 100.0, 6.0)),
        (
            {"sent": 400, "began_from": 200, "sent_at": NOW + timedelta(seconds=4), "transferred": 200},
            Progress(400, 50.0, 12.0),
        ),
        ({"sent": 400, "sent_at": NOW + timedelta(seconds=4), "size": None}, Progress(400, 100.0, None)),
        ({"sent": 1000, "sent_at": NOW + timedelta(seconds=4)}, Progress(1000, 250.0, 0.0)),
        ({"sent": 400, "sent_at": NOW}, Progress(400)),
        ({"sent": 200, "began_from": 200, "sent_at": NOW + timedelta(seconds=4)}, Progress(200)),
        # What an attempt left behind that is over.
        ({"state": State.QUEUED, "sent": 400, "sent_at": NOW, "transferred": 300}, Progress(300)),
        ({"state": State.STORED, "sent": 400, "sent_at": NOW, "transferred": 1000}, Progress(1000)),
    ],
)
def test_progress(columns: dict[str, object], progress: Progress) -> None:
    assert listing.progress(upload(**columns)) == progress


def test_a_cursor_is_read_as_it_was_written() -> None:
    cursor = Cursor(NOW + timedelta(microseconds=1), SOME_ID)

    assert Cursor.from_text(cursor.as_text()) == cursor


@pytest.mark.parametrize("given", ["", "x", "ä", "AAAA", "====", "MjAyNg==", "\0", "a" * 10_000])
def test_what_is_no_cursor_is_refused(given: str) -> None:
    with pytest.raises(BadRequest, match="begin without one"):
        Cursor.from_text(given)


def test_a_cursor_without_a_time_zone_is_refused() -> None:
    with pytest.raises(BadRequest):
        Cursor.from_text(written("2026-01-01T00:00:00"))


@pytest.mark.parametrize("offset", ["+16:00", "-23:59", "+00:01"])
def test_a_cursor_of_another_time_zone_is_refused(offset: str) -> None:
    """PostgreSQL refuses some that Python reads."""
    with pytest.raises(BadRequest):
        Cursor.from_text(written(f"2026-01-01T00:00:00{offset}"))


def written(created_at: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at} {SOME_ID}".encode()).decode()


def test_a_cursor_is_written_in_utc() -> None:
    """Whatever time zone PostgreSQL tells times in."""
    east = Cursor(NOW.astimezone(timezone(timedelta(hours=2))), SOME_ID)

    assert Cursor.from_text(east.as_text()) == Cursor(NOW, SOME_ID)
