"""Taking over a corporate.vmb_items that another application has made: what is put right, and what is refused."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.base import ischema_names

from app import database, names, schema
from app.adoption import alignment, standing, takeover
from app.errors import DatabaseRefused
from app.models import SCHEMA, Base, Xid8
from local.servers import Servers
from tests.factories import race
from tests.installation import ask, execute, in_database

THEIRS = """
    CREATE SCHEMA corporate;
    CREATE TABLE corporate.vmb_items (
        id serial PRIMARY KEY,
        corp_index integer,
        onedrive_item_id varchar(200) NOT NULL,
        parent_id varchar(200),
        name varchar(300),
        child_count integer,
        size bigint,
        web_url text,
        shared boolean NOT NULL DEFAULT false
    );
    INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, child_count, size, web_url) VALUES
        (7, 'A', NULL, 'Reports', 5, NULL, 'https://there/A'),
        (7, 'B', 'A', 'Übung.PDF', 0, 100, 'https://there/B'),
        (7, 'C', 'A', 'Empty', NULL, NULL, NULL),
        (7, 'D', NULL, 'loose.txt', 0, 3, NULL),
        (12, 'E', NULL, 'Reports', 0, NULL, NULL),
        (12, 'F', 'E', 'x', 1, NULL, NULL),
        (12, 'G', 'F', 'y', 0, 0, NULL);
