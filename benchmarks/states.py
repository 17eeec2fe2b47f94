"""The states that a parent may be in when it forks, and what its children do with what they inherit."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from benchmarks import transaction
from benchmarks.transaction import Transaction


def _leave(_inherited: Transaction) -> None:
    pass


def _drop(inherited: Transaction) -> None:
    inherited.session = None
    gc.collect()


def _close(inherited: Transaction) -> None:
    _session(inherited).close()


def _remove(inherited: Transaction) -> None:
    _session(inherited).remove()


def _session(inherited: Transaction) -> Any:
    return inherited.session


@dataclass(frozen=True)
class State:
    """Two idle connections are in every pool; this is what there is beside them.

    `begin` opens the parent's transaction before the fork; None: it is opened right after it, on a pooled connection.
    `tidy` is what a child does with the one that it inherits, once the recipe has done its part.
    """

    title: str
    explained: str
    begin: Callable[[Engine, str], Transaction] | None = None
    tidy: Callable[[Transaction], None] = _leave
    second_engine: bool = False


IDLE = "idle"
STATES = {
    IDLE: State(
        "idle", "only idle connections are in the parent's pool; its transaction begins after the fork"
    ),
    "collected": State(
        "collected",
        "a Session with an open transaction, which the child lets be garbage collected",
        transaction.plain,
        _drop,
    ),
    "closed": State(
        "closed", "a Session with an open transaction, which the child closes", transaction.plain, _close
    ),
    "scoped": State(
        "scoped",
        "a scoped_session with an open transaction; the child removes it",
        transaction.scoped,
        _remove,
    ),
    "second": State(
        "second engine",
        "a second engine with a pool of its own, which nobody told the recipe about; everybody works on both",
        second_engine=True,
    ),
}
