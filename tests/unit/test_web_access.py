"""Who is believed to be an operator while PostgreSQL cannot be asked."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.errors import Unauthorised
from app.web import access, means
from app.web.means import BELIEVED_SECONDS, Operators

SCRAPES = [one * BELIEVED_SECONDS / 2 for one in range(1, 10)]


class Outage:
    """Means of a process that cannot reach PostgreSQL, until it is told what the database knows of every token."""

    def __init__(self) -> None:
        self.operators = Operators()
        self.answer: Any = OperationalError("SELECT", {}, Exception("timeout expired"))

    async def in_database(self, *_: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(means, "monotonic", lambda: now[0])
    return now


def ask(mine: Any, token: str = "token") -> bool:
    return asyncio.run(access._is_database_up(token, mine))


def test_an_operator_is_believed_as_long_as_the_outage_lasts(clock: list[float]) -> None:
    mine = Outage()
    mine.operators.note("token")

    for clock[0] in SCRAPES:
        assert ask(mine) is False


def test_an_operator_who_did_not_ask_for_long_is_not_believed(clock: list[float]) -> None:
    mine = Outage()
    mine.operators.note("token")
    clock[0] = BELIEVED_SECONDS

    with pytest.raises(OperationalError):
        ask(mine)


def test_nobody_else_is_believed(clock: list[float]) -> None:
    mine = Outage()
    mine.operators.note("token")

    with pytest.raises(OperationalError):
        ask(mine, "another")


def test_who_was_believed_is_asked_again_when_the_outage_is_over(clock: list[float]) -> None:
    mine = Outage()
    mine.operators.note("token")
    assert ask(mine) is False

    mine.answer = Unauthorised("the token is unknown, expired or revoked")

    with pytest.raises(Unauthorised):
        ask(mine)


def test_a_corporation_never_becomes_an_operator(clock: list[float]) -> None:
    mine, away = Outage(), Outage().answer
    mine.answer = 7
    with pytest.raises(Unauthorised):
        ask(mine)
    mine.answer = away

    with pytest.raises(OperationalError):
        ask(mine)
