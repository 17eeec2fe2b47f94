"""Real forks over TLS; beside each safeguard the same steps without it, which must fail by name."""

import ctypes
import functools
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import AssertionPool, NullPool, Pool, QueuePool, SingletonThreadPool, StaticPool

from app import forksafe
from local.servers import Servers

KNOWN = (
    "bad record mac",  # "decryption failed or bad record mac", or the alert that the server sends about it
    "EOF detected",
    "SSL connection has been closed unexpectedly",  # what Engine.dispose() in a child does to its parent
)
BARE_FORK = ctypes.PyDLL(None).fork  # fork(2) as a C library would call it: Python's hooks do not run

beside_a_control = pytest.mark.parametrize("safe", [True, False], ids=["installed", "control"])


@pytest.fixture
def url(servers: Servers) -> str:
    return (
        make_url(servers.owner_url)
        .set(drivername="postgresql+psycopg2")
        .render_as_string(hide_password=False)
    )


@pytest.fixture(scope="module", autouse=True)
def clean_process() -> Iterator[None]:
    """A process that never installed anything: the scenarios are its children, since install() is for life."""
    command, root = [sys.executable, "-m", __name__], Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, cwd=root) as process:
        CLEAN.append(process)
        yield
        CLEAN.clear()


CLEAN: list["subprocess.Popen[str]"] = []


def alone(test: Callable[..., None]) -> Callable[..., None]:
    """Run the body in a fresh process; with safe=True it must not say a word."""

    @functools.wraps(test)
    def run(**case: Any) -> None:
        with tempfile.NamedTemporaryFile("r") as said:
            print(json.dumps([test.__name__, case, said.name]), file=CLEAN[0].stdin, flush=True)
            code = CLEAN[0].stdout.readline()  # type: ignore[union-attr]
            words = said.read()
        assert code == "0\n", words or f"ended with {code}"
        assert not (case.get("safe") and words), words

    return run


def serve() -> None:
    """Be the clean process: one child for each scenario asked for."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            play(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def play(name: str, case: dict[str, Any], words: str) -> None:
    os.dup2(os.open(words, os.O_WRONLY), 2)
    signal.alarm(60)
    try:
        globals()[name].__wrapped__(**case)
    except BaseException:  # noqa: BLE001  the test that asked reports it
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def fork(work: Callable[[], Any], forker: Callable[[], int] = os.fork) -> Callable[[], Any]:
    """Start the work in a child; the answer waits for it and gives what it returned, or raises what it said."""
    reader, writer = os.pipe()
    pid = forker()
    if pid == 0:
        signal.alarm(30)  # a child that hangs is a failure, not a wait
        try:
            answer = json.dumps({"value": work()})
        except BaseException:  # noqa: BLE001  the parent tells it
            answer = json.dumps({"error": traceback.format_exc()})
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    return functools.partial(_answer, pid, reader)


def _answer(pid: int, reader: int) -> Any:
    with os.fdopen(reader) as pipe:
        said = json.loads(pipe.read() or '{"error": "the child was killed"}')
    os.waitpid(pid, 0)
    if "error" in said:
        raise RuntimeError(said["error"])
    return said["value"]


def in_child(work: Callable[[], Any], forker: Callable[[], int] = os.fork) -> Any:
    return fork(work, forker)()


def ask(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def ask_raw(engine: Engine) -> int:
    connection = engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    answer = cursor.fetchone()
    connection.close()
    return int(answer[0])  # type: ignore[index]


def warm(engine: Engine, size: int = 2) -> set[int]:
    """Leave this many idle connections in the pool."""
    connections = [engine.connect() for _ in range(size)]
    pids = {connection.execute(text("SELECT pg_backend_pid()")).scalar_one() for connection in connections}
    for connection in connections:
        connection.close()
    return pids


def errors_of(*steps: Callable[[], Any]) -> list[str]:
    errors = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001  what went wrong is the result
            errors.append(str(error))
    return errors


def each(*steps: Callable[[], object]) -> None:
    for step in steps:
        step()


def judge(errors: list[str], *, safe: bool) -> None:
    if safe:
        assert errors == [], errors
    else:
        assert any(name in error for error in errors for name in KNOWN), errors


def install_if(safe: bool) -> None:
    if safe:
        forksafe.install()


def server_sockets(port: int | None) -> list[Path]:
    """The descriptors of this process that are TCP connections to the server."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in _lines(f"/proc/self/net/{table}")]
    inodes = {f"socket:[{line[9]}]" for line in lines if int(line[2].rpartition(":")[2], 16) == port}
    return [entry for entry in Path("/proc/self/fd").iterdir() if _target(entry) in inodes]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[1:] if Path(path).exists() else []


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""  # the descriptor that listed the directory


