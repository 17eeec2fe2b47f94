"""Errors as answers."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from app import errors
from app.errors import HaulageError, Refused, StagingFull
from app.web.problems import told


def descendants(kind: type[HaulageError]) -> Iterator[type[HaulageError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from descendants(child)


@pytest.mark.parametrize("kind", list(descendants(Refused)))
def test_a_refusal_is_the_senders_to_mend(kind: type[Refused]) -> None:
    answer = told(kind("why"))

    assert 400 <= answer.status_code < 500
    body = json.loads(bytes(answer.body))
    assert (body["code"], body["detail"], body["status"]) == (kind.code, "why", answer.status_code)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("secret"),
        errors.SourceMissing("secret"),
        errors.LostClaim("secret"),
        errors.Unfit("secret"),
    ],
)
def test_what_nobody_foresaw_is_logged_and_not_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = told(error)

    assert (answer.status_code, b"secret" in answer.body) == (500, False)
    assert [(one.levelno, one.exc_info is not None) for one in caplog.records] == [(logging.ERROR, True)]


def test_a_full_staging_says_when_to_come_back() -> None:
    answer = told(StagingFull("full", timedelta(seconds=30)))

    assert (answer.status_code, answer.headers["retry-after"]) == (507, "30")


class NoSuchColumn(Exception):
    pgcode = "42703"


class TooSlow(Exception):
    pgcode = "57014"


class LockTimeout(Exception):
    pgcode = "55P03"


class Deadlock(Exception):
    pgcode = "40P01"


class Unserializable(Exception):
    pgcode = "40001"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("SELECT secret", {}, Exception("server closed")), 503),
        (NoConnectionLeft("QueuePool limit of size 8 overflow 0 reached"), 503),
        (OperationalError("SELECT secret", {}, LockTimeout()), 503),
        (OperationalError("SELECT secret", {}, Deadlock()), 503),
        (OperationalError("SELECT secret", {}, Unserializable()), 503),
        (OperationalError("SELECT secret", {}, TooSlow()), 500),
        (ProgrammingError("SELECT secret", {}, NoSuchColumn()), 500),
    ],
)
def test_a_database_that_is_away_or_busy_is_no_fault_of_ours(error: Exception, status: int) -> None:
    answer = told(error)

    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("5" if status == 503 else None)
    assert b"SELECT" not in answer.body
