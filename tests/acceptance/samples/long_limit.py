"""A worker with a hard time limit, whose parent uses the database when a task has run into it."""

import time

from celery import Task, signals

from app.database import session_scope
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.long_parent import app

app.conf.task_soft_time_limit = None
app.conf.task_time_limit = 1


class Telling(Task):
    def on_failure(self, *_):
        fork_markers.mark("on_failure")

    def after_return(self, *_):
        fork_markers.mark("after_return")


@signals.task_failure.connect
def on_task_failure(**_):
    fork_markers.mark("task_failure")


@app.task(name="long.hang", base=Telling)
def hang():
    with session_scope() as session:
        fork_markers.mark("child", session)
        time.sleep(60)