@beside_a_control
@alone
def test_idle_connections_stay_the_parents(url: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url)
    warm(engine)

    errors = errors_of(lambda: in_child(lambda: [ask(engine) for _ in range(4)]))
    errors += errors_of(*[lambda: ask(engine)] * 4)

    judge(errors, safe=safe)


@beside_a_control
@alone
def test_an_engine_used_through_raw_connections_alone_is_covered(url: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url)
    ask_raw(engine)

    errors = errors_of(lambda: in_child(lambda: ask_raw(engine)), lambda: ask_raw(engine))

    judge(errors, safe=safe)


@beside_a_control
@alone
def test_every_engine_is_covered_also_one_made_before_install(url: str, safe: bool) -> None:
    early = create_engine(url)
    ask(early)
    install_if(safe)
    late = create_engine(url)
    ask(late)

    errors = errors_of(lambda: in_child(lambda: ask(early)), lambda: ask(early))
    more = errors_of(lambda: in_child(lambda: ask(late)), lambda: ask(late))

    judge(errors, safe=safe)
    judge(more, safe=safe)


POOLS: dict[str, type[Pool]] = {
    pool.__name__: pool for pool in (AssertionPool, NullPool, SingletonThreadPool, StaticPool)
}


@beside_a_control
@pytest.mark.parametrize("pool", POOLS)
@alone
def test_every_kind_of_pool_is_covered_while_its_connection_is_out(url: str, pool: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url, poolclass=POOLS[pool])
    mine = engine.connect()
    mine.execute(text("SELECT 1"))

    errors = errors_of(lambda: in_child(lambda: each(mine.close, lambda: ask(engine))))
    errors += errors_of(lambda: mine.execute(text("SELECT 1")), mine.close, lambda: ask(engine))

    judge(errors, safe=safe)


# What a child may do with what it inherited: a pool, a scoped session in a transaction, and the engine.
ENDINGS: dict[str, Callable[[Engine, "scoped_session[Session]"], object]] = {
    "remove": lambda _engine, sessions: sessions.remove(),
    "close": lambda _engine, sessions: sessions().close(),
    "roll back": lambda _engine, sessions: sessions().rollback(),
    "collect": lambda _engine, sessions: each(sessions.registry.clear, gc.collect),
    "dispose": lambda engine, _sessions: engine.dispose(),
    "use": lambda _engine, sessions: errors_of(lambda: sessions.execute(text("SELECT 1"))),
}


@beside_a_control
@pytest.mark.parametrize("ending", ENDINGS)
@alone
def test_an_open_transaction_outlives_whatever_a_child_does(url: str, ending: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url)
    table = new_table(engine)
    warm(engine)
    sessions = scoped_session(sessionmaker(bind=engine))
    sessions.execute(text(f"INSERT INTO {table} VALUES (1)"))

    def work() -> None:
        ENDINGS[ending](engine, sessions)
        sessions.remove()
        sessions.execute(text(f"INSERT INTO {table} VALUES (2)"))
        sessions.commit()

    errors = errors_of(lambda: in_child(work), sessions.commit, lambda: ask(engine))

    judge(errors, safe=safe)
    assert not safe or rows(engine, table) == [1, 2]


