"""A worker whose parent has queried PostgreSQL at import, and keeps a transaction open while children come and go."""

import os
from pathlib import Path

from celery import signals
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import database
from app.database import session_scope
from tests.acceptance.samples.fork_without import app  # noqa: F401  what `celery -A` looks for

with session_scope() as session:  # the classic: a query while modules are imported
    session.execute(text("SELECT 1"))

_open = Session(database.engine())


@signals.worker_ready.connect
def open_a_transaction(**_: object) -> None:
    _open.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # it would end it, and rightly
    backend = _open.scalar(text("SELECT pg_backend_pid()"))
    _open.execute(
        text(
            "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt)"
            " SELECT corp_index, id, 'noted by the parent', 0 FROM corporate.uploads ORDER BY created_at LIMIT 1"
        )
    )
    Path(os.environ["SAMPLE_DIR"], "parent").write_text(str(backend))


@signals.worker_shutdown.connect
def commit_it(**_: object) -> None:
    _open.commit()
    _open.close()
