"""Haulage's one file, copied beside this one by the test; the rest as careless as can be."""

import os
from pathlib import Path

import forksafe
from celery import Celery
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

forksafe.install()

app = Celery("sample", broker=os.environ["SAMPLE_BROKER"])
app.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]

engine = create_engine(os.environ["SAMPLE_DATABASE"], pool_pre_ping=True)
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
Session = scoped_session(sessionmaker(bind=engine))
Session.execute(text("SELECT 1"))


@app.task(ignore_result=True)
def work():
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
