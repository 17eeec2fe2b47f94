"""A task that forks, in the ways that users know, while it has one session in a transaction and an idle connection."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import billiard
from celery import signals
from sqlalchemy import text

from app.database import session_scope
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_without import app

NOTE = text(
    "INSERT INTO corporate.upload_events (corp_index, upload_id, kind, attempt)"
    " SELECT corp_index, id, 'noted by the child', 0 FROM corporate.uploads LIMIT 1"
)


@signals.worker_process_init.connect
def write_down(**_):
    with Path(os.environ["SAMPLE_DIR"], "initialised").open("a") as file:
        file.write(f"{os.getpid()}\n")


def by_os_fork():
    pid = os.fork()
    if pid == 0:
        fork_markers.mark("grandchild")
        os._exit(0)
    os.waitpid(pid, 0)


def by_billiard():
    process = billiard.Process(target=fork_markers.mark, args=("grandchild",))
    process.start()
    process.join()


def by_multiprocessing():
    process = multiprocessing.get_context("fork").Process(target=fork_markers.mark, args=("grandchild",))
    process.start()
    process.join()


def by_an_executor():
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        executor.submit(fork_markers.mark, "grandchild").result()


@app.task(name="fork_in_task.fork")
def fork():
    # Celery's children are daemons, which may have no children by multiprocessing's rules; this is how they get them.
    multiprocessing.current_process()._config["daemon"] = False
    with session_scope() as session:
        session.execute(NOTE)
        for fork_once in (by_os_fork, by_billiard, by_multiprocessing, by_an_executor):
            fork_markers.mark("child")  # in the pool's other connection, which is idle when the fork comes
            fork_once()
            fork_markers.mark("child", session)
    fork_markers.mark("child")