KINDS: dict[str, Callable[[Engine], Any]] = {"Session": Session, "Connection": Connection}
USES: dict[str, Callable[[Any], object]] = {
    "execute": lambda opened: opened.execute(text("SELECT 1")),
    "commit": lambda opened: opened.commit(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
@alone
def test_what_was_open_at_the_fork_says_in_the_child_why_it_cannot_be_used(
    url: str, kind: str, use: str
) -> None:
    forksafe.install()
    engine = create_engine(url)
    opened = KINDS[kind](engine)
    opened.begin()
    parent = opened.execute(text("SELECT pg_backend_pid()")).scalar()

    def try_it() -> int:
        with pytest.raises(SQLAlchemyError, match="open when its process was forked"):
            USES[use](opened)
        opened.close()
        return ask(engine)

    assert in_child(try_it) != parent
    assert opened.execute(text("SELECT pg_backend_pid()")).scalar() == parent
    opened.commit()


@alone
def test_a_clock_that_is_set_back_after_a_fork_refuses_nobody(url: str) -> None:
    forksafe.install()
    engine = create_engine(url)
    in_child(lambda: ask(engine))
    now = time.time
    time.time = lambda: now() - 100  # type: ignore[assignment]

    assert ask(engine)


def new_table(engine: Engine) -> str:
    table = f"forks_{os.getpid()}_{time.monotonic_ns()}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {table} (n int)"))
    return table


def rows(engine: Engine, table: str) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT n FROM {table} ORDER BY n")).scalars())


@beside_a_control
@alone
def test_over_tls_too_a_process_may_get_anothers_row(url: str, safe: bool) -> None:
    """While one waits for its answer another asks: the first record that comes is in order for either of them."""
    install_if(safe)
    seen: set[str] = set()
    for _ in range(3 if safe else 40):
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        ask(engine)
        waiting = fork(functools.partial(echo, engine, after=0, lasting=0.2))
        asking = fork(functools.partial(echo, engine, after=0.05, lasting=0))
        seen |= set(outcomes(waiting, asking))
        if "another's row" in seen:
            break

    assert seen == {"right"} if safe else "another's row" in seen


def echo(engine: Engine, after: float, lasting: float) -> str:
    """Ask for this process's number, and say whether that is what came."""
    time.sleep(after)
    statement = text("SELECT CAST(:number AS text) || pg_sleep(:lasting)")
    with engine.connect() as connection:
        got = connection.execute(statement, {"number": os.getpid(), "lasting": lasting}).scalar_one()
    return "right" if got == str(os.getpid()) else "another's row"


def outcomes(*answers: Callable[[], str]) -> Iterator[str]:
    for answer in answers:
        try:
            yield answer()
        except RuntimeError:
            yield "failed"


@beside_a_control
@alone
def test_a_grandchild_is_covered_too(url: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url)
    warm(engine)

    def child() -> None:
        ask(engine)
        in_child(lambda: ask(engine))
        ask(engine)

    errors = errors_of(lambda: in_child(child), lambda: ask(engine), lambda: ask(engine))

    judge(errors, safe=safe)


@beside_a_control
@alone
def test_every_process_has_server_sessions_of_its_own(url: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url)
    parents = warm(engine)

    children = [in_child(lambda: ask(engine)) for _ in range(3 if safe else 1)]

    assert parents.isdisjoint(children) is safe
    assert len(set(children)) == len(children)


@beside_a_control
@alone
def test_a_child_holds_no_socket_of_its_parents(url: str, safe: bool) -> None:
    install_if(safe)
    port = make_url(url).port
    engine = create_engine(url)
    warm(engine)
    busy = engine.connect()

    held = in_child(lambda: len(server_sockets(port)))

    assert len(server_sockets(port)) == 2
    assert held == (0 if safe else 2)
    busy.close()


@beside_a_control
@alone
def test_a_killed_parent_frees_its_locks_though_its_child_lives(url: str, safe: bool) -> None:
    key, connected = time.monotonic_ns(), os.pipe()
    parent = os.fork()
    if parent == 0:
        install_if(safe)
        holder = create_engine(url).connect()
        holder.execute(text(f"SELECT pg_advisory_lock({key})"))
        child = os.fork()
        if child != 0:
            os.write(connected[1], str(child).encode())
        signal.pause()
    child = int(os.read(connected[0], 20))

    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    outside = psycopg2.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    freed = lock_is_free(outside, key, patience=20 if safe else 1)
    os.kill(child, signal.SIGKILL)

    assert freed is safe
    assert lock_is_free(outside, key, patience=20)


