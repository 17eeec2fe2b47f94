"""A web app under gunicorn --preload that knows nothing of Haulage but a copy of one file, if FORKSAFE is set.

It is this file and gunicorn's configuration in one: what it does at import it does in gunicorn's own process, once.
"""

import json
import os
from pathlib import Path

from sqlalchemy import create_engine, text

if "FORKSAFE" in os.environ:
    import forksafe  # the copy beside this one

    forksafe.install()

engine = create_engine(os.environ["DATABASE_URL"])
ASK = text(
    "SELECT CAST(:marker AS text), pg_backend_pid() || '@' || extract(epoch FROM backend_start)"
    " FROM pg_stat_get_activity(pg_backend_pid())"
)
TRANSACTION = text("SELECT pg_current_xact_id()::text || ' in ' || pg_backend_pid()")
_open = []


def ask(marker):
    with engine.begin() as connection:
        answer, session = connection.execute(ASK, {"marker": marker}).one()
    return {"process": os.getpid(), "answer": answer, "session": session}


def application(environ, start_response):
    said = json.dumps(ask(environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(said)))])
    return [said]


def when_ready(_server):
    """Begin a transaction that outlasts all workers."""
    connection = engine.connect()
    _open.extend([connection, connection.scalar(TRANSACTION)])


def pre_fork(_server, _worker):
    with Path("parent").open("a") as file:
        file.write(json.dumps(ask("parent")) + "\n")


def on_exit(_server):
    connection, begun = _open
    if connection.scalar(TRANSACTION) == begun:
        connection.commit()
        Path("kept").touch()
