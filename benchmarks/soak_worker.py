"""The soak's worker: Haulage's own, with a parent that never rests and tasks that leave a mark for each transaction.

Started by benchmarks.soak, which reads the ledger: a line for whatever any of the worker's processes has lived through.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from celery import signals
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import database, forksafe

if "SOAK_UNGUARDED" in os.environ:  # the control: every safeguard against the fork is taken out
    forksafe.install = forksafe.dispose_all = lambda: None
    database.renew_in_child = database.dispose = lambda: None
    forksafe.inherited = lambda: 0

from app.database import session_scope
from tasks.worker import app

ROLES = ("parent", "child", "grandchild")
TICK_SECONDS = 0.02
FORKS_IN_A_TRANSACTION = 20  # an open transaction of the parent lasts for as many
OPEN_SECONDS = 5.0  # or so long, when there are few: sessions that idle in a transaction are ended after 15 s
ANSWER = text("SELECT CAST(:marker AS text)")
NOTE = text(
    "INSERT INTO corporate.soak_marks (process, session, marker)"
    " SELECT :process, pid || '.' || extract(epoch FROM backend_start), :marker"
    " FROM pg_stat_get_activity(pg_backend_pid()) RETURNING session, marker"
)

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(
        1, signal.SIGKILL
    )  # PR_SET_PDEATHSIG: a soak that is killed leaves no worker behind

_ledger = os.open(Path(os.environ["SOAK_DIR"], "ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_me = SimpleNamespace(depth=0, process=f"{os.getpid()}.{time.time_ns()}", forks=0)
_open: dict[str, Any] = {}


def tell(*event: object) -> None:
    line = "\t".join(str(one).replace("\n", " ") for one in event)
    os.write(_ledger, f"{line}\n".encode())  # one write, appended: the lines of several processes do not mix


def before_fork() -> None:
    _me.forks += 1
    tell("fork", ROLES[_me.depth + 1])


def after_fork_in_child() -> None:
    """Show to who looks from outside that all fork hooks have run: this one was registered last, and runs last."""
    _me.depth, _me.process = _me.depth + 1, f"{os.getpid()}.{time.time_ns()}"
    Path("/proc/self/comm").write_text(f"soak-{ROLES[_me.depth]}")


def note(session: Session, marker: str) -> list[object]:
    """Do one transaction's work; return its line for the ledger, to be written when it is committed."""
    answer = session.scalar(ANSWER, {"marker": marker})
    used, echo = session.execute(NOTE, {"process": _me.process, "marker": marker}).one()
    if not answer == echo == marker:
        tell("wrong", ROLES[_me.depth], marker, answer, echo)
    return ["done", ROLES[_me.depth], _me.process, used, marker]


def transact(marker: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    try:
        with session_scope() as session:
            line = note(session, marker)
            meanwhile()
        tell(*line)
    except Exception as error:
        tell("error", ROLES[_me.depth], getattr(error, "orig", None) or error)
        raise


def work(marker: str, grandchild: bool) -> None:
    """One transaction; if asked for, a process forked in the middle of it does two of its own."""
    if grandchild:
        transact(marker, fork_and_wait)
    else:
        transact(marker)


def fork_and_wait() -> None:
    pid = os.fork()
    if pid == 0:
        work_as_grandchild()
    status = os.waitpid(pid, 0)[1]
    if status:
        tell("error", "grandchild", f"it ended with {os.waitstatus_to_exitcode(status)}")


def work_as_grandchild() -> None:
    try:
        transact(uuid4().hex)
        transact(uuid4().hex)
        database.dispose()
    finally:
        os._exit(0)


def parent_works() -> None:
    """Do a transaction now, and keep another open for many forks. All in the thread that forks."""
    transact(uuid4().hex)
    if not _open:
        session = Session(database.engine())
        tell("begun")
        _open.update(
            session=session, forks=_me.forks, since=time.monotonic(), line=note(session, uuid4().hex)
        )
    elif (
        _me.forks - _open["forks"] >= FORKS_IN_A_TRANSACTION
        or time.monotonic() - _open["since"] > OPEN_SECONDS
    ):
        end_open_transaction()


def end_open_transaction(**_: object) -> None:
    if not _open:
        return
    session, line, forks = _open["session"], _open["line"], _me.forks - _open["forks"]
    _open.clear()
    try:
        session.commit()
        tell("kept", forks)
        tell(*line)
    except Exception as error:  # noqa: BLE001  what became of it is what is measured
        tell("lost", getattr(error, "orig", None) or error)
    finally:
        session.close()


def begin(sender: Any, **_: object) -> None:
    sender.hub.call_repeatedly(TICK_SECONDS, parent_works)


def warm_the_pool(**_: object) -> None:
    """Run after Haulage's own receiver has closed what was idle: the fork finds a connection all the same."""
    transact(uuid4().hex)


os.register_at_fork(before=before_fork, after_in_child=after_fork_in_child)
signals.worker_ready.connect(begin, weak=False)
signals.worker_before_create_process.connect(warm_the_pool, weak=False)
signals.worker_shutdown.connect(end_open_transaction, weak=False)
app.task(name="soak.work")(work)
