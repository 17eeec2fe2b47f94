"""What people do about a connection pool that meets a fork, from nothing at all to Haulage's safeguards."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.exc import DisconnectionError

from app import forksafe

NO_RESET: Mapping[str, Any] = {"pool_reset_on_return": None}


def _same(engine: Engine) -> Engine:
    return engine


def _disposed(engine: Engine) -> Engine:
    engine.dispose()
    return engine


def _renewed(engine: Engine) -> Engine:
    engine.dispose(close=False)
    return engine


def _new(engine: Engine) -> Engine:
    return create_engine(engine.url)


def _unguarded(_engine: Engine) -> None:
    pass


def _guarded(let_go: Callable[[Any, Any], None]) -> Callable[[Engine], None]:
    """Refuse at checkout what another process connected; the guards that circulate differ in how they let go of it."""

    def note(_connection: Any, record: Any) -> None:
        record.info["pid"] = os.getpid()

    def refuse(_connection: Any, record: Any, proxy: Any) -> None:
        if record.info["pid"] != os.getpid():
            let_go(record, proxy)
            raise DisconnectionError("this connection belongs to another process")

    def guard(engine: Engine) -> None:
        event.listen(engine, "connect", note)
        event.listen(engine, "checkout", refuse)

    return guard


def _by_the_old_name(record: Any, proxy: Any) -> None:
    record.connection = proxy.connection = None


def _by_the_new_name(record: Any, proxy: Any) -> None:
    record.dbapi_connection = proxy.dbapi_connection = None


def _not_at_all(_record: Any, _proxy: Any) -> None:
    pass


@dataclass(frozen=True)
class Recipe:
    """One way to live with a fork: the engine's options and what happens around the fork."""

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    at_start: Callable[[], None] = lambda: None
    guard: Callable[[Engine], None] = _unguarded
    before_fork: Callable[[Engine], Engine] = _same
    in_child: Callable[[Engine], Engine] = _same
    engine_per_task: bool = False

    @property
    def plain_title(self) -> str:
        """For a terminal or a picture, which know no Markdown."""
        return self.title.replace("`", "")

    def engine(self, url: Any) -> Engine:
        made = create_engine(url, **self.options)
        self.guard(made)
        return made

    @contextmanager
    def at_hand(self, engine: Engine) -> Iterator[Engine]:
        """Give the engine that one task works with."""
        if not self.engine_per_task:
            yield engine
            return
        made = self.engine(engine.url)
        try:
            yield made
        finally:
            made.dispose()


# Applied to an engine that the recipe was never told about.
NOTHING = Recipe("nothing")

RECIPES = {
    "inherit": Recipe("inherit the engine, do nothing"),
    "pre-ping": Recipe("`pool_pre_ping=True`", options={"pool_pre_ping": True}),
    "no-reset": Recipe("`pool_reset_on_return=None`", options=NO_RESET),
    "dispose-child": Recipe("`dispose()` in the child", in_child=_disposed),
    "renew-child": Recipe("`dispose(close=False)` in the child", in_child=_renewed),
    "dispose-parent": Recipe("`dispose()` in the parent before the fork", before_fork=_disposed),
    "engine-per-child": Recipe("engine per child", in_child=_new),
    "engine-per-task": Recipe("engine per task", engine_per_task=True),
    "engine-per-task-no-reset": Recipe(
        "engine per task, `pool_reset_on_return=None`", options=NO_RESET, engine_per_task=True
    ),
    "null-pool": Recipe("`NullPool`", options={"poolclass": NullPool}),
    "guard-old": Recipe("pid guard, `record.connection = None`", guard=_guarded(_by_the_old_name)),
    "guard-new": Recipe("pid guard, `record.dbapi_connection = None`", guard=_guarded(_by_the_new_name)),
    "guard-raise": Recipe("pid guard that only raises", guard=_guarded(_not_at_all)),
    "haulage": Recipe("Haulage (`forksafe.install()`)", at_start=forksafe.install),
}
