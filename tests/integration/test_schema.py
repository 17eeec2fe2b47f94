import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint
from sqlalchemy.dialects.postgresql.base import ischema_names

from app import database, schema
from app.errors import DatabaseRefused
from app.models import SCHEMA, Base, Xid8
from local.home import PROJECT
from local.servers import Servers
from tests.factories import ROOT, claimed, make_upload, race
from tests.installation import Installation, ask, execute, in_database


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """The owner's URL of a database without a schema."""
    name = f"empty_{secrets.token_hex(6)}"
    execute(servers.admin_url, f"CREATE DATABASE {name} OWNER haulage_owner")
    yield in_database(servers.owner_url, name)
    execute(servers.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_models_and_migrations_agree(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ischema_names, "xid8", Xid8)  # SQLAlchemy does not know it
    engine = database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
    options = {
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "compare_type": True,
        "compare_server_default": False,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
    }

    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)

    assert found == []


def test_the_constraints_of_models_and_migrations_are_the_same(installation: Installation) -> None:
    """Autogenerate does not look at check constraints."""
    there = {
        name
        for (name,) in installation.query(
            "SELECT conname FROM pg_constraint WHERE connamespace = 'corporate'::regnamespace AND contype = 'c'"
        )
    }

    ours = {
        f"ck_{table.name}_{one.name}".replace(f"ck_{table.name}_ck_{table.name}_", f"ck_{table.name}_")
        for table in Base.metadata.tables.values()
        for one in table.constraints
        if isinstance(one, CheckConstraint)
    }

    assert there == ours


def test_migrating_twice_is_migrating_once(empty: str) -> None:
    assert schema.migrate(empty) == schema.migrate(empty) == schema.newest()


def test_two_migrations_at_once_end_well(empty: str) -> None:
    assert race([lambda: schema.migrate(empty)] * 3) == [schema.newest()] * 3


def test_a_migration_that_fails_leaves_nothing(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = schema.command.upgrade

    def broken(*arguments: Any) -> None:
        real(*arguments)
        raise RuntimeError

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):  # noqa: PT012
        patched.setattr("app.schema.command.upgrade", broken)
        schema.migrate(empty)

    assert ask(empty, "SELECT to_regnamespace('corporate')", ()) == [(None,)]
    assert schema.migrate(empty) == schema.newest()


@pytest.fixture
def first(empty: str) -> str:
    """The owner's URL of a database as the first release made it."""
    upgrade_to(empty, "0001")
    return empty


def upgrade_to(url: str, revision: str) -> None:
    with database.short_lived_engine(url).begin() as connection:
        schema._upgrade(connection, revision)


def indexes(url: str) -> list[tuple]:
    return ask(
        url,
        "SELECT indexdef, indisvalid FROM pg_indexes JOIN pg_index ON indexrelid = (schemaname || '.' || indexname)::regclass"
        " WHERE schemaname = 'corporate' ORDER BY 1",
        (),
    )


def test_an_upgraded_schema_has_the_indexes_of_a_new_one(first: str, installation: Installation) -> None:
    schema.migrate(first)

    assert indexes(first) == indexes(installation.environment["OWNER_DATABASE_URL"])


def test_two_upgrades_at_once_end_well(first: str) -> None:
    assert race([lambda: schema.migrate(first)] * 3) == [schema.newest()] * 3


@contextmanager
def passing_by(url: str) -> Iterator[list[object]]:
    """Write to the uploads again and again, as patient as a process of ours; yield what went wrong."""
    wrong: list[object] = []
    over = threading.Event()

    def pass_by() -> None:
        connection = psycopg2.connect(url, options="-c lock_timeout=3s")
        connection.autocommit = True
        while not over.is_set() and not wrong:
            try:
                connection.cursor().execute("UPDATE corporate.uploads SET woken_at = NULL WHERE false")
            except psycopg2.Error as error:
                wrong.append(error)
        connection.close()

    thread = threading.Thread(target=pass_by)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("mode", "valid"), [("ACCESS SHARE", 3), ("ROW EXCLUSIVE", 0)])
