"""A checkout guard that lets go of what another process made, as SQLAlchemy's documentation shows it."""

import os
from pathlib import Path

from celery import Celery
from sqlalchemy import create_engine, event, exc, text

app = Celery("sample", broker=os.environ["SAMPLE_BROKER"])
app.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]

engine = create_engine(os.environ["SAMPLE_DATABASE"])


@event.listens_for(engine, "connect")
def note(_connection, record):
    record.info["pid"] = os.getpid()


@event.listens_for(engine, "checkout")
def refuse(_connection, record, proxy):
    if record.info["pid"] != os.getpid():
        record.dbapi_connection = proxy.dbapi_connection = None
        raise exc.DisconnectionError("made by another process")


with engine.connect() as connection:
    connection.execute(text("SELECT 1"))


@app.task(ignore_result=True)
def work():
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
