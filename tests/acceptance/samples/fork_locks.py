"""A parent and a child that hold locks, and a process forked in a task: it lives on when both are killed."""

import os
import signal
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import database
from tests.acceptance.samples.fork_without import app

OF_PARENT, OF_CHILD = 1, 2  # keys of advisory locks, and places in the order of uploads
ROW = text(
    "SELECT 1 FROM corporate.uploads WHERE id ="
    " (SELECT id FROM corporate.uploads ORDER BY id LIMIT 1 OFFSET :place - 1) FOR UPDATE"
)


def take_locks(number):
    session = Session(database.engine())
    session.execute(text("SET idle_in_transaction_session_timeout = 0"))  # it would free them, later
    session.execute(text("SELECT pg_advisory_lock(:key)"), {"key": number})
    session.execute(ROW, {"place": number}).one()
    return session


def say(name):
    draft = Path(os.environ["SAMPLE_DIR"], f"{name}.draft")
    draft.write_text(str(os.getpid()))
    draft.rename(draft.with_suffix(""))  # the pid is there as soon as the file is


_held = take_locks(OF_PARENT)


@app.task(name="fork_locks.hold")
def hold():
    held = take_locks(OF_CHILD)
    if os.fork() == 0:
        say("helper")
        while True:
            signal.pause()
    say("child")
    time.sleep(600)
    held.close()
