"""`dispose()` in the child, as everybody copies it: it says goodbye over the parent's own connection."""

import os
from pathlib import Path

from celery import Celery, signals
from sqlalchemy import create_engine, text

app = Celery("sample", broker=os.environ["SAMPLE_BROKER"])
app.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]

engine = create_engine(os.environ["SAMPLE_DATABASE"])
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))


@signals.worker_process_init.connect
def renew(**_):
    engine.dispose()


@app.task(ignore_result=True)
def work():
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
