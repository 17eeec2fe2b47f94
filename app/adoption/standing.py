"""What stands in the schema corporate before Haulage does: whose it is, what it is, and which names it takes."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from app.models import Base, Item

ITEMS = Base.metadata.tables[f"corporate.{Item.__tablename__}"]
# What the migrations make beside it; a test compares this with a migrated database.
TABLES = (*sorted({one.name for one in Base.metadata.sorted_tables} - {ITEMS.name}), "totals")
FUNCTIONS = ("enqueue_upload", "fold_tallies", "give_drive", "record_folder", "refuse_change", "sum_events")
SCHEMAS = ("haulage_reference", "haulage_theirs")  # there only while a table is adopted

_OTHER_RELATIONS = {
    "v": "a view",
    "m": "a materialized view",
    "p": "a partitioned table",
    "f": "a foreign table",
}

_IS_OURS = text("""
    SELECT to_regclass('corporate.alembic_version') IS NOT NULL
       AND to_regclass('corporate.upload_events') IS NOT NULL
       AND to_regclass('corporate.staging_identity') IS NOT NULL
""")
_IS_THERE = text("SELECT to_regclass('corporate.vmb_items') IS NOT NULL")
_TAKEN = text("""
    SELECT 'corporate.' || relname FROM pg_class
        WHERE relnamespace = to_regnamespace('corporate') AND relname = ANY (:tables) AND relkind <> 'i'
    UNION ALL SELECT DISTINCT 'corporate.' || proname || '()' FROM pg_proc
        WHERE pronamespace = to_regnamespace('corporate') AND proname = ANY (:functions)
    UNION ALL SELECT 'the schema ' || nspname FROM pg_namespace WHERE nspname = ANY (:schemas)
    ORDER BY 1
""")
_ROLE = text("""
    SELECT quote_ident(current_user), relowner::regrole::text, pg_has_role(relowner, 'USAGE'),
           nspowner::regrole::text, pg_has_role(nspowner, 'USAGE'),
           quote_ident(current_database()), has_database_privilege(current_database(), 'CREATE')
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE pg_class.oid = 'corporate.vmb_items'::regclass
""")
_TABLES_OF_OTHERS = text("""
    SELECT quote_ident(relname), relowner::regrole::text FROM pg_class
    WHERE relnamespace = to_regnamespace('corporate') AND relkind IN ('r', 'p', 'v', 'm', 'f')
        AND relname <> 'vmb_items' AND NOT pg_has_role(relowner, 'USAGE')
    ORDER BY 1
""")
_RELATION = text("""
    SELECT relkind, relpersistence, relrowsecurity,
           EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhparent, inhrelid)),
           (SELECT min(quote_ident(rulename)) FROM pg_rewrite WHERE ev_class = c.oid AND c.relkind = 'r')
    FROM pg_class c WHERE oid = 'corporate.vmb_items'::regclass
""")


def is_ours(connection: Connection) -> bool:
    """True if Haulage's migrations have run here, whatever release they were of."""
    return bool(connection.scalar(_IS_OURS))


def is_there(connection: Connection) -> bool:
    """True if anything is called corporate.vmb_items."""
    return bool(connection.scalar(_IS_THERE))


def taken_names(connection: Connection) -> Iterator[str]:
    names = {
        "tables": [*TABLES, "alembic_version"],
        "functions": list(FUNCTIONS),
        "schemas": list(SCHEMAS),
    }
    for (name,) in connection.execute(_TAKEN, names):
        yield f"{name} is there already, and Haulage needs the name for something else: rename yours, or move it"


def what_forbids(connection: Connection) -> Iterator[str]:
    """Say what about corporate.vmb_items as a whole, which must be there, forbids that it is adopted."""
    yield from _role(connection)
    kind, persistence, has_policies, has_kin, rule = connection.execute(_RELATION).one()
    if kind in _OTHER_RELATIONS:
        yield (
            f"corporate.vmb_items is {_OTHER_RELATIONS[kind]}, and Haulage needs an ordinary table:"
            " rename it, and fill a table of this name from it"
        )
    if persistence == "u":
        yield "corporate.vmb_items is UNLOGGED, empty after a crash: ALTER TABLE corporate.vmb_items SET LOGGED"
    if has_policies:
        yield (
            "row level security is on, and would hide rows from Haulage's roles:"
            " ALTER TABLE corporate.vmb_items DISABLE ROW LEVEL SECURITY"
        )
    if has_kin:
        yield "a table inherits from corporate.vmb_items, or it from another: no constraint would hold for both"
    if rule:
        yield f"the rule {rule} rewrites what is written to corporate.vmb_items: DROP RULE, or make it a trigger"


def _role(connection: Connection) -> Iterator[str]:
    role, table_owner, owns_table, schema_owner, owns_schema, base, may_create = connection.execute(
        _ROLE
    ).one()
    if not owns_table:
        yield (
            f"corporate.vmb_items belongs to the role {table_owner}, and this is {role}:"
            f" use that role as OWNER_DATABASE_URL, or ALTER TABLE corporate.vmb_items OWNER TO {role}"
        )
    if not owns_schema:
        yield (
            f"the schema corporate belongs to the role {schema_owner}, and this is {role}:"
            f" use that role as OWNER_DATABASE_URL, or ALTER SCHEMA corporate OWNER TO {role}"
        )
    if not may_create:
        yield f"the role {role} may not create schemas in this database: GRANT CREATE ON DATABASE {base} TO {role}"
    for name, owner in connection.execute(_TABLES_OF_OTHERS):
        yield (
            f"corporate.{name} belongs to the role {owner}, and the migrations may only work beside tables of {role}:"
            " change its owner, or move it to another schema"
        )
