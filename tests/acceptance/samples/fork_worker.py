"""The worker with the marking task. Its parent asked PostgreSQL at import; with PARENT=works it never stops asking."""

import os

from celery import signals

from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_before import use_before_every_fork
from tests.acceptance.samples.fork_without import app  # noqa: F401

fork_markers.mark("parent")  # the classic: a query while modules are imported
_marking = fork_markers.Marking("parent")
if os.environ.get("PARENT") == "works":
    # The thread has its connection out at most forks: let each child find an idle one too.
    use_before_every_fork("parent")


@signals.worker_ready.connect
def begin(**_):
    if os.environ.get("PARENT") == "works":
        _marking.start()


@signals.worker_shutdown.connect
def end(**_):
    if _marking.is_alive():
        _marking.stop()
