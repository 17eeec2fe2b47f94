"""Checks forksafe.py where it was copied to, with your SQLAlchemy, your driver and a PostgreSQL of yours.

    DATABASE_URL=postgresql+psycopg2://user:password@host/database python -m pytest check_forksafe.py

It needs this file, forksafe.py, SQLAlchemy, a driver and pytest, and leaves nothing in the database. Every check runs twice,
each time in a process of its own: with forksafe, where nothing may go wrong, and as a control without it, where something
must; `-rP` shows what. Over TLS the controls fail by the well-known names. Without TLS some of them hang, so it takes minutes.
"""

import gc
import json
import multiprocessing
import os
import secrets
import signal
import stat
from functools import wraps
from pathlib import Path

import forksafe
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

URL = os.environ.get("DATABASE_URL", "")
INSTALL = {"forksafe": forksafe.install, "control": lambda: None}
PATIENCE = {"forksafe": 30, "control": 10}  # seconds until a process counts as hung; a control may well hang

turn = {}  # whether this is the turn of forksafe or of its control
used = set()  # the server sessions that answered this process, and its children so far
found = []  # what went wrong in this process, and in its children so far


@pytest.fixture(scope="session", autouse=True)
def _reachable():
    """Without a server every control would fail as it should, and prove nothing."""
    if not URL:
        pytest.exit(
            "Set DATABASE_URL to a PostgreSQL of yours: postgresql+psycopg2://user:password@host/database", 2
        )
    try:
        create_engine(URL, poolclass=NullPool).connect().close()
    except Exception as error:  # noqa: BLE001  whatever it is, nothing can be checked
        pytest.exit(f"DATABASE_URL's server cannot be used: {str(error).splitlines()[0]}", 2)


def check(scenario):
    """Run the scenario in a process of its own, with forksafe.install and with a stand-in that does nothing."""

    @pytest.mark.parametrize("install", INSTALL)
    @wraps(scenario)
    def run(install, **case):
        turn["of"] = install
        found.clear()
        used.clear()
        start(lambda: scenario(INSTALL[install], **case))()
        print(*found, sep="\n")
        assert bool(found) is (install == "control")

    return run


