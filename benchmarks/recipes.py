"""What people do about a connection pool that meets a fork, from nothing at all to Haulage's safeguards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine

from app import forksafe


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


@dataclass(frozen=True)
class Recipe:
    """One way to live with a fork: the engine's options and what happens around the fork."""

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    at_start: Callable[[], None] = lambda: None
    before_fork: Callable[[Engine], Engine] = _same
    in_child: Callable[[Engine], Engine] = _same
    engine_per_task: bool = False


RECIPES = {
    "inherit": Recipe("inherit the engine, do nothing"),
    "no-reset": Recipe("`pool_reset_on_return=None`", options={"pool_reset_on_return": None}),
    "pre-ping": Recipe("`pool_pre_ping=True`", options={"pool_pre_ping": True}),
    "dispose-child": Recipe("`engine.dispose()` in the child", in_child=_disposed),
    "renew-child": Recipe("`engine.dispose(close=False)` in the child", in_child=_renewed),
    "dispose-parent": Recipe("`engine.dispose()` in the parent before the fork", before_fork=_disposed),
    "engine-per-child": Recipe("a new engine per child", in_child=_new),
    "engine-per-task": Recipe("a new engine per task, disposed after it", engine_per_task=True),
    "null-pool": Recipe("`NullPool`", options={"poolclass": NullPool}),
    "haulage": Recipe("Haulage (`forksafe.install()`)", at_start=forksafe.install),
}
