"""Marker queries: each carries a value of its own; who asked, in which session and what came back is written down.

In a sample, which runs in a worker that was started with SAMPLE_DIR=<a directory>:

    from tests.acceptance.samples import fork_markers
    from tests.acceptance.samples.fork_without import app  # our worker, without what WITHOUT names

    fork_markers.mark("parent")              one query through session_scope(), one line in SAMPLE_DIR/marks
    fork_markers.mark("child", engine)       the same through another engine
    fork_markers.mark("child", session)      the same within a session that is open already
    fork_markers.Marking("parent")           a thread that marks all the time, from start() to stop()

    @app.task(name="my.task")                a task of the sample's own, sent by send(3, "my.task", argument)

In a test, which may import this module (it opens nothing, and does not import the worker):

    haulage.start_worker(sample="tests.acceptance.samples.fork_worker", SAMPLE_DIR=str(tmp_path))
    fork_markers.send(40)                    40 tasks for the worker's children, each of which marks as "child"
    marks = fork_markers.read(tmp_path)      all marks so far, oldest first
    fork_markers.problems(marks)             wrong answers and errors, as sentences; must be []
    fork_markers.shared(marks)               sessions and sockets in use that several processes had; must be {}

A process and a session are named by their pid and when they began, since pids come round again.
"""

import json
import os
import secrets
import threading
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import psutil
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from app import database, queue
from tests.acceptance.evidence import port_of, postgres_sockets

MARK = "fork_markers.mark"
ASK = text(
    "SELECT :marker, pg_backend_pid() || '@' || extract(epoch FROM backend_start)"
    " FROM pg_stat_get_activity(pg_backend_pid())"
)


@dataclass(frozen=True)
class Mark:
    """One query, or what went wrong with it."""

    who: str  # the part that the process plays: "child", "parent", "beat", ...
    process: str
    session: str | None  # None if there was no answer
    sockets: list[int]  # the inodes of its sockets towards PostgreSQL when this session first answered
    used: int | None  # the inode of the session's own socket; None if there was no answer
    problem: str  # empty if the answer was right


def mark(who: str, through: Engine | Session | None = None) -> Mark:
    """Ask PostgreSQL for a value of this call's own; write down what came back, an error too. Raises nothing."""
    marker, session, used, problem = secrets.token_hex(8), None, None, ""
    try:
        with _open(through) as asking:
            answer, session = asking.execute(ASK, {"marker": marker}).one()
            used = _socket_of(asking)
        if answer != marker:
            problem = f"wrong answer: {answer!r} for {marker!r}"
    except Exception as error:  # noqa: BLE001  that is what is being looked for
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    process = _this_process()
    made = Mark(who, process, session, _sockets(process, session), used, problem)
    _append(made)
    return made


class Marking(threading.Thread):
    """Marks all the time, until it is stopped or its process ends."""

    def __init__(self, who, through=None):
        super().__init__(daemon=True)
        self._who, self._through, self._over = who, through, threading.Event()

    def run(self):
        while not self._over.is_set():
            mark(self._who, self._through)

    def stop(self):
        self._over.set()
        self.join()


@queue.celery.task(name=MARK)
def mark_in_child(who: str = "child", times: int = 1) -> None:
    for _ in range(times):
        mark(who)


def send(number: int, name: str = MARK, *arguments: object) -> None:
    """Queue a task this many times: the marking one, or another one of the sample's own."""
    for _ in range(number):
        queue.celery.send_task(name, arguments, queue="uploads")


def read(folder: Path, who: str | None = None) -> list[Mark]:
    """Return the marks in that SAMPLE_DIR, oldest first: all, or only those of one part."""
    file = folder / "marks"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    marks = [Mark(**json.loads(line)) for line in lines if line.endswith("\n")]
    return [one for one in marks if who in {None, one.who}]


def problems(marks: Iterable[Mark]) -> list[str]:
    return [f"{one.who} {one.process}: {one.problem}" for one in marks if one.problem]


def shared(marks: Iterable[Mark]) -> dict[str, set[str]]:
    """Return every PostgreSQL session, and every socket of one, that more than one process had, and the processes.

    A socket that nobody asks through does not count: of a connection that was being made at a fork, and that its maker
    therefore threw away, two children may hold the remains.
    """
    marks = list(marks)
    in_use = {one.used for one in marks}
    users: dict[str, set[str]] = {}
    for one in marks:
        things = [f"socket {inode}" for inode in one.sockets if inode in in_use]
        if one.session is not None:
            things.append(f"session {one.session}")
        for thing in things:
            users.setdefault(thing, set()).add(one.process)
    return {thing: processes for thing, processes in users.items() if len(processes) > 1}


@contextmanager
def _open(through):
    if through is None:
        with database.session_scope() as session:
            yield session
    elif isinstance(through, Engine):
        with through.begin() as connection:
            yield connection
    else:
        yield through


def _socket_of(asking: Session | Connection) -> int:
    connection = asking.connection() if isinstance(asking, Session) else asking
    return os.fstat(connection.connection.driver_connection.fileno()).st_ino


def _this_process() -> str:
    this = psutil.Process()
    return f"{this.pid}@{this.create_time()}"


@lru_cache(maxsize=1)
def _sockets(_process: str, _session: str | None) -> list[int]:
    """Look once for each process and session: it takes longer than the query."""
    return sorted(postgres_sockets(os.getpid(), port_of(os.environ["DATABASE_URL"])))


def _append(made: Mark) -> None:
    """One write to a file opened for appending: lines of many processes do not mix."""
    file = os.open(Path(os.environ["SAMPLE_DIR"], "marks"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(asdict(made)).encode() + b"\n")
    finally:
        os.close(file)
