"""How the pages say sizes and times."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.web import page_words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (None, "?"),
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1023.7, "1,024 bytes"),
        (1024, "1.0 KiB"),
        (150 * 1024, "150 KiB"),
        (2**20 - 1, "1,024 KiB"),
        (2**20, "1.0 MiB"),
        (50 * 2**30, "50.0 GiB"),
        (2**60, "1,048,576 TiB"),
    ],
)
def test_a_size_is_said_in_the_unit_that_fits(number: float | None, words: str) -> None:
    assert page_words.size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "?"),
        (-1, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (599, "9 min 59 s"),
        (600, "10 min"),
        (3660, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_time_is_said_in_two_units_at_most(seconds: float | None, words: str) -> None:
    assert page_words.span(seconds) == words


def test_a_moment_is_said_in_utc() -> None:
    at = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    assert page_words.moment(at) == "2026-02-28 23:30"
    assert page_words.moment(at.astimezone(UTC)) == "2026-02-28 23:30"


def test_one_of_a_kind_is_not_many() -> None:
    assert page_words.count(1, "item") == "1 item"
    assert page_words.count(1200, "item") == "1,200 items"
    assert page_words.count(2, "process", "processes") == "2 processes"
