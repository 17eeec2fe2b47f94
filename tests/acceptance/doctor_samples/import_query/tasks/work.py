"""A project whose own packages are called `app` and `tasks`, as ours are."""

import fcntl
import os
import time
from pathlib import Path

from celery import Celery
from sqlalchemy import text

from app.store import engine

celery = Celery("work", broker=os.environ["SAMPLE_BROKER"])
celery.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]


@celery.task(ignore_result=True)
def work():
    """Ask again and again, in turn with the other child: so the connection lives long enough to be watched."""
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
    with Path(os.environ["SAMPLE_DIR"], "lock").open("w") as lock:
        while not Path(os.environ["SAMPLE_DIR"], "stop").exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.03)
