# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Haulage developers
"""Runs inside another project's interpreter: its worker, with a probe task that looks for connections which cross a fork.

`haulage doctor --app` copies this file into a temporary directory and has app/forkkeeper.py start it there. It needs
Python 3.8, the standard library and what the project has: Celery 5, and SQLAlchemy 1.4 or newer if it has it. Whatever it
finds it appends, as a line of JSON, to a file. It judges what a process does to a socket, never which recipe it follows.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import pickle
import re
import signal
import socket
import stat
import struct
import sys
import sysconfig
import traceback
import weakref
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROBES, CHILDREN, TASKS_PER_CHILD = 8, 2, 2  # four children: two at the start, two that replace them
BYTES_SENT, TCP_INFO_LENGTH = 200, 232  # of struct tcp_info, linux/tcp.h
ONE_PROCESS = {"solo", "threads", "gevent", "eventlet"}
LOOK_FROM_OUTSIDE = "look at the worker at its work: haulage doctor --pid"
IDLE = 0  # libpq's transaction status
SPEAKS = {
    "do_ping": "a pre-ping",
    "do_execute": "a statement",
    "do_executemany": "a statement",
    "do_execute_no_params": "a statement",
    "do_commit": "a COMMIT",
    "do_rollback": "a ROLLBACK",
    "do_close": "a goodbye",
    "do_terminate": "a goodbye",
}


class Birth:
    """A connection to PostgreSQL: who opened it, where in the code, and as which socket."""

    def __init__(self, connection: Any) -> None:
        self.pid = os.getpid()
        self.fd = _descriptor(connection)
        self.inode = _inode(self.fd)
        self.server = _server(connection)
        self.session = _session(connection)
        self.stack = _stack()
        self.connection: Callable[[], Any] = _reference(connection)
        self.record: Callable[[], Any] = _nobody

    @property
    def is_inherited(self) -> bool:
        """True if another process opened it, and its socket is open here: neither closed nor cut."""
        return self.pid != os.getpid() and self.inode is not None and _inode(self.fd) == self.inode

    @property
    def is_held(self) -> bool:
        """True if code of this process can still reach it as a connection: checked out, or made without a pool."""
        record = self.record()
        if record is not None:
            fairy = record.fairy_ref and record.fairy_ref()
            return _connection_of(record) is not None and fairy is not None and fairy not in _kept
        return self.record is _nobody and self.connection() is not None

    def told(self) -> dict[str, Any]:
        known = {"opened_by": self.pid, "server": self.server, "session": self.session, "socket": self.inode}
        return {**known, "opened_at": self.stack, "pooled": self.record is not _nobody}


state = SimpleNamespace(
    folder=Path(), project="", forks=0, inside=False, patched=set(), tried=set(), at_fork=set()
)
births: dict[int, Birth] = {}  # by inode
engines: weakref.WeakSet[Any] = weakref.WeakSet()
_kept: list[Any] = []  # what the probe itself has checked out, and found to be another process's


def _connection_of(record: Any) -> Any:
    old_name = "connection"  # before SQLAlchemy 1.4.24
    return record.dbapi_connection if hasattr(record, "dbapi_connection") else getattr(record, old_name)


def _nobody() -> None:
    return None


def _reference(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def tell(kind: str, **what: Any) -> None:
    """Append a line to the findings, in one write."""
    line = json.dumps({"kind": kind, "pid": os.getpid(), "fork": state.forks, **what}, default=str)
    with suppress(OSError), Path(state.folder, "findings").open("a") as file:  # it has gone if the doctor has
        file.write(line + "\n")


def _descriptor(connection: Any) -> int:
    with suppress(Exception):  # whatever a driver may say instead of having one
        return int(connection.fileno())
    return -1


def _inode(fd: int) -> int | None:
    with suppress(OSError):
        found = os.fstat(fd)
        if stat.S_ISSOCK(found.st_mode):
            return found.st_ino
    return None


def _server(connection: Any) -> str:
    with suppress(Exception):
        return f"{connection.info.host}:{connection.info.port}"
    return "unknown"


def _session(connection: Any) -> int | None:
    with suppress(Exception):
        return int(connection.info.backend_pid)  # libpq knows it; nothing is asked
    return None


def _stack() -> list[str]:
    """Return the project's own frames, innermost first, as file:line function; everybody's if it has none."""
    stack = traceback.StackSummary.extract(traceback.walk_stack(None), lookup_lines=False)
    frames = [
        (one.filename, f"{_short(one.filename)}:{one.lineno} {one.name}")
        for one in stack
        if one.filename != __file__ and not one.filename.startswith("<")
    ]
    return [text for file, text in frames if _is_the_projects(file)] or [text for _, text in frames[:12]]


def _is_the_projects(file: str) -> bool:
    parts = Path(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(state.folder)}
    return not file.startswith(tuple(f"{one}/" for one in libraries if one))


def _short(file: str) -> str:
    return os.path.relpath(file, state.project) if file.startswith(state.project + "/") else file


# What is watched.


def watch() -> None:
    """Note every connection and engine from here on, and every fork. Before the project is imported."""
    os.register_at_fork(before=_count_fork, after_in_child=_begin_child)
    with suppress(ImportError):
        psycopg2: Any = importlib.import_module("psycopg2")
        psycopg2.connect = _noting(psycopg2.connect)
    with suppress(ImportError):
        psycopg: Any = importlib.import_module("psycopg")
        # Through its function, so that a subclass still makes connections of its own kind.
        psycopg.Connection.connect = classmethod(_noting(psycopg.Connection.connect.__func__))
        psycopg.connect = psycopg.Connection.connect
    with suppress(ImportError):
        event = importlib.import_module("sqlalchemy.event")
        event.listen(importlib.import_module("sqlalchemy.pool").Pool, "connect", _note_pooled)
        # Not __init__: create_engine() reads the names of its arguments.
        importlib.import_module("sqlalchemy.engine").Engine.__new__ = _new_engine


def _count_fork() -> None:
    state.forks += 1


def _begin_child() -> None:
    _end_with_parent()
    state.at_fork = set(_sockets().values())


def _sockets() -> dict[int, int]:
    found = ((int(one), _inode(int(one))) for one in os.listdir("/proc/self/fd"))  # noqa: PTH208
    return {fd: inode for fd, inode in found if inode is not None}


def _noting(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def noting(*arguments: Any, **options: Any) -> Any:
        made = connect(*arguments, **options)
        _note(made)
        return made

    return noting


def _new_engine(kind: type, *_: Any, **_options: Any) -> Any:
    made: Any = object.__new__(kind)
    engines.add(made)
    return made


def _note(connection: Any) -> Birth:
    birth = Birth(connection)
    if birth.inode is not None:
        births[birth.inode] = birth
    return birth


def _note_pooled(connection: Any, record: Any) -> None:
    driver_connection = getattr(record, "driver_connection", connection)
    dialect = record._ConnectionRecord__pool._dialect  # noqa: SLF001  there is no public way
    if dialect.name == "postgresql":
        birth = births.get(_inode(_descriptor(driver_connection)) or 0)
        if birth is None or birth.pid != os.getpid():
            birth = _note(driver_connection)
        birth.record = weakref.ref(record)
        _watch_dialect(type(dialect))


def _watch_dialect(dialect: type) -> None:
    """Wrap what writes to the server. These methods come after every listener: a guard that cuts or refuses comes first."""
    for one in set(dialect.__mro__) - state.patched - {object}:
        state.patched.add(one)
        for name in SPEAKS.keys() & vars(one).keys():
            setattr(one, name, _heard(vars(one)[name], SPEAKS[name]))


def _heard(method: Callable[..., Any], said: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def heard(dialect: Any, thing: Any, *arguments: Any, **options: Any) -> Any:
        birth = None if state.inside else _inherited_under(thing)
        if birth is None:
            return method(dialect, thing, *arguments, **options)
        state.inside = True
        spare = os.dup(birth.fd)  # after a goodbye there is no other way to the counters
        sent, busy = _bytes_sent(spare), _is_busy(thing)
        try:
            return method(dialect, thing, *arguments, **options)
        finally:
            state.inside = False
            # Unix-domain sockets count nothing; but drivers end no transaction that is none.
            spoke = _bytes_sent(spare) > sent if sent >= 0 else busy or said not in {"a COMMIT", "a ROLLBACK"}
            os.close(spare)
            if spoke:
                tell("spoke", said=said, said_at=_stack(), connection=birth.told())

    return heard


def _driver_connection(thing: Any) -> Any:
    """Return the driver's connection under a cursor, a pool's proxy, an adapter or itself."""
    thing = getattr(thing, "dbapi_connection", thing)
    for name in ("driver_connection", "connection"):
        if not hasattr(thing, "fileno"):
            thing = getattr(thing, name, thing)
    return thing


def _inherited_under(thing: Any) -> Birth | None:
    birth = births.get(_inode(_descriptor(_driver_connection(thing))) or 0)
    return birth if birth and birth.is_inherited else None


def _is_busy(thing: Any) -> bool:
    with suppress(Exception):
        return bool(_driver_connection(thing).info.transaction_status != IDLE)
    return True


def _bytes_sent(fd: int) -> int:
    """Return how many bytes went out on this TCP socket, from whichever process; -1 if the kernel does not count them."""
    with suppress(OSError, struct.error), socket.socket(fileno=os.dup(fd)) as one:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_LENGTH)
        return int(struct.unpack_from("=Q", info, BYTES_SENT)[0])
    return -1


# The probe task.


def look() -> None:
    """In a child: tell which inherited connections are within reach, and what the project's own engines hand out."""
    with (state.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one child at a time: without TLS two on one connection may hang
        gc.collect()  # it would come by itself: a Session that nobody holds any more rolls back then
        held = [birth.told() for birth in list(births.values()) if birth.is_inherited and birth.is_held]
        tried = [_try(engine) for engine in list(engines) if _is_ours(engine)]
        left = [birth.told() for birth in list(births.values()) if birth.is_inherited]
    tell("looked", held=held, left=left, tried=tried, strangers=_strangers())


def _strangers() -> list[dict[str, Any]]:
    """Return the inherited connections to PostgreSQL that no driver we watch has made."""
    ports = {
        5432,
        6432,
        *(engine.url.port for engine in list(engines) if engine.dialect.name == "postgresql"),
    }
    found = []
    for fd, inode in _sockets().items():
        if inode in state.at_fork and inode not in births:
            with suppress(OSError), socket.socket(fileno=os.dup(fd)) as one:
                peer = one.getpeername()
                if isinstance(peer, tuple) and peer[1] in ports:
                    known = {"opened_by": 0, "server": f"{peer[0]}:{peer[1]}", "socket": inode}
                    found.append({**known, "opened_at": [], "pooled": False})
    return found


def _is_ours(engine: Any) -> bool:
    asynchronous = getattr(engine.dialect, "is_async", False)
    return engine.dialect.name == "postgresql" and not asynchronous and id(engine.pool) not in state.tried


def _try(engine: Any) -> dict[str, Any]:
    """Check out as many connections as lie in the pool, at least one, and look whose they are."""
    state.tried.add(id(engine.pool))
    url = engine.url
    told: dict[str, Any] = {"engine": f"{url.host or ''}:{url.port or ''}/{url.database or ''}", "handed": []}
    own = []
    try:
        for _ in range(min(max(1, _idle(engine.pool)), 20)):
            fairy = engine.raw_connection()
            if _descriptor(_driver_connection(fairy)) < 0:
                _kept.append(fairy)
                told["error"] = f"its driver does not tell its sockets; {LOOK_FROM_OUTSIDE}"
                break
            birth = _inherited_under(fairy)
            if birth:
                told["handed"].append(birth.told())
                _kept.append(fairy)  # given back it would be reset, and that may speak
            else:
                own.append(fairy)
                told["session"] = _ask(fairy)
    except Exception as error:  # noqa: BLE001  the project's database may answer anything
        said = str(error).strip().partition("\n")[0]
        told["error"] = without_passwords(f"{type(error).__name__}: {said}")
    for fairy in own:
        fairy.close()
    return told


def _idle(pool: Any) -> int:
    with suppress(AttributeError, NotImplementedError):
        return int(pool.checkedin())
    return 1


def _ask(fairy: Any) -> int:
    cursor = fairy.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    session = cursor.fetchone()[0]
    cursor.close()
    fairy.rollback()
    return int(session)


# The worker.


def main() -> None:
    folder, token, name, project, pipe = sys.argv[1:]
    state.folder, state.project = Path(folder), project
    _end_with_parent()
    watch()
    if os.environ.get("BROKER_URL"):  # Celery's command reads it, but only when it starts the worker
        os.environ["CELERY_BROKER_URL"] = os.environ["BROKER_URL"]
    options = ["worker", "-P", "prefork", "-c", str(CHILDREN), "--max-tasks-per-child", str(TASKS_PER_CHILD)]
    options += ["-Q", token, "-n", f"{token}@%h", "-l", "INFO"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    sys.argv = ["celery", "-A", name, *options]
    sys.path[:] = [project, *(one for one in sys.path if one and Path(one) != state.folder)]
    app = _find(name)
    try:
        _isolate(app, token)
        task = _probe_task(app, token)
        broker = _broker(app, int(pipe))
    except Exception as error:  # noqa: BLE001  of whatever library; its text may quote the broker's URL
        tell("refused", why="settings", error=type(error).__name__)
        raise SystemExit(3) from None
    tell("imported", broker=broker, connections=[one.told() for one in births.values()])
    if sys.stdin.readline() == "go\n":
        signals = importlib.import_module("celery.signals")
        send = functools.partial(_send, task, token)
        signals.worker_ready.connect(send, weak=False)
        app.worker_main(options)


def _find(name: str) -> Any:
    """Find the app as `celery -A` does, or tell why not and end."""
    utils, base = importlib.import_module("celery.app.utils"), importlib.import_module("celery")
    module, colon, attribute = name.partition(":")
    try:
        if colon and not hasattr(importlib.import_module(module), attribute.split(".")[0]):
            raise AttributeError(f"module {module} has no attribute {attribute}")  # noqa: TRY301
        found = utils.find_app(name)
    except BaseException as error:  # noqa: BLE001  SystemExit too
        lines = str(error).strip().splitlines() or [""]
        tell(
            "refused",
            why="import",
            error=without_passwords(f"{type(error).__name__}: {lines[-1]}"),
            at=_where(error),
        )
        raise SystemExit(3) from None
    if not isinstance(found, base.Celery):
        is_task = isinstance(found, importlib.import_module("celery.app.task").Task)
        tell("refused", why="no app", error=f"{name} is a {'task' if is_task else type(found).__name__}")
        raise SystemExit(3)
    return found


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename != __file__]
    mine = [one for one in frames if _is_the_projects(one.filename) and not one.filename.startswith("<")]
    return f"{_short(mine[-1].filename)}:{mine[-1].lineno}" if mine else ""


def without_passwords(text: str) -> str:
    text = re.sub(r"://\S*@", "://***@", text)  # there may be slashes in them
    named = r"(?i)\b(password|passwd|pwd)(['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;&]+)"
    return re.sub(named, r"\1\2***", text)


def _isolate(app: Any, token: str) -> None:
    """Keep this worker to its own queue, its own keys and itself."""
    if app.conf.get("worker_pool_start_method") == "spawn":
        tell("refused", why="spawn")
        raise SystemExit(3)
    if app.conf.get("worker_pool") in ONE_PROCESS:
        tell("refused", why="pool", error=app.conf.get("worker_pool"))
        raise SystemExit(3)
    app.conf.update(
        worker_pool="prefork",
        worker_proc_alive_timeout=max(30, app.conf.get("worker_proc_alive_timeout") or 0),
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_state_db=None,
        worker_disable_rate_limits=True,
        task_send_sent_event=False,
        task_always_eager=False,
        task_routes=None,
        task_time_limit=None,
        task_soft_time_limit=None,
        worker_direct=False,
        broker_connection_retry_on_startup=False,
    )
    step = importlib.import_module("celery.bootsteps").ConsumerStep  # would read the project's own queues
    steps = app.steps["consumer"]
    steps -= {one for one in steps if isinstance(one, type) and issubclass(one, step)}
    if re.search("redis|valkey|sentinel", str(app.connection_for_write().transport_cls)):
        keys = {f"unacked{one}_key": f"{token}.unacked{one}" for one in ("", "_index", "_mutex")}
        chosen = {**app.conf.broker_transport_options, **keys, "global_keyprefix": f"{token}."}
        app.conf.broker_transport_options = chosen


def _probe_task(app: Any, token: str) -> Any:
    kombu, base = importlib.import_module("kombu"), importlib.import_module("celery.app.task")
    exchange = kombu.Exchange(token, type="direct")
    app.amqp.flush_routes()
    app.amqp.router = app.amqp.Router()  # the project may have made one, with its routes, at its import
    app.amqp.queues.add(kombu.Queue(token, exchange, routing_key=token))
    make = app.task(
        name=f"{token}.look",
        base=base.Task,  # and not the project's, which may do anything around a task
        ignore_result=True,
        store_errors_even_if_ignored=False,
        acks_late=False,
    )
    return make(look)


def _broker(app: Any, pipe: int) -> str:
    """Try the broker, hand the way to it to the keeper (who clears up after us), and return it without its password."""
    with app.connection_for_write() as connection, os.fdopen(pipe, "wb") as keeper:
        shown = without_passwords(connection.as_uri())
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except Exception as error:  # noqa: BLE001  every transport has errors of its own
            lines = str(error).strip().splitlines() or [type(error).__name__]
            tell("refused", why="broker", error=without_passwords(lines[-1]), at=shown)
            raise SystemExit(3) from None
        connection.transport_options = {
            name: value for name, value in connection.transport_options.items() if _can_be_sent(value)
        }
        with suppress(Exception):
            keeper.write(pickle.dumps(connection))
    return shown


def _can_be_sent(value: Any) -> bool:
    try:
        return bool(pickle.dumps(value))
    except Exception:  # noqa: BLE001  pickle has no single error for this
        return False


def _send(task: Any, token: str, **_: Any) -> None:
    for _number in range(PROBES):
        task.apply_async(queue=token, exchange=token, routing_key=token)
    tell("ready")


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it has died."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which a fork forgets


if __name__ == "__main__":
    main()