def test_an_upgrade_neither_waits_long_for_anybody_nor_holds_anybody_up(
    first: str, monkeypatch: pytest.MonkeyPatch, mode: str, valid: int
) -> None:
    """A backup holds the first lock for as long as it runs, an open transaction that has written the second."""
    monkeypatch.setattr("app.schema.STEP_TRIES", 2)
    monkeypatch.setattr("app.schema.INDEX_LOCK_SECONDS", 4)  # longer than others are patient
    before = len(indexes(first))
    holder = psycopg2.connect(first)
    holder.cursor().execute(f"LOCK TABLE corporate.uploads IN {mode} MODE")

    with passing_by(first) as wrong, pytest.raises(DatabaseRefused, match="transaction does not end"):
        schema.migrate(first)

    holder.close()
    assert wrong == []
    assert ask(first, "SELECT version_num FROM corporate.alembic_version", ()) == [("0001",)]
    assert [is_valid for _, is_valid in indexes(first)].count(True) == before + valid
    assert schema.migrate(first) == schema.newest()
    assert {is_valid for _, is_valid in indexes(first)} == {True}


def waits(url: str, sessions: int) -> bool:
    where = "NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return ask(url, f"SELECT count(*) FROM pg_locks WHERE {where}", ()) == [(sessions,)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("table", "then"), [("uploads", "corporations"), ("corporations", "uploads")])
def test_an_upgrade_is_no_part_of_a_deadlock(
    first: str, monkeypatch: pytest.MonkeyPatch, table: str, then: str
) -> None:
    """An upload that comes through HTTP locks both tables in the one order, one that comes through SQL in the other."""
    monkeypatch.setattr(
        "app.schema.STEP_LOCK_SECONDS", 30
    )  # far longer than PostgreSQL takes to find a deadlock
    upgrade_to(first, "0002")
    reader, ours = psycopg2.connect(first), psycopg2.connect(first)
    reader.cursor().execute(f"LOCK TABLE corporate.{then} IN ACCESS SHARE MODE")
    ours.cursor().execute(f"LOCK TABLE corporate.{table} IN ROW EXCLUSIVE MODE")
    with ThreadPoolExecutor() as pool:
        upgraded = pool.submit(schema.migrate, first)
        until(lambda: waits(first, 1))
        locked = pool.submit(ours.cursor().execute, f"LOCK TABLE corporate.{then} IN ROW SHARE MODE")
        until(lambda: waits(first, 2) or locked.done())
        reader.close()
        try:
            locked.result()
        finally:
            ours.close()

        assert upgraded.result() == schema.newest()


def test_a_database_without_the_schema_is_refused_with_what_to_run(
    installation: Installation, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty)
    installation.forget_process_state()

    with pytest.raises(DatabaseRefused, match="haulage migrate"):
        schema.check()

    installation.forget_process_state()


@pytest.fixture
def at_revision(installation: Installation) -> Iterator[Callable[[str], None]]:
    def change(revision: str) -> None:
        installation.query("UPDATE corporate.alembic_version SET version_num = %s", revision)

    yield change
    change(schema.newest())


def test_an_older_revision_is_refused(at_revision: Callable[[str], None]) -> None:
    schema.check()
    at_revision("0000")

    with pytest.raises(DatabaseRefused, match="0000"):
        schema.check()


def test_a_newer_schema_is_left_as_it_is(
    installation: Installation, at_revision: Callable[[str], None]
) -> None:
    """The release before is started again, with all that belongs to it."""
    at_revision("9999")

    assert schema.migrate(installation.environment["OWNER_DATABASE_URL"]) == "9999"


