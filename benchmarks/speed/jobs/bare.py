"""The bare job that every queue is given: one row, in one transaction, through the pooled engine of its process.

Runs in environments that hold neither Haulage nor what it needs.
"""

import os
from functools import cache

from sqlalchemy import Engine, create_engine, make_url, text

INSERT = text("INSERT INTO corporate.bench_jobs (number, process) VALUES (:number, :process)")
THREADS = 8  # of one process, at most: each finds a connection


def url() -> str:
    """Return the address as given, for psycopg2: it asks for TLS with a verified certificate."""
    given = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg2")
    return given.render_as_string(hide_password=False)


@cache
def engine() -> Engine:
    """Return this process's engine, with the options that Haulage's own has; nothing connects before the first job."""
    return create_engine(url(), pool_size=THREADS, max_overflow=0, pool_pre_ping=True, pool_recycle=300)


def insert(through: Engine, number: int) -> None:
    with through.begin() as connection:
        connection.execute(INSERT, {"number": number, "process": os.getpid()})


def work(number: int) -> None:
    insert(engine(), number)


def work_classically(number: int) -> None:
    """The classic recipe: an engine made and disposed for one job."""
    made = create_engine(url())
    try:
        insert(made, number)
    finally:
        made.dispose()
