"""A parent with three transactions open; its children close, remove and collect the sessions they find."""

import gc
import logging

from celery import signals
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from app import database
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_without import app

log = logging.getLogger(__name__)
NOTE = text(
    "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt)"
    " SELECT corp_index, id, :kind, 0 FROM corporate.uploads LIMIT 1"
)
_closed = Session(database.engine())
_removed = scoped_session(sessionmaker(database.engine()))
_collected = [Session(database.engine())]


def parents_sessions():
    return {"closed": _closed, "removed": _removed(), "collected": _collected[0]}


for ending, session in parents_sessions().items():
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # it would end it, and rightly
    session.execute(NOTE, {"kind": ending})
    fork_markers.mark(f"parent, {ending}", session)
del session


@app.task(name="fork_open_sessions.end")
def end_what_was_inherited():
    for end in (_closed.close, _removed.remove, _collected.clear, gc.collect):
        try:
            end()
        except DBAPIError:
            log.exception("%s of an inherited session failed", end.__name__)
    fork_markers.mark("child")


@signals.worker_shutdown.connect
def commit_them(**_):
    for ending, session in parents_sessions().items():
        if not fork_markers.mark(f"parent, {ending}", session).problem:
            session.commit()
