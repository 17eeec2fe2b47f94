"""Reads PostgreSQL without changing anything, and without waiting long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

LIMITS = {"statement_timeout": "3s", "lock_timeout": "1s"}

Engines = Callable[[str], Engine]  # by URL; each is made once for a whole examination


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that may only read.

    What is set for it ends with it: behind a PgBouncer the session belongs to others, too.
    """
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET TRANSACTION READ ONLY"))
        for name, limit in LIMITS.items():
            connection.execute(text("SELECT set_config(:name, :limit, true)"), {"name": name, "limit": limit})
        yield connection