"""
ROOTS: list[int] = []


@dataclass(frozen=True)
class Foreign:
    """A database in which another application has made its own table."""

    url: str
    admin_url: str

    def ask(self, statement: str) -> list[tuple]:
        return ask(self.url, statement.replace("%", "%%"), ())

    def as_admin(self, statement: str) -> None:
        execute(self.admin_url, statement)

    def make(self, statements: str = THEIRS) -> None:
        self.as_admin("DROP SCHEMA IF EXISTS corporate CASCADE")
        self.ask(statements)

    def refused_by_adopting(self) -> str:
        before = self.everything()
        with pytest.raises(DatabaseRefused) as adopting:
            takeover.adopt(self.url, make_root, uuid4)
        assert self.everything() == before
        assert ROOTS == []
        return str(adopting.value)

    def refused(self) -> str:
        """Return what adopting says; neither it nor a migration may change anything."""
        said = self.refused_by_adopting()
        with pytest.raises(DatabaseRefused) as refused:
            takeover.refuse_strangers(self.url)
        assert str(refused.value) == said
        return said

    def everything(self) -> tuple:
        return ask(self.admin_url, EVERYTHING, ())[0]


EVERYTHING = """
    SELECT
        (SELECT array_agg(relkind::text || relname ORDER BY relname) FROM pg_class WHERE relnamespace = 'corporate'::regnamespace),
        (SELECT array_agg((attname, atttypid, attnotnull)::text ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = 'corporate.vmb_items'::regclass AND attnum > 0),
        (SELECT array_agg(conname::text ORDER BY conname) FROM pg_constraint WHERE conrelid = 'corporate.vmb_items'::regclass),
        (SELECT array_agg(nspname::text ORDER BY nspname) FROM pg_namespace WHERE nspname ~ '^haulage'),
        (SELECT jsonb_agg(to_jsonb(v) ORDER BY to_jsonb(v)) FROM corporate.vmb_items v)
"""


@pytest.fixture(scope="module")
def made(servers: Servers) -> Iterator[Foreign]:
    name = f"foreign_{secrets.token_hex(6)}"
    execute(servers.admin_url, f"CREATE DATABASE {name} OWNER haulage_owner")
    yield Foreign(in_database(servers.owner_url, name), in_database(servers.admin_url, name))
    execute(servers.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def foreign(made: Foreign) -> Foreign:
    made.make()
    ROOTS.clear()
    return made


def make_root(corp_index: int) -> str:
    ROOTS.append(corp_index)
    return str(corp_index)


def adopt(foreign: Foreign) -> takeover.Adopted:
    return takeover.adopt(foreign.url, make_root, uuid4)


TREE = (
    "SELECT corp_index, onedrive_item_id, parent_id, kind, child_count FROM corporate.vmb_items ORDER BY 1, 2"
)


def test_a_drifted_table_becomes_a_catalogue(foreign: Foreign) -> None:
    adopted = adopt(foreign)

    assert foreign.ask(TREE) == [
        (7, "7", None, "folder", 2),
        (7, "A", "7", "folder", 2),
        (7, "B", "A", "file", 0),
        (7, "C", "A", "folder", 0),
        (7, "D", "7", "file", 0),
        (12, "12", None, "folder", 1),
        (12, "E", "12", "folder", 1),
        (12, "F", "E", "folder", 1),
        (12, "G", "F", "file", 0),
    ]
    assert foreign.ask("SELECT corp_index, name FROM corporate.corporations ORDER BY 1") == [
        (7, "Corporation 7"),
        (12, "Corporation 12"),
    ]
    assert (adopted.corporations, ROOTS) == ([7, 12], [7, 12])
    assert adopted.corrected == [
        "child_count of A of corporation 7: 5, now 2",
        "child_count of C of corporation 7: NULL, now 0",
        "child_count of E of corporation 12: 0, now 1",
    ]


def test_nothing_of_theirs_is_lost(foreign: Foreign) -> None:
    theirs = "SELECT onedrive_item_id, id, name, size, web_url, shared FROM corporate.vmb_items WHERE parent_id <> ''"
    before = foreign.ask(theirs.replace("parent_id <> ''", "true") + " ORDER BY 1")

    adopted = adopt(foreign)

    assert foreign.ask(theirs + " ORDER BY 1") == before
    assert {"the column web_url", "the column shared"} <= set(adopted.stays)
    assert foreign.ask("SELECT nextval('corporate.vmb_items_id_seq')"), "a serial's sequence stays"


def test_the_keys_of_names_are_computed_as_everywhere(foreign: Foreign) -> None:
    adopt(foreign)

    for name, key in foreign.ask("SELECT name, name_key FROM corporate.vmb_items"):
        assert key == names.key(name)


def test_what_is_adopted_is_what_the_migrations_make(foreign: Foreign, servers: Servers) -> None:
    fresh = Foreign(
        in_database(foreign.url, f"{make_url(foreign.url).database}_fresh"),
        in_database(foreign.admin_url, f"{make_url(foreign.url).database}_fresh"),
    )
    execute(servers.admin_url, f"CREATE DATABASE {make_url(fresh.url).database} OWNER haulage_owner")
    try:
        schema.migrate(fresh.url)
        adopt(foreign)

        for what, statement in SHAPE.items():
            missing = set(fresh.ask(statement)) - set(foreign.ask(statement))
            assert missing == set(), what
            added = set(foreign.ask(statement)) - set(fresh.ask(statement))
            assert {one[:2] for one in added} <= EXTRA, what
    finally:
        execute(servers.admin_url, f"DROP DATABASE {make_url(fresh.url).database} WITH (FORCE)")


EXTRA = {
    ("vmb_items", "web_url"),
    ("vmb_items", "shared"),
    ("vmb_items_id_seq1", "S"),
}
SHAPE = {
    "relations": "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'corporate'::regnamespace",
    "columns": (
        "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity"
        " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE relnamespace = 'corporate'::regnamespace AND attnum > 0 AND NOT attisdropped AND relkind <> 'S'"
    ),
    "constraints": (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferred, convalidated"
        " FROM pg_constraint WHERE connamespace = 'corporate'::regnamespace"
    ),
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'corporate'",
    "triggers": (
        "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"
        " AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'corporate'::regnamespace)"
    ),
    "functions": (
        "SELECT proname::text, pg_get_functiondef(oid), proacl::text FROM pg_proc"
        " WHERE pronamespace = 'corporate'::regnamespace"
    ),
    "grants": (
        "SELECT relname, privilege_type, grantee::regrole::text FROM pg_class, aclexplode(relacl)"
        " WHERE relnamespace = 'corporate'::regnamespace AND relkind <> 'S'"
    ),
    "revision": "SELECT 'revision', version_num FROM corporate.alembic_version",
}


def test_models_and_an_adopted_table_agree(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt(foreign)
    monkeypatch.setitem(ischema_names, "xid8", Xid8)  # SQLAlchemy does not know it
    options = {
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "compare_type": True,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
    }

    with database.short_lived_engine(foreign.url).connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)

    assert sorted((one[0], one[3].name) for one in found) == [
        ("remove_column", "shared"),
        ("remove_column", "web_url"),
    ]


def test_the_names_that_migrations_take_are_known(servers: Servers, foreign: Foreign) -> None:
    """Or else somebody with a table of that name would get an error of PostgreSQL's."""
    adopt(foreign)

    made = foreign.ask(
        "SELECT relname FROM pg_class WHERE relnamespace = 'corporate'::regnamespace AND relkind IN ('r', 'v')"
    )
    functions = foreign.ask("SELECT proname FROM pg_proc WHERE pronamespace = 'corporate'::regnamespace")

    assert {name for (name,) in made} == {*standing.TABLES, "vmb_items", "alembic_version"}
    assert {name for (name,) in functions} == set(standing.FUNCTIONS)
    assert foreign.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'haulage%'") == []


def test_a_second_time_there_is_nothing_to_do(foreign: Foreign) -> None:
    adopt(foreign)
    before = foreign.everything()

    assert adopt(foreign) == takeover.Adopted()
    takeover.refuse_strangers(foreign.url)
    assert schema.migrate(foreign.url) == schema.newest()
    assert foreign.everything() == before


def test_two_at_once_adopt_once(foreign: Foreign) -> None:
    done = race([lambda: adopt(foreign)] * 3)

    assert sorted(len(one.corporations) for one in done) == [0, 0, 2]


def test_a_rehearsal_tells_and_changes_nothing(foreign: Foreign) -> None:
    before = foreign.everything()

    rehearsed = takeover.adopt(foreign.url, make_root, uuid4, rehearse=True)

    assert foreign.everything() == before
    assert ROOTS == []
    assert rehearsed == adopt(foreign)


def test_a_database_without_such_a_table_has_nothing_to_adopt(foreign: Foreign) -> None:
    foreign.make("CREATE SCHEMA corporate")

    assert adopt(foreign) == takeover.Adopted()
    takeover.refuse_strangers(foreign.url)


def test_a_drive_that_is_not_there_leaves_everything_as_it_was(foreign: Foreign) -> None:
    before = foreign.everything()

    def broken(*_: object) -> Any:
        raise OSError

    for makers in ((broken, uuid4), (make_root, broken)):
        with pytest.raises(OSError):
            takeover.adopt(foreign.url, *makers)

    assert foreign.everything() == before


def test_the_staging_is_recorded_with_all_the_rest(foreign: Foreign) -> None:
    identity = uuid4()

    takeover.adopt(foreign.url, make_root, lambda: identity)

    assert foreign.ask("SELECT identity::text FROM corporate.staging_identity") == [(str(identity),)]


def test_a_failure_in_the_middle_leaves_everything_as_it_was(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "DROP_REFERENCE", ("SELECT 1/0",))

    assert "everything is as it was: division by zero" in foreign.refused_by_adopting()


def test_the_differences_are_told_each_in_a_line(foreign: Foreign) -> None:
    foreign.ask(
        "ALTER TABLE corporate.vmb_items ADD UNIQUE (corp_index, onedrive_item_id), ADD COLUMN name_key text"
    )
    foreign.ask("UPDATE corporate.vmb_items SET name_key = upper(name)")

    with pytest.raises(DatabaseRefused) as refused:
        takeover.refuse_strangers(foreign.url)

    said = str(refused.value).splitlines()
    assert [line for line in DIFFERENCES if f"  - {line}" not in said] == []
    assert "haulage migrate --adopt" in said[-1]


DIFFERENCES = [
    "the column id is integer, not bigint",
    "the column id gets its numbers from nextval('corporate.vmb_items_id_seq'::regclass), not from an identity",
    "the column corp_index is integer, not bigint",
    "the column corp_index allows NULL",
    "the column onedrive_item_id is character varying, limited, not text",
    "the column child_count has no default",
    "the column name_key allows NULL",
    "there is no column kind (text)",
    "there is no column sha256 (text)",
    "there is no column drive_info (jsonb)",
    "there is no column created_at (timestamp with time zone)",
    "the constraint vmb_items_pkey is not called pk_vmb_items",
    (
        "the constraint vmb_items_corp_index_onedrive_item_id_key is not called"
        " uq_vmb_items_corp_index_onedrive_item_id"
    ),
    (
        "the constraint uq_vmb_items_corp_index_parent_id_name_key is missing:"
        " UNIQUE (corp_index, parent_id, name_key)"
    ),
    "the constraint ck_vmb_items_kind_known is missing",
    "the index uq_vmb_items_root is missing",
    "corporations without a root row: 2 (12, 7); they get one",
    "rows without a parent: 3 (A, D, E); they become children of the root",
    "rows of no kind that have children, or no bytes: 4 (A, C, E, F); they become folders",
    "rows of no kind that have bytes, or no children: 3 (B, D, G); they become files",
    "rows with another name_key than Haulage's: 7 (A, B, C, D, E, …); it is computed",
    (
        "rows with a child_count that is not the number of their children: 3"
        " (A: 5, has 2, C: NULL, has 0, E: 0, has 1); they are counted"
    ),
    "the column web_url",
]


ADD = "INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name) VALUES "
ALTER = "ALTER TABLE corporate.vmb_items "
# What spoils the table, and what is said of it.
REFUSED = {
    "a column of theirs that nobody but they can fill": (
        ALTER + "ADD tenant text NOT NULL DEFAULT 'x'; " + ALTER + "ALTER tenant DROP DEFAULT",
        "the column tenant is NOT NULL without a default",
    ),
    "a column of theirs with capitals": (
        ALTER + 'ADD "Tenant" text NOT NULL DEFAULT 1; ' + ALTER + 'ALTER "Tenant" DROP DEFAULT',
        'ALTER TABLE corporate.vmb_items ALTER COLUMN "Tenant" SET DEFAULT',
    ),
    "columns that Haulage leaves empty": (
        ALTER + "ADD sha256 text NOT NULL DEFAULT repeat('0', 64); UPDATE corporate.vmb_items SET size = 0 WHERE size IS NULL;"
        + ALTER + "ALTER size SET NOT NULL",
        (
            "the column sha256 is NOT NULL, and Haulage leaves it NULL where there is none:"
            " ALTER TABLE corporate.vmb_items ALTER COLUMN sha256 DROP NOT NULL\n"
            "ALTER TABLE corporate.vmb_items ALTER COLUMN size DROP NOT NULL"
        ),
    ),
    "one id twice": (ADD + "(7, 'B', 'A', 'other')", "more than once: 1 (B); keep one row of each"),
    "one id in two corporations": (
        ADD + "(12, 'B', 'E', 'other')",
        "onedrive_item_ids that several corporations have: 1 (B)",
    ),
    "an id in another corporation's directory": (
        ADD + "(7, '12/secret', 'A', 'other'), (7, '8', 'A', 'future')",
        "in another corporation's part of the drive: 2 (12/secret of corporation 7, 8 of corporation 7)",
    ),
    "an id that is no path": (
        ADD + "(7, '', 'A', 'x'), (7, '/etc', 'A', 'y'), (7, 'a//b', 'A', 'z'), (7, '../x', 'A', 'u'), (7, 'a/.', 'A', 'v'),"
        " (7, '.haulage', 'A', 'w'), (7, 'a/.b', 'A', 'fine'), (7, 'a...', 'A', 'fine too')",
        "or a dot before all: 6 ('' of corporation 7, '../x' of corporation 7, '.haulage' of corporation 7, '/etc' of",
    ),
    "an id below another corporation's": (
        ADD + "(7, 'E/x', 'A', 'x'), (7, 'E/F/y', 'A', 'y'), (7, 'A/fine', 'A', 'z')",
        "that lie below another corporation's: 2 (E/F/y of corporation 7, below E, E/x of corporation 7, below E)",
    ),
    "an id that no index can hold": (
        ALTER + "ALTER onedrive_item_id TYPE text; " + ADD + "(7, repeat('x', 1001), 'A', 'other')",
        "onedrive_item_ids of more than 1000 bytes: 1 (xxxxx",
    ),
    "names that are the same but for case": (
        ADD + "(7, 'H', 'A', 'U\u0308BUNG.pdf'), (7, 'I', 'A', 'übung.pdf')",
        "but for case and composition: 1 (U\u0308BUNG.pdf = ",
    ),
    "a name that the root has when the parentless come to it": (
        ADD + "(7, 'H', '7', 'LOOSE.txt')",
        "but for case and composition: 1 (LOOSE.txt = loose.txt in 7)",
    ),
    "a parent that is nowhere": (
        ADD + "(7, 'H', 'gone', 'x'), (7, 'I', '', 'y')",
        "rows with a parent_id that no row of their corporation has: 2 (H in gone, I in )",
    ),
    "a parent of another corporation": (ADD + "(7, 'H', 'E', 'x')", "no row of their corporation has: 1 (H in E)"),
    "a circle": (
        ADD + "(7, 'H', 'J', 'x'), (7, 'I', 'H', 'x'), (7, 'J', 'I', 'x'), (7, 'K', 'K', 'x'), (7, 'L', 'K', 'x')",
        "rows that are below themselves, or below such: 5 (H, I, J, K, L); give one of each circle another parent",
    ),
    "names that Haulage refuses": (
        ADD + "(7, 'H', 'A', '..'), (7, 'I', 'A', ''), (7, 'J', 'A', 'a/b'), (7, 'K', 'A', repeat('x', 256))",
        (
            "rows with a name that Haulage refuses: 4 (H: '..' is not a name, I: '' is not a name,"
            " J: a name cannot contain '/' or a NUL character, K: the name has 256 bytes"
        ),
    ),
    "rows without what every row has": (
        ALTER + "ALTER onedrive_item_id DROP NOT NULL; " + ADD + "(NULL, 'H', NULL, 'x'), (7, NULL, 'A', 'y'), (7, 'I', 'A', NULL)",
        "rows without a corp_index: 1 (H)\nrows without a onedrive_item_id: 1 (y)\nrows without a name: 1 (I)",
    ),
    "a corporation that cannot be": (ADD + "(-1, 'H', NULL, 'x'), (0, 'I', NULL, 'x')", "not positive: 2 (-1, 0)"),
    "a row in the root's place": (ADD + "(7, '7', 'A', 'x')", "and the onedrive_item_id of a corporation's root"),
    "a kind that is none": (
        ALTER + "ADD kind text; UPDATE corporate.vmb_items SET kind = 'DIR' WHERE parent_id IS NULL",
        "a kind that is neither file nor folder: 3 (A: DIR, D: DIR, E: DIR)",
    ),
    "a file with children": (
        ALTER + "ADD kind text; UPDATE corporate.vmb_items SET kind = 'file' WHERE onedrive_item_id = 'A'",
        "files that have children, or are a root: 1 (A)",
    ),
    "a negative size": ("UPDATE corporate.vmb_items SET size = -size", "a negative size: 2 (B: -100, D: -3)"),
    "a sum that is none": (ALTER + "ADD sha256 text DEFAULT 'ABC'", "64 hexadecimal digits in lower case: 7 (A,"),
    "ids that are not": (
        ALTER + "DROP CONSTRAINT vmb_items_pkey; UPDATE corporate.vmb_items SET id = 1 WHERE id = 2;"
        + ALTER + "ALTER id DROP NOT NULL; UPDATE corporate.vmb_items SET id = NULL WHERE id = 3",
        "rows without an id: 1 (C)\nids that several rows have: 1 (1)",
    ),
    "types that mean something else": (
        ALTER + "ALTER size TYPE numeric, ADD created_at timestamp, ADD drive_info json, ADD sha256 bytea,"
        " ALTER name TYPE char(300)",
        (
            "the column size is numeric, and how it becomes bigint is yours to decide\n"
            "the column created_at is timestamp without time zone, and how it becomes timestamp with time zone\n"
            "the column drive_info is json,\nthe column sha256 is bytea,\nthe column name is character, and how"
        ),
    ),
    "a parent by number": (
        ALTER + "DROP parent_id, ADD parent_id integer",
        "the column parent_id is integer, and must be text that holds the parent's onedrive_item_id",
    ),
    "columns that cannot be made up": (
        ALTER + "DROP parent_id, DROP name",
        "there is no column parent_id, and nobody but you knows\nthere is no column name, and nobody",
    ),
    "a column that is generated": (
        ALTER + "ADD name_key text GENERATED ALWAYS AS (lower(name)) STORED",
        "the column name_key is generated, and Haulage writes it",
    ),
    "a view that holds a type": (
        "CREATE VIEW corporate.names AS SELECT name, size FROM corporate.vmb_items",
        "the view corporate.names uses the column name, whose type must change: drop it, adopt",
    ),
    "a trigger that holds a type": (
        ("CREATE FUNCTION corporate.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE UPDATE OF name ON corporate.vmb_items FOR EACH ROW EXECUTE FUNCTION corporate.nothing()"),
        "the trigger t uses the column name, whose type must change",
    ),
    "a table that leans on another primary key": (
        ALTER + "DROP CONSTRAINT vmb_items_pkey, ADD PRIMARY KEY (onedrive_item_id);"
        "CREATE TABLE corporate.likes (item varchar(200) REFERENCES corporate.vmb_items)",
        "must become a UNIQUE constraint, and foreign keys rest on it, of corporate.likes",
    ),
    "a constraint under our name": (
        ALTER + "ADD CONSTRAINT uq_vmb_items_corp_index_parent_id_name_key UNIQUE (corp_index, parent_id, name)",
        "has Haulage's name and means something else: rename it",
    ),
    "row level security": (ALTER + "ENABLE ROW LEVEL SECURITY", "row level security is on"),
    "a rule": (
        "CREATE RULE nothing AS ON DELETE TO corporate.vmb_items DO INSTEAD NOTHING",
        "the rule nothing rewrites what is written",
    ),
    "an heir": ("CREATE TABLE corporate.heir () INHERITS (corporate.vmb_items)", "inherits from corporate.vmb_items"),
    "a table that a crash empties": (ALTER + "SET UNLOGGED", "is UNLOGGED, empty after a crash"),
    "names that are taken": (
        ("CREATE TABLE corporate.uploads (); CREATE VIEW corporate.corporations AS SELECT 1 AS corp_index;"
        "CREATE TABLE corporate.alembic_version (version_num text);"
        "CREATE FUNCTION corporate.enqueue_upload(x text) RETURNS text LANGUAGE sql AS 'SELECT x'"),
        (
            "corporate.alembic_version is there already\ncorporate.corporations is there already\n"
            "corporate.enqueue_upload() is there already\ncorporate.uploads is there already, and Haulage needs the name"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoilt", REFUSED)
def test_what_cannot_be_adopted_is_refused_by_name(foreign: Foreign, spoilt: str) -> None:
    statements, sentences = REFUSED[spoilt]
    foreign.ask(statements)

    said = foreign.refused()

    assert [one for one in sentences.split("\n") if one not in said] == [], said
    assert "cannot be adopted as it is" in said


def test_what_is_advised_for_a_primary_key_that_forbids_null_can_be_done(foreign: Foreign) -> None:
    foreign.ask("UPDATE corporate.vmb_items SET parent_id = corp_index WHERE parent_id IS NULL")
    foreign.ask(
        ALTER
        + 'DROP CONSTRAINT vmb_items_pkey, ADD CONSTRAINT "Theirs" PRIMARY KEY (corp_index, parent_id, name)'
    )

    (advice,) = re.findall(r"leaves it NULL where there is none: (.*)", foreign.refused())
    foreign.ask(advice)
    adopted = adopt(foreign)

    assert adopted.corporations == [7, 12]
    assert 'the constraint "Theirs", UNIQUE (corp_index, parent_id, name)' in adopted.stays


def test_what_is_in_columns_of_theirs_is_not_looked_at(foreign: Foreign) -> None:
    foreign.ask(
        ALTER + "ADD notes json; UPDATE corporate.vmb_items SET notes = '\"\\u0000\"'"
    )  # which jsonb cannot hold

    assert adopt(foreign).corporations == [7, 12]


def test_all_reasons_are_told_at_once(foreign: Foreign) -> None:
    foreign.ask(
        ALTER
        + "ADD tenant text NOT NULL DEFAULT 'x'; "
        + ALTER
        + "ALTER tenant DROP DEFAULT, ALTER size TYPE numeric"
    )
    foreign.ask("INSERT INTO corporate.vmb_items VALUES (100, 7, 'A', 'gone', '..', 0, -1, '', true, 'x')")

    said = foreign.refused()
    with pytest.raises(DatabaseRefused) as rehearsed:
        takeover.adopt(foreign.url, make_root, uuid4, rehearse=True)

    assert str(rehearsed.value) == said
    assert [
        one
        for one in ("tenant", "numeric", "more than once", "'..' is not", "gone", "negative")
        if one not in said
    ] == []


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        ("ALTER TABLE corporate.vmb_items RENAME TO x; CREATE VIEW corporate.vmb_items AS SELECT * FROM corporate.x", "a view"),
        (
            ("ALTER TABLE corporate.vmb_items RENAME TO x;"
            "CREATE MATERIALIZED VIEW corporate.vmb_items AS SELECT * FROM corporate.x"),
            "a materialized view",
        ),
        (
            ("DROP TABLE corporate.vmb_items; CREATE TABLE corporate.vmb_items"
            " (corp_index bigint, onedrive_item_id text, parent_id text, name text) PARTITION BY LIST (corp_index)"),
            "a partitioned table",
        ),
    ],
)  # fmt: skip
def test_what_is_no_ordinary_table_is_refused(foreign: Foreign, statements: str, says: str) -> None:
    foreign.ask(statements)

    said = foreign.refused()

    assert f"corporate.vmb_items is {says}, and Haulage needs an ordinary table" in said


def test_tables_of_other_roles_are_refused(foreign: Foreign) -> None:
    foreign.as_admin("CREATE TABLE corporate.salaries (); ALTER TABLE corporate.vmb_items OWNER TO postgres")

    said = foreign.refused_by_adopting()

    assert "belongs to the role postgres, and this is haulage_owner" in said
    assert "corporate.salaries belongs to the role postgres" in said


def test_names_of_roles_are_told_as_sql_wants_them(foreign: Foreign) -> None:
    odd, url = f"Odd {secrets.token_hex(4)}", make_url(foreign.url)
    foreign.as_admin(
        f'CREATE ROLE "{odd}" LOGIN PASSWORD \'secret\'; GRANT USAGE ON SCHEMA corporate TO "{odd}"'
    )
    as_odd = url.set(username=odd, password="secret").render_as_string(hide_password=False)
    try:
        with pytest.raises(DatabaseRefused) as refused:
            takeover.refuse_strangers(as_odd)
    finally:
        foreign.as_admin(f'DROP OWNED BY "{odd}"; DROP ROLE "{odd}"')

    for advice in (
        f'ALTER TABLE corporate.vmb_items OWNER TO "{odd}"',
        f'ALTER SCHEMA corporate OWNER TO "{odd}"',
        f'GRANT CREATE ON DATABASE {url.database} TO "{odd}"',
    ):
        assert advice in str(refused.value)


def test_a_schema_of_another_role_is_refused(foreign: Foreign) -> None:
    foreign.as_admin(
        "ALTER SCHEMA corporate OWNER TO postgres; GRANT ALL ON SCHEMA corporate TO haulage_owner"
    )

    said = foreign.refused()

    assert "the schema corporate belongs to the role postgres, and this is haulage_owner" in said


TRIGGER = """
    CREATE TABLE corporate.audit (item text);
    CREATE FUNCTION corporate.theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {0}; END $$;
    CREATE TRIGGER theirs {1} ON corporate.vmb_items FOR EACH ROW EXECUTE FUNCTION corporate.theirs();
"""


@pytest.mark.parametrize(
    ("does", "when", "says"),
    [
        ("RAISE EXCEPTION 'hands off'", "BEFORE INSERT", "everything is as it was: hands off"),
        ("RAISE EXCEPTION 'hands off'", "BEFORE UPDATE", "everything is as it was: hands off"),
        (
            "IF NEW.name LIKE 'haulage-%' THEN RAISE EXCEPTION 'not yours'; END IF; RETURN NEW",
            "BEFORE INSERT",
            "Haulage could not write to this table; a trigger or a constraint is in the way: not yours",
        ),
        (
            "IF NEW.name LIKE 'haulage-%.x' THEN RETURN NULL; END IF; RETURN NEW",
            "BEFORE INSERT",
            "a trigger or a constraint is in the way: a row did not arrive",
        ),
        (
            (
                "UPDATE corporate.vmb_items SET child_count = child_count + 1 WHERE onedrive_item_id = NEW.parent_id;"
                " RETURN NEW"
            ),
            "AFTER INSERT",
            "A trigger of this table counts children as well",
        ),
    ],
)
def test_triggers_that_forbid_what_haulage_writes_are_found_by_writing(
    foreign: Foreign, does: str, when: str, says: str
) -> None:
    foreign.ask(TRIGGER.format(does, when))

    assert says in foreign.refused_by_adopting()


def test_constraints_that_forbid_what_haulage_writes_are_found_by_writing(foreign: Foreign) -> None:
    foreign.ask(
        ALTER
        + "ADD CONSTRAINT theirs CHECK (web_url <> '' OR size IS NULL) NOT VALID, ALTER web_url SET DEFAULT ''"
    )

    assert 'violates check constraint "theirs"' in foreign.refused_by_adopting()


def test_a_trigger_that_only_looks_on_stays_and_runs(foreign: Foreign) -> None:
    foreign.ask(
        TRIGGER.format(
            "INSERT INTO corporate.audit VALUES (NEW.onedrive_item_id); RETURN NEW", "AFTER INSERT"
        )
    )

    adopted = adopt(foreign)

    assert "the trigger theirs, which runs for what Haulage's roles write, as these roles" in adopted.stays
    assert foreign.ask("SELECT item FROM corporate.audit ORDER BY 1") == [("12",), ("7",)], (
        "nothing of the trial"
    )


def test_another_primary_key_stays_as_a_unique_constraint(foreign: Foreign) -> None:
    foreign.ask(
        ALTER
        + "DROP CONSTRAINT vmb_items_pkey, DROP id, ADD CONSTRAINT theirs PRIMARY KEY (onedrive_item_id)"
    )

    adopt(foreign)

    assert foreign.ask(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'corporate.vmb_items'::regclass AND contype IN ('p', 'u') ORDER BY 1"
    ) == [
        ("pk_vmb_items", "PRIMARY KEY (id)"),
        ("theirs", "UNIQUE (onedrive_item_id)"),
        ("uq_vmb_items_corp_index_onedrive_item_id", "UNIQUE (corp_index, onedrive_item_id)"),
        ("uq_vmb_items_corp_index_parent_id_name_key", "UNIQUE (corp_index, parent_id, name_key)"),
    ]


@pytest.mark.parametrize(
    "numbering",
    [
        "ALTER id DROP DEFAULT",
        "ALTER id DROP DEFAULT, ALTER id ADD GENERATED BY DEFAULT AS IDENTITY (RESTART 8)",
        "ALTER id TYPE bigint",
    ],
)
def test_numbers_go_on_behind_the_highest(foreign: Foreign, numbering: str) -> None:
    foreign.ask(ALTER + numbering)
    foreign.ask("UPDATE corporate.vmb_items SET id = id + 1000")

    adopt(foreign)

    numbers = [number for (number,) in foreign.ask("SELECT id FROM corporate.vmb_items ORDER BY 1")]
    assert numbers[:8] == [*range(1001, 1008), 1008]
    assert len(set(numbers)) == 9


@pytest.mark.parametrize(
    ("numbering", "sequence"),
    [
        ("SELECT setval('corporate.vmb_items_id_seq', 5000)", "corporate.vmb_items_id_seq"),
        ("CREATE SEQUENCE corporate.one START 5001; ALTER TABLE corporate.vmb_items ALTER id SET DEFAULT nextval('corporate.one')",
         "corporate.one"),
        (ALTER + "ALTER id DROP DEFAULT, ALTER id ADD GENERATED BY DEFAULT AS IDENTITY (START 5001)", "corporate.vmb_items_id_seq1"),
        (ALTER + "ALTER id DROP DEFAULT, ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 5001)", "corporate.vmb_items_id_seq1"),
    ],
)  # fmt: skip
def test_numbers_never_go_backwards(foreign: Foreign, numbering: str, sequence: str) -> None:
    foreign.ask(numbering)
    before = foreign.ask(f"SELECT last_value, is_called FROM {sequence}")

    takeover.adopt(foreign.url, make_root, uuid4, rehearse=True)
    assert foreign.ask(f"SELECT last_value, is_called FROM {sequence}") == before
    adopt(foreign)

    assert foreign.ask("SELECT min(id) FROM corporate.vmb_items WHERE id > 7") == [(5001,)]


def test_an_empty_table_is_adopted(foreign: Foreign) -> None:
    foreign.ask("DELETE FROM corporate.vmb_items")

    assert adopt(foreign).corporations == []
    assert foreign.ask("SELECT * FROM corporate.corporations") == [], "nothing of the trial"


def test_an_empty_table_that_haulage_could_not_write_to_is_refused(foreign: Foreign) -> None:
    foreign.ask("DELETE FROM corporate.vmb_items")
    foreign.ask(TRIGGER.format("RAISE EXCEPTION 'hands off'", "BEFORE INSERT"))

    assert "Haulage could not write to this table" in foreign.refused_by_adopting()


def test_a_table_without_sizes_has_files(foreign: Foreign) -> None:
    foreign.ask(ALTER + "DROP size")

    adopt(foreign)

    assert foreign.ask("SELECT onedrive_item_id FROM corporate.vmb_items WHERE kind = 'file' ORDER BY 1") == [
        ("B",), ("C",), ("D",), ("G",),
    ]  # fmt: skip


def test_a_root_row_that_is_there_is_the_root(foreign: Foreign) -> None:
    foreign.ask(ADD + "(7, '7', NULL, 'Documents')")

    adopt(foreign)

    assert foreign.ask(
        "SELECT name, kind, child_count FROM corporate.vmb_items WHERE onedrive_item_id = '7'"
    ) == [("Documents", "folder", 2)]


def test_the_web_gets_no_right_to_tables_of_others(foreign: Foreign) -> None:
    foreign.ask("CREATE TABLE corporate.salaries (); CREATE TABLE corporate.shared ();")
    foreign.ask("GRANT SELECT ON corporate.shared TO haulage_web")

    adopt(foreign)

    assert foreign.ask(
        "SELECT one, has_table_privilege('haulage_web', 'corporate.' || one, 'SELECT')"
        " FROM unnest(ARRAY['salaries', 'shared', 'vmb_items', 'uploads']) AS one ORDER BY 1"
    ) == [("salaries", False), ("shared", True), ("uploads", True), ("vmb_items", True)]


def test_a_table_in_use_is_not_waited_for_for_ever(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        takeover, "_CALM", takeover.text("SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = 100")
    )
    busy = psycopg2.connect(foreign.url)
    try:
        busy.cursor().execute("SELECT * FROM corporate.vmb_items")

        assert "is in use, and could not be locked" in foreign.refused_by_adopting()
    finally:
        busy.close()


def test_to_look_takes_no_lock(foreign: Foreign) -> None:
    busy = psycopg2.connect(foreign.url)
    try:
        busy.cursor().execute(
            "LOCK TABLE corporate.vmb_items IN SHARE ROW EXCLUSIVE MODE"
        )  # as who writes, and more

        with pytest.raises(DatabaseRefused, match="differs from Haulage's"):
            takeover.refuse_strangers(foreign.url)
    finally:
        busy.close()


def test_names_that_are_taken_are_told_without_such_a_table_too(foreign: Foreign) -> None:
    foreign.make("CREATE SCHEMA corporate; CREATE TABLE corporate.uploads ()")

    with pytest.raises(DatabaseRefused, match=r"corporate.uploads is there already"):
        takeover.refuse_strangers(foreign.url)
    with pytest.raises(DatabaseRefused, match=r"corporate.uploads is there already"):
        adopt(foreign)


def test_many_rows_are_adopted_in_one_go(foreign: Foreign) -> None:
    foreign.ask(
        ADD
        + "(1, 'X', NULL, 'many'); INSERT INTO corporate.vmb_items (corp_index, onedrive_item_id, parent_id, name, child_count)"
        " SELECT 1, 'n' || n, CASE WHEN n < 1000 THEN 'X' ELSE 'n' || n / 100 END, 'Name ' || n, 77 FROM generate_series(1, 30000) n"
    )

    adopted = adopt(foreign)

    assert foreign.ask(
        "SELECT count(*) FROM corporate.vmb_items i WHERE child_count <> (SELECT count(*) FROM corporate.vmb_items c"
        " WHERE c.corp_index = i.corp_index AND c.parent_id = i.onedrive_item_id)"
    ) == [(0,)]
    assert len(adopted.corrected) == 30004, "each is told"