def start(work):
    """Run the work in a child; return a function that waits for it and takes over what it found."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        be_the_child(work, writer)
    os.close(writer)

    def join():
        take_over(reader)
        os.waitpid(pid, 0)

    return join


def be_the_child(work, writer):
    found.clear()
    used.clear()
    signal.alarm(PATIENCE[turn["of"]])
    try:
        work()
    except BaseException as error:  # noqa: BLE001  what went wrong is the result
        found.append(f"{type(error).__name__}: {error}")
    os.write(writer, json.dumps({"used": sorted(used), "found": found}).encode())
    os._exit(0)


def take_over(reader):
    with os.fdopen(reader) as pipe:
        said = json.loads(pipe.read() or '{"used": [], "found": ["a process hung, or was killed"]}')
    found.extend(said["found"])
    if used.intersection(said["used"]):
        found.append("two processes used the same session of PostgreSQL")
    used.update(said["used"])


def at_once(work, children=2):
    """Let the children and this process do the same work at the same time."""
    joins = [start(work) for _ in range(children)]
    try:
        work()
    finally:
        for join in joins:
            join()


def answer(asked):
    """Ask a connection or a session for a marker of this moment, and note which server session answered."""
    marker = secrets.token_hex(8)
    statement = text("SELECT CAST(:marker AS text), pg_backend_pid()")
    returned, session = asked.execute(statement, {"marker": marker}).one()
    used.add(session)
    assert returned == marker, "wrong answer: it was another process's"


def ask(engine, times=10):
    for _ in range(times):
        with engine.connect() as connection:
            answer(connection)


def warm(idle=2, **options):
    """Return an engine with idle connections in its pool."""
    engine = create_engine(URL, **options)
    connections = [engine.connect() for _ in range(idle)]
    for connection in connections:
        answer(connection)
        connection.close()
    return engine


def transaction_of(asked):
    return asked.execute(text("SELECT txid_current()")).scalar()


def sockets():
    return {status.st_ino for status in map(status_of, Path("/dev/fd").iterdir()) if status}


def status_of(descriptor):
    try:
        status = os.fstat(int(descriptor.name))
    except OSError:
        return None  # the descriptor that listed the others
    return status if stat.S_ISSOCK(status.st_mode) else None


@pytest.mark.parametrize("options", [{}, {"pool_pre_ping": True}], ids=str)
@check
def test_idle_connections(install, options):
    install()
    engine = warm(**options)
    start(lambda: ask(engine, 1))()  # alone: several at once may all reconnect before anything shows
    at_once(lambda: ask(engine))
    ask(engine)


@check
def test_an_engine_and_connections_older_than_install(install):
    engine = warm()
    connection = engine.connect()
    answer(connection)
    install()
    at_once(lambda: ask(engine))
    answer(connection)


@check
def test_two_engines(install):
    engines = [warm()]
    install()
    engines.append(warm())
    at_once(lambda: [ask(engine, 5) for _ in range(4) for engine in engines])


@check
def test_raw_connections(install):
    install()
    engine = create_engine(URL)

    def ask_raw():
        connection = engine.raw_connection()
        cursor = connection.cursor()
        cursor.execute("SELECT pg_backend_pid()")
        used.add(cursor.fetchone()[0])
        connection.close()

    ask_raw()
    at_once(ask_raw)
    ask_raw()


ENDINGS = {
    "close": lambda _engine, connection: connection.close(),
    "invalidate": lambda _engine, connection: connection.invalidate(),
    "dispose of the engine": lambda engine, _connection: engine.dispose(),
    "leave it alone": lambda _engine, _connection: None,
}


@pytest.mark.parametrize("ending", ENDINGS)
@check
def test_an_open_transaction_outlives_what_a_child_does(install, ending):
    install()
    engine = warm()
    connection = engine.connect()
    transaction = connection.begin()
    before = transaction_of(connection)

    def work():
        ENDINGS[ending](engine, connection)
        ask(engine)

    start(work)()
    assert transaction_of(connection) == before, "the transaction was lost"
    transaction.commit()
    ask(engine)


@pytest.mark.parametrize("ending", ["remove", "roll back", "collect"])
@check
def test_an_open_scoped_session_outlives_what_a_child_does(install, ending):
    install()
    sessions = scoped_session(sessionmaker(bind=warm()))
    before = transaction_of(sessions)

    def work():
        if ending == "remove":
            sessions.remove()
        elif ending == "roll back":
            sessions.rollback()
        else:
            sessions.registry.clear()
            gc.collect()
        answer(sessions)

    start(work)()
    assert transaction_of(sessions) == before, "the transaction was lost"
    sessions.commit()


@check
def test_a_session_open_at_the_fork_says_in_the_child_why_it_cannot_be_used(install):
    install()
    session = sessionmaker(bind=warm())()
    answer(session)

    def work():
        try:
            answer(session)
        except StatementError as error:
            if "was open when its process was forked" not in str(error):
                raise
        session.rollback()
        answer(session)

    start(work)()
    answer(session)


@pytest.mark.parametrize("pool", [NullPool, StaticPool], ids=lambda pool: pool.__name__)
@check
def test_other_pools_while_their_connection_is_out(install, pool):
    install()
    engine = create_engine(URL, poolclass=pool)
    connection = engine.connect()
    answer(connection)

    def work():
        connection.close()
        ask(engine, 3)

    start(work)()
    answer(connection)
    connection.close()
    ask(engine, 3)


@check
def test_forks_of_forks(install):
    install()
    engine = warm()

    def generation():
        ask(engine)
        at_once(lambda: ask(engine), children=2)

    at_once(generation, children=2)
    ask(engine)


@check
def test_multiprocessing(install):
    install()
    engine = warm()

    def work(writer):
        be_the_child(lambda: ask(engine), writer)

    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=work, args=(writer,))
    process.start()
    os.close(writer)
    try:
        ask(engine)
    finally:
        take_over(reader)
        process.join()


@check
def test_a_child_holds_no_socket_of_its_parent(install):
    install()
    others = sockets()
    engine = warm()
    busy = engine.connect()
    answer(busy)
    ours = sockets() - others
    assert len(ours) == 2

    def look():
        if ours & sockets():
            found.append("the child holds a socket of its parent")

    start(look)()
    answer(busy)


@check
def test_every_child_all_day(install):
    install()
    engine = warm()
    busy = engine.connect()
    for _ in range(5):
        start(lambda: ask(engine, 3))()
        ask(engine, 3)
        answer(busy)
        forksafe.dispose_all()


@check
def test_nothing_is_left_within_reach(install):
    install()
    engine = warm()

    def look():
        ask(engine, 3)
        assert forksafe.inherited() == 0

    start(look)()
    answer(engine.connect())