def test_a_process_keeps_to_its_revision_when_the_next_release_is_put_in_its_place(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    schema.check()
    migrations = tmp_path / "migrations"
    shutil.copytree(PROJECT / "app" / "migrations", migrations)
    (migrations / "versions" / "v9999.py").write_text(
        f"revision, down_revision = '9999', '{schema.newest()}'"
    )
    monkeypatch.setattr("app.schema.files", lambda _: migrations)

    schema.check()


def test_a_newer_revision_will_do_while_processes_are_replaced(
    at_revision: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    at_revision("9999")

    schema.check()

    assert "newer than this release" in caplog.text


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE corporate.upload_events SET kind = 'x'",
        "DELETE FROM corporate.upload_events",
        "TRUNCATE corporate.upload_events",
        "TRUNCATE corporate.uploads CASCADE",
    ],
)
def test_events_are_written_once_and_never_changed(installation: Installation, statement: str) -> None:
    make_upload(installation)

    with pytest.raises(psycopg2.errors.FeatureNotSupported, match="append-only"):
        installation.query(statement)


def test_an_upload_with_events_cannot_be_removed(installation: Installation) -> None:
    make_upload(installation)

    with pytest.raises(psycopg2.errors.IntegrityError):
        installation.query("DELETE FROM corporate.uploads")


IMPOSSIBLE = [
    ("UPDATE corporate.vmb_items SET child_count = -1", "child_count_not_negative"),
    ("UPDATE corporate.vmb_items SET kind = 'file'", "root_is_a_folder"),
    ("UPDATE corporate.vmb_items SET kind = 'other'", "kind_known"),
    ("UPDATE corporate.vmb_items SET size = -1", "size_not_negative"),
    ("UPDATE corporate.vmb_items SET sha256 = 'x'", "sha256_is_hexadecimal"),
    ("UPDATE corporate.vmb_items SET sha256 = repeat('z', 64)", "sha256_is_hexadecimal"),
    ("UPDATE corporate.uploads SET state = 'other'", "state_known"),
    ("UPDATE corporate.uploads SET on_conflict = 'other'", "on_conflict_known"),
    ("UPDATE corporate.uploads SET state = 'stored'", "stored_has_its_item"),
    ("UPDATE corporate.uploads SET item_id = '7'", "stored_has_its_item"),
    ("UPDATE corporate.uploads SET token = NULL", "transferring_has_its_token"),
    ("UPDATE corporate.uploads SET state = 'failed'", "failed_has_its_reason"),
    ("UPDATE corporate.uploads SET staged_id = NULL", "has_bytes"),
    ("UPDATE corporate.uploads SET size = NULL", "staged_is_measured"),
    ("UPDATE corporate.uploads SET attempts = -1", "attempts_not_negative"),
    ("INSERT INTO corporate.corporations (corp_index, name) VALUES (0, 'x')", "positive"),
    ("INSERT INTO corporate.staging_identity VALUES (false, gen_random_uuid())", "only_one"),
]


def test_what_cannot_be_cannot_be_written(installation: Installation) -> None:
    claimed(make_upload(installation))

    written = [
        statement for statement, constraint in IMPOSSIBLE if not breaks(installation, statement, constraint)
    ]

    assert written == []


def breaks(installation: Installation, statement: str, constraint: str) -> bool:
    connection = psycopg2.connect(installation.environment["OWNER_DATABASE_URL"])
    try:
        connection.cursor().execute(statement)
    except psycopg2.errors.CheckViolation as error:
        return constraint in str(error)
    finally:
        connection.close()  # nothing is ever committed
    return False


def item(item_id: str, parent: str | None, key: str) -> str:
    parent_id = "NULL" if parent is None else f"'{parent}'"
    return (
        "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, name_key, kind)"
        f" VALUES (7, '{item_id}', {parent_id}, 'x', '{key}', 'folder')"
    )


@pytest.mark.parametrize(
    "second",
    [item("y", ROOT, "x"), item("x", ROOT, "y"), item("y", None, "y")],
    ids=["name", "id", "second root"],
)
def test_a_name_an_id_and_a_root_are_there_once(installation: Installation, second: str) -> None:
    installation.query(item("x", ROOT, "x"))

    with pytest.raises(psycopg2.errors.UniqueViolation):
        installation.query(second)


def test_a_parent_must_exist(installation: Installation) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        installation.query(item("x", "nowhere", "x"))


def test_there_is_one_staging(installation: Installation) -> None:
    with pytest.raises(psycopg2.errors.UniqueViolation):
        installation.query("INSERT INTO corporate.staging_identity VALUES (true, gen_random_uuid())")