def lock_is_free(connection: Any, key: int, patience: float) -> bool:
    end = time.monotonic() + patience
    with connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (key,))
            if cursor.fetchone()[0]:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (key,))
                return True
            time.sleep(0.02)
    return False


# Ways to reach an inherited idle connection; all but the first touch it before the pool asks its checkout listeners.
REACHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "pre-ping": {"pool_pre_ping": True},
    "recycle": {"pool_recycle": 0},
}


@beside_a_control
@pytest.mark.parametrize("reach", REACHES)
@alone
def test_where_no_hook_runs_the_guard_alone_keeps_idle_connections_apart(
    url: str, reach: str, safe: bool
) -> None:
    install_if(safe)
    engine = create_engine(url, **REACHES[reach])
    made = connections_of(engine)
    ask(engine)

    errors = errors_of(lambda: in_child(lambda: [ask(engine) for _ in range(4)], BARE_FORK))
    errors += errors_of(lambda: ping(made[-1]))

    judge(errors, safe=safe)


@beside_a_control
@pytest.mark.parametrize("ending", ["dispose", "collect"])
@alone
def test_where_no_hook_runs_a_goodbye_does_not_reach_the_server(url: str, ending: str, safe: bool) -> None:
    install_if(safe)
    engine = create_engine(url)
    made = connections_of(engine)
    sessions = scoped_session(sessionmaker(bind=engine))
    warm(engine)
    sessions.execute(text("SELECT 1"))

    def work() -> None:
        logging.disable(logging.CRITICAL)  # the pool reports that its ROLLBACK reached nobody
        ENDINGS[ending](engine, sessions)

    errors = errors_of(lambda: in_child(work, BARE_FORK))
    errors += errors_of(*[functools.partial(ping, connection) for connection in made])

    judge(errors, safe=safe)


def connections_of(engine: Engine) -> list[Any]:
    """The driver's connections of the engine, past its pool, which hides what happened to them."""
    made: list[Any] = []
    event.listen(engine, "connect", lambda connection, _record: made.append(connection))
    return made


def ping(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@alone
def test_the_check_counts_what_is_inherited_until_it_is_refused(url: str) -> None:
    forksafe.install()
    engine = create_engine(url)
    warm(engine)

    def unhooked() -> list[int]:
        before = forksafe.inherited()
        each(lambda: ask(engine), lambda: ask(engine))
        return [before, forksafe.inherited()]

    def renewed() -> int:
        engine.dispose(close=False)
        gc.collect()
        return forksafe.inherited()

    assert forksafe.inherited() == 0
    assert in_child(forksafe.inherited) == 0
    assert in_child(unhooked, BARE_FORK) == [2, 0]
    assert in_child(renewed, BARE_FORK) == 2  # nobody uses their sockets any more, but they are there


@alone
def test_a_stranger_that_got_the_number_of_a_closed_socket_is_not_cut(url: str) -> None:
    forksafe.install()
    engine = create_engine(url)
    connection = engine.raw_connection()
    number = connection.fileno()
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), number)

    in_child(lambda: os.write(number, b"heard"))

    ours.setblocking(False)
    assert ours.recv(5) == b"heard"


@alone
def test_installing_twice_changes_nothing(url: str) -> None:
    registered: list[object] = []
    os.register_at_fork = lambda **hooks: registered.append(hooks)

    forksafe.install()
    forksafe.install()

    assert len(registered) == 1


@alone
def test_a_sqlalchemy_that_cannot_be_guarded_is_refused() -> None:
    forksafe._ConnectionRecord = type("_ConnectionRecord", (), {})  # type: ignore[misc]  as in 1.4.23

    with pytest.raises(RuntimeError, match=r"1\.4\.24 or newer"):
        forksafe.install()

    assert not event.contains(Pool, "connect", forksafe._note_birth)


@beside_a_control
@alone
def test_connections_older_than_install_are_covered(url: str, safe: bool) -> None:
    engine = create_engine(url)
    warm(engine)
    busy = engine.connect()
    busy.execute(text("SELECT 1"))
    install_if(safe)

    errors = errors_of(lambda: in_child(lambda: each(busy.close, lambda: ask(engine))))
    errors += errors_of(lambda: busy.execute(text("SELECT 1")), lambda: ask(engine))

    judge(errors, safe=safe)


