"""A parent that does all that one should not while its children come and go, and marks what it does (fork_markers).

It asked PostgreSQL at import, holds a transaction open from its start to its end (unless NO_TRANSACTION is set), asks all
the time, and once more right before each fork, when Haulage has just closed its idle connections. All in the thread that
forks.
"""

import os
from pathlib import Path

from celery import signals
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import database
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_without import app  # noqa: F401

fork_markers.mark("import")
_open = Session(database.engine())
_begun = []


def ask_for_transaction():
    return _open.scalar(text("SELECT pg_current_xact_id()::text || ' in ' || pg_backend_pid()"))


@signals.worker_ready.connect
def begin(sender, **_):
    sender.hub.call_repeatedly(0.05, fork_markers.mark, "parent")
    if "NO_TRANSACTION" in os.environ:
        return
    _open.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # it would end it, and rightly
    _begun.append(ask_for_transaction())


@signals.worker_before_create_process.connect
def warm_the_pool(**_):
    fork_markers.mark("parent")


@signals.worker_shutdown.connect
def commit(**_):
    if not _begun:
        return
    assert [ask_for_transaction()] == _begun
    _open.commit()
    _open.close()
    Path(os.environ["SAMPLE_DIR"], "kept").touch()
