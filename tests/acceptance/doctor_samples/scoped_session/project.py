"""A scoped session that the parent left open: `dispose(close=False)` does not reach what is checked out."""

import os
from pathlib import Path

from celery import Celery, signals
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

app = Celery("sample", broker=os.environ["SAMPLE_BROKER"])
app.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]

engine = create_engine(os.environ["SAMPLE_DATABASE"])
Session = scoped_session(sessionmaker(bind=engine))
Session.execute(text("SELECT 1"))


@signals.worker_process_init.connect
def renew(**_):
    engine.dispose(close=False)


@app.task(ignore_result=True)
def work():
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
    Session.execute(text("SELECT 1"))
    Session.remove()
