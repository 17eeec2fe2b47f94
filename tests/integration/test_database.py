import logging
import os
import socket
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app import database
from app.database import SESSION_OPTIONS, is_out_of_reach, session_scope
from app.errors import DatabaseRefused
from tests.factories import race, sessions
from tests.installation import Installation


def add_corporation(session: Any, corp_index: int) -> None:
    session.execute(text("INSERT INTO corporate.corporations VALUES (:number, 'x')"), {"number": corp_index})


@pytest.fixture
def as_owner(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("DATABASE_URL", installation.environment["OWNER_DATABASE_URL"])
    installation.forget_process_state()
    return installation


def corporations(installation: Installation) -> set[int]:
    return {one for (one,) in installation.query("SELECT corp_index FROM corporate.corporations")}


def idle_in_transaction(installation: Installation) -> int:
    return sessions(installation, "idle in transaction", "idle in transaction (aborted)")


# session_scope


def test_a_block_that_ends_well_is_committed(as_owner: Installation) -> None:
    with session_scope() as session:
        add_corporation(session, 8)
        assert corporations(as_owner) == {7}

    assert corporations(as_owner) == {7, 8}


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_a_block_that_ends_otherwise_is_rolled_back(
    as_owner: Installation, error: type[BaseException]
) -> None:
    with pytest.raises(error), session_scope() as session:  # noqa: PT012
        add_corporation(session, 8)
        raise error

    assert corporations(as_owner) == {7}
    assert idle_in_transaction(as_owner) == 0


def test_a_commit_that_fails_is_rolled_back_and_told(as_owner: Installation) -> None:
    with pytest.raises(IntegrityError), session_scope() as session:
        session.execute(
            text(
                "INSERT INTO corporate.uploads (id, corp_index, state, parent_id, folder, name, on_conflict,"
                " inbox_path, item_id) VALUES (gen_random_uuid(), 7, 'stored', '7', '{}', 'x', 'fail', 'x', 'nowhere')"
            )
        )

    assert as_owner.query("SELECT count(*) FROM corporate.uploads") == [(0,)]
    assert idle_in_transaction(as_owner) == 0


def test_a_rollback_that_fails_does_not_hide_the_first_error(
    as_owner: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("the rollback failed")

    with (  # noqa: PT012
        monkeypatch.context() as patched,
        pytest.raises(ValueError, match="first"),
        session_scope() as session,
    ):
        add_corporation(session, 8)
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        patched.setattr("app.database.Session.rollback", broken)
        raise ValueError("first")

    assert "A rollback failed" in caplog.text
    assert idle_in_transaction(as_owner) == 0
    with session_scope() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != pid
    assert corporations(as_owner) == {7}


def test_a_session_that_the_server_ended_is_replaced(installation: Installation) -> None:
    with session_scope() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    _terminate(installation, pid)

    with session_scope() as session:
        assert session.scalar(text("SELECT 1")) == 1


def _terminate(installation: Installation, pid: int) -> None:
    connection = psycopg2.connect(installation.servers.admin_url)
    connection.autocommit = True
    connection.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    connection.close()


def test_an_error_shows_no_parameters(installation: Installation) -> None:
    with pytest.raises(DBAPIError) as caught, session_scope() as session:
        session.execute(text("SELECT 1 / (length(CAST(:secret AS text)) - 11)"), {"secret": "canary-3f1c"})

    assert "canary-3f1c" not in str(caught.value)


# The pool's reset


@pytest.fixture
def without_reset(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("DB_POOL_RESET_ON_RETURN", "none")
    installation.forget_process_state()
    return installation


def test_without_a_reset_a_connection_that_comes_home_open_is_rolled_back_and_told(
    without_reset: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    connection = database.engine().raw_connection()
    connection.cursor().execute("SELECT 1")

    connection.close()

    assert "inside a transaction" in caplog.text
    assert idle_in_transaction(without_reset) == 0


def test_without_a_reset_and_without_the_guard_it_would_stay_open(
    without_reset: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr("app.database._roll_back_what_comes_home_open", lambda *_: None)
    connection = database.engine().raw_connection()
    connection.cursor().execute("SELECT 1")

    connection.close()

    assert idle_in_transaction(without_reset) == 1


def test_without_a_reset_a_clean_connection_comes_home_without_a_word(
    without_reset: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    with session_scope() as session:
        session.execute(text("SELECT 1"))

    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("reset", ["rollback", "commit"])
def test_the_pools_own_reset_is_the_one_that_was_chosen(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, reset: str
) -> None:
    monkeypatch.setenv("DB_POOL_RESET_ON_RETURN", reset)
    installation.forget_process_state()

    assert database.engine().pool._reset_on_return.name == f"reset_{reset}"


# What every session is given


@pytest.mark.parametrize("name", SESSION_OPTIONS)
def test_a_session_setting_is_in_force(installation: Installation, name: str) -> None:
    with session_scope() as session:
        found = session.scalar(text("SELECT setting FROM pg_settings WHERE name = :name"), {"name": name})

    assert int(found) == SESSION_OPTIONS[name]


def test_the_urls_own_options_are_kept_and_ours_stand_above_them(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = installation.environment["DATABASE_URL"]
    options = "options=-c%20statement_timeout%3D1%20-c%20work_mem%3D1MB"
    monkeypatch.setenv("DATABASE_URL", f"{url}{'&' if '?' in url else '?'}{options}")
    installation.forget_process_state()

    with session_scope() as session:
        assert session.scalar(text("SHOW statement_timeout")) == "15s"
        assert session.scalar(text("SHOW work_mem")) == "1MB"


def test_the_connection_is_encrypted(installation: Installation) -> None:
    with session_scope() as session:
        assert session.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")) is True


def test_a_session_is_named_after_its_process(installation: Installation) -> None:
    with session_scope() as session:
        name = session.scalar(text("SHOW application_name"))

    assert name.startswith(f"{os.getpid()} ")
    assert socket.gethostname()[:20] in name


def test_after_a_fork_a_session_is_named_after_the_child(installation: Installation) -> None:
    with session_scope() as session:
        session.execute(text("SELECT 1"))
    reading, writing = os.pipe()

    child = os.fork()
    if child == 0:
        try:
            database.renew_in_child()
            with session_scope() as session:
                os.write(writing, str(session.scalar(text("SHOW application_name"))).encode())
            database.dispose()
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        name = answer.read()

    assert name.startswith(f"{child} ")
    with session_scope() as session:
        assert session.scalar(text("SHOW application_name")).startswith(f"{os.getpid()} ")


# What is refused


class FakeConnection:
    def __init__(self, version: int, statement_timeout: str) -> None:
        self.server_version, self.answer = version, statement_timeout

    def cursor(self) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, statement: str) -> None: ...

    def fetchone(self) -> tuple[str]:
        return (self.answer,)

    def rollback(self) -> None: ...


@pytest.mark.parametrize(
    ("version", "timeout", "sentence"),
    [(130000, "15000", "PostgreSQL 14"), (170000, "0", "PgBouncer"), (170000, "30000", "PgBouncer")],
)
def test_an_unfit_server_is_refused_by_name(version: int, timeout: str, sentence: str) -> None:
    with pytest.raises(DatabaseRefused, match=sentence):
        database._refuse_unfit_server(FakeConnection(version, timeout), None)


def test_a_fit_server_is_taken() -> None:
    database._refuse_unfit_server(FakeConnection(140000, "15000"), None)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("FATAL: unsupported startup parameter: options", "PgBouncer"),
        ('root certificate file "/root/.postgresql/root.crt" does not exist', "sslrootcert"),
    ],
)
def test_what_stands_in_the_way_is_explained(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, message: str, sentence: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise psycopg2.OperationalError(message)

    with monkeypatch.context() as patched, pytest.raises(DatabaseRefused, match=sentence):  # noqa: PT012
        patched.setattr("app.database.psycopg2.connect", refuse)
        database.ping()


# Out of reach, or wrong


def raised(error: Exception, code: str | None) -> DBAPIError:
    return OperationalError("SELECT", None, SimpleNamespace(pgcode=code, args=(str(error),)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "away"),
    [
        ("08006", True),  # connection_failure
        ("57P01", True),  # admin_shutdown
        ("57P03", True),  # cannot_connect_now
        ("53300", True),  # too_many_connections
        (None, True),  # libpq itself could not connect
        ("23505", False),  # unique_violation
        ("42501", False),  # insufficient_privilege
        ("57014", False),  # query_canceled: a statement took too long; the server is there
        ("53100", True),  # disk_full
        ("25006", True),  # read_only_sql_transaction: the server follows another one now
    ],
)
def test_only_a_server_that_is_away_is_out_of_reach(code: str | None, away: bool) -> None:
    assert is_out_of_reach(raised(Exception("x"), code)) is away


def test_a_server_that_nobody_answers_for_is_out_of_reach(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none?sslmode=disable")
    installation.forget_process_state()

    with pytest.raises(DBAPIError) as caught:
        database.ping()

    assert is_out_of_reach(caught.value)


def test_a_parameter_that_psycopg2_cannot_send_is_an_error_of_ours(installation: Installation) -> None:
    with pytest.raises(ProgrammingError) as caught, session_scope() as session:
        session.execute(text("SELECT :x"), {"x": object()})

    assert not is_out_of_reach(caught.value)


def test_a_pool_without_a_free_connection_is_out_of_reach() -> None:
    assert is_out_of_reach(PoolTimeoutError("QueuePool limit of size 2 overflow 0 reached"))


def test_any_other_error_is_not() -> None:
    assert not is_out_of_reach(ValueError("QueuePool limit"))


def test_a_connection_that_takes_no_writes_is_not_used_again(installation: Installation) -> None:
    """A failover leaves the pool with a server that answers every ping."""
    read_only = text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    with session_scope() as session:
        session.execute(read_only)

    with pytest.raises(DBAPIError) as caught, session_scope() as session:
        session.execute(text("UPDATE corporate.uploads SET attempts = 0"))
    assert is_out_of_reach(caught.value)

    with session_scope() as session:
        assert session.scalar(text("SHOW transaction_read_only")) == "off"


# The engine


def test_there_is_one_engine_for_many_threads(installation: Installation) -> None:
    assert len(set(map(id, race([database.engine] * 8)))) == 1


def test_a_worker_child_has_two_connections_and_no_more(installation: Installation) -> None:
    pool = database.engine().pool

    assert (pool.size(), pool._max_overflow) == (2, 0)  # type: ignore[attr-defined]


def test_disposing_says_goodbye(installation: Installation) -> None:
    with session_scope() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))

    database.dispose()

    while installation.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid):
        pass