@alone
def test_a_child_gets_its_whole_pool_and_no_lock_that_a_thread_held(url: str) -> None:
    forksafe.install()
    engine = create_engine(url, pool_size=2, max_overflow=0, pool_timeout=1)
    busy = [engine.connect(), engine.connect()]
    queue: Any = engine.pool

    with queue._pool.mutex, queue._overflow_lock:
        answer = fork(
            lambda: each(
                lambda: warm(engine), *[connection.close for connection in busy], lambda: warm(engine)
            )
        )

    assert answer() is None


@alone
def test_a_connect_in_progress_at_the_fork_takes_no_place_in_the_childs_pool(url: str) -> None:
    forksafe.install()
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=1)
    ask(engine)
    engine.dispose()
    connecting, go_on = threading.Event(), threading.Event()

    def slowly(*_arguments: object) -> None:
        if not go_on.is_set():
            connecting.set()
            go_on.wait()

    event.listen(engine, "do_connect", slowly)
    thread = threading.Thread(target=ask, args=[engine])
    thread.start()
    connecting.wait()
    answer = fork(lambda: each(go_on.set, lambda: ask(engine)))

    assert answer() is None
    go_on.set()
    thread.join()


@pytest.mark.parametrize("forks", [1, 2, 7])
@alone
def test_a_connection_made_across_forks_is_replaced_in_the_parent(url: str, forks: int) -> None:
    """As often as it takes: SQLAlchemy tries twice, and a worker that replaces several children forks in quick succession."""
    forksafe.install()
    children: list[Callable[[], Any]] = []
    engine = create_engine(url)

    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:
        connection = psycopg2.connect(*arguments, **options)
        if len(children) < forks:
            children.append(fork(bool))
        return connection

    event.listen(engine, "do_connect", connect)
    made = connections_of(engine)

    with engine.connect() as connection:
        in_use = connection.connection.dbapi_connection

    assert len(made) == forks + 1
    assert all(connection.closed for connection in made[:-1])
    assert in_use is made[-1]


@alone
def test_a_driver_without_descriptors_gets_fresh_connections_in_a_child() -> None:
    forksafe.install()
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{directory}/file.db", poolclass=QueuePool)
        made = connections_of(engine)
        engine.connect().close()

        def child() -> list[int]:
            engine.connect().close()
            return [len(made), forksafe.inherited()]

        assert in_child(child) == [2, 0]
        engine.connect().close()
        assert len(made) == 1


@alone
def test_dispose_all_leaves_the_parent_without_idle_connections(url: str) -> None:
    forksafe.install()
    engines = [create_engine(url), create_engine(url)]
    warm(engines[0])
    ask_raw(engines[1])

    forksafe.dispose_all()

    assert server_sockets(make_url(url).port) == []
    assert all(ask(engine) for engine in engines)


@alone
def test_dispose_all_reports_connections_that_are_out_and_leaves_them_alone(url: str) -> None:
    forksafe.install()
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("app.forksafe").addHandler(handler)
    engine = create_engine(url)
    warm(engine, 3)
    busy = engine.connect()

    forksafe.dispose_all()

    assert said == ["1 database connections are checked out in a process that is about to fork"]
    assert busy.execute(text("SELECT 1")).scalar_one() == 1


@alone
def test_engines_and_pools_are_not_kept_alive(url: str) -> None:
    forksafe.install()
    engine = create_engine(url)
    warm(engine)
    references: list[Callable[[], object]] = [weakref.ref(engine), weakref.ref(engine.pool)]

    engine.dispose()
    del engine
    gc.collect()

    assert [reference() for reference in references] == [None, None]
    assert server_sockets(make_url(url).port) == []


@alone
def test_no_log_handler_is_called_right_after_a_fork(url: str) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("sqlalchemy.pool").addHandler(handler)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.DEBUG)
    forksafe.install()
    warm(create_engine(url))
    said.clear()

    assert in_child(lambda: [said, logging.root.manager.disable]) == [[], 0]


if __name__ == "__main__":
    serve()
