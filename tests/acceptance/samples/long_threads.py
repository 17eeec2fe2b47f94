"""A worker with a pool of threads, whose tasks fork while other threads are in the middle of a transaction.

Its connections are made before the first fork: a socket that is being made at a fork nobody can cut in the child.
"""

import os
import threading

from app.database import session_scope
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_without import app

THREADS = 4
TIMES = 5  # marks in each of the two processes after a fork
_all_connected = threading.Barrier(THREADS)


@app.task(name="long.connect")
def connect():
    with session_scope() as session:
        fork_markers.mark("thread", session)
        _all_connected.wait()


@app.task(name="long.fork")
def fork():
    with session_scope() as session:
        fork_markers.mark("thread", session)
        pid = os.fork()
        if pid == 0:
            try:
                session.close()  # what was open at the fork is not this process's to end
                for _ in range(TIMES):
                    fork_markers.mark("forked")
            finally:
                os._exit(0)
        for _ in range(TIMES):
            fork_markers.mark("thread", session)
        os.waitpid(pid, 0)
