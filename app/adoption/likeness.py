"""The shape of a vmb_items that another application has made, beside the one that Haulage needs; changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Constraint,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql

from app.adoption.standing import ITEMS, TABLES

# Nothing is lost between these.
_WIDER_THAN = {"bigint": {"smallint", "integer"}, "text": {"character varying"}}
_NOT_TO_BE_MADE_UP = ("corp_index", "onedrive_item_id", "parent_id", "name")
PRIMARY_KEY = str(ITEMS.primary_key.name)

_COLUMNS = text("""
    SELECT attname, quote_ident(attname), atttypid::regtype::text, atttypmod <> -1, attnotnull, attidentity, attgenerated <> '',
           pg_get_expr(adbin, adrelid)
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = 'corporate.vmb_items'::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
""")
_RULES = text("""
    SELECT conname, contype, pg_get_constraintdef(oid), quote_ident(conname),
           ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)),
           (SELECT string_agg(other.conrelid::regclass::text, ', ') FROM pg_constraint other
                WHERE other.contype = 'f' AND other.conindid = c.conindid AND other.confrelid = c.conrelid)
    FROM pg_constraint c
    WHERE conrelid = 'corporate.vmb_items'::regclass AND contype IN ('p', 'u', 'f', 'c', 'x')
    ORDER BY conname
""")
_INDEXES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = 'corporate'::regnamespace AND relkind = 'i'"
)
_TRIGGERS = text("""
    SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'corporate.vmb_items'::regclass AND NOT tgisinternal ORDER BY 1
""")
# A column whose type is used elsewhere cannot change it.
_USERS = text("""
    SELECT DISTINCT attname, CASE classid
        WHEN 'pg_rewrite'::regclass THEN (SELECT 'the view ' || ev_class::regclass FROM pg_rewrite WHERE oid = objid)
        WHEN 'pg_trigger'::regclass THEN (SELECT 'the trigger ' || quote_ident(tgname) FROM pg_trigger WHERE oid = objid)
        ELSE 'a generated column' END
    FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
    WHERE refclassid = 'pg_class'::regclass AND refobjid = 'corporate.vmb_items'::regclass AND attname = ANY (:columns)
        AND (classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass) OR (classid = 'pg_attrdef'::regclass
             AND EXISTS (SELECT FROM pg_attrdef d WHERE d.oid = objid AND d.adnum <> refobjsubid)))
    ORDER BY 1, 2
""")


class Found(NamedTuple):
    """A column that is there. `type` is without its length; `is_limited` if it has one."""

    name: str
    quoted: str  # where it must be, as SQL wants it
    type: str
    is_limited: bool
    not_null: bool
    identity: str  # PostgreSQL's letter; empty if it has none
    is_generated: bool
    default: str | None


class Rule(NamedTuple):
    """A constraint that is there: PostgreSQL's letter for its kind, its definition as PostgreSQL writes it."""

    name: str
    kind: str
    definition: str
    quoted: str = ""
    columns: Sequence[str] = ()
    referring: str | None = None  # the tables whose foreign keys rest on it


@dataclass
class Likeness:
    """Every difference as a sentence: what adopting puts right, what stands in its way, and what stays as it is."""

    columns: dict[str, Found] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)


def compare(connection: Connection) -> Likeness:
    """Look at corporate.vmb_items, which must be there. The schema must not be in the search_path."""
    seen = Likeness()
    seen.columns = {row[0]: Found(*row) for row in connection.execute(_COLUMNS)}
    seen.rules = [Rule(*row) for row in connection.execute(_RULES)]
    for column in ITEMS.columns:
        _compare_column(seen, column)
    for found in seen.columns.values():
        _look_at_extra(seen, found)
    _compare_rules(seen)
    _look_around(seen, connection)
    return seen


def type_of(column: Column[Any]) -> str:
    return str(column.type.compile(postgresql.dialect())).lower()  # type: ignore[no-untyped-call]


def changes_type(found: Found) -> bool:
    column = ITEMS.columns.get(found.name)
    return column is not None and (found.type, found.is_limited) != (type_of(column), False)


def wanted_rules() -> dict[str, Rule]:
    """Return every constraint of Haulage's by name; of a check the definition is left open."""
    return {str(one.name): Rule(str(one.name), *_definition(one)) for one in ITEMS.constraints}


def renamed(rules: Sequence[Rule]) -> dict[str, str]:
    """Return the constraints that are right but for their name: theirs to ours."""
    names = {rule.name for rule in rules}
    alike = {(rule.kind, rule.definition): rule.name for rule in reversed(rules)}
    pairs = ((alike.get((one.kind, one.definition)), one.name) for one in wanted_rules().values())
    return {old: new for old, new in pairs if old is not None and new not in names}


def other_primary_key(rules: Sequence[Rule]) -> Rule | None:
    """Return the primary key that is there, if it is on other columns than Haulage's."""
    wanted = wanted_rules()[PRIMARY_KEY].definition
    return next((rule for rule in rules if rule.kind == "p" and rule.definition != wanted), None)


def _definition(one: Constraint) -> tuple[str, str]:
    if not isinstance(one, PrimaryKeyConstraint | UniqueConstraint | ForeignKeyConstraint):
        return "c", ""
    columns = ", ".join(one.columns.keys())
    if isinstance(one, PrimaryKeyConstraint):
        return "p", f"PRIMARY KEY ({columns})"
    if isinstance(one, UniqueConstraint):
        return "u", f"UNIQUE ({columns})"
    there = ", ".join(element.column.name for element in one.elements)
    return "f", f"FOREIGN KEY ({columns}) REFERENCES {one.referred_table}({there})"


def _compare_column(seen: Likeness, column: Column[Any]) -> None:
    found, wanted = seen.columns.get(column.name), type_of(column)
    if found is None:
        _miss(seen, column.name, wanted)
        return
    if found.is_generated:
        seen.obstacles.append(
            f"the column {found.name} is generated, and Haulage writes it:"
            f" ALTER TABLE corporate.vmb_items ALTER COLUMN {found.name} DROP EXPRESSION"
        )
    if found.type not in {wanted, *_WIDER_THAN.get(wanted, ())}:
        seen.obstacles.append(_other_type(found, wanted))
    elif changes_type(found):
        limited = ", limited" if found.is_limited else ""
        seen.differences.append(f"the column {found.name} is {found.type}{limited}, not {wanted}")
    if not column.nullable and not found.not_null:
        seen.differences.append(f"the column {found.name} allows NULL")
    if column.nullable and found.not_null:
        seen.obstacles.append(_too_strict(seen, found))
    if column.identity is not None:
        seen.differences += _numbering(found)
    elif column.server_default is not None and found.default is None:
        seen.differences.append(f"the column {found.name} has no default")


def _miss(seen: Likeness, name: str, wanted: str) -> None:
    if name in _NOT_TO_BE_MADE_UP:
        seen.obstacles.append(
            f"there is no column {name}, and nobody but you knows what is in it: add it as {wanted}, and fill it"
        )
    else:
        seen.differences.append(f"there is no column {name} ({wanted})")


def _other_type(found: Found, wanted: str) -> str:
    if found.name == "parent_id":
        return (
            f"the column parent_id is {found.type}, and must be text that holds the parent's onedrive_item_id:"
            " rename it, and add one that does"
        )
    return (
        f"the column {found.name} is {found.type}, and how it becomes {wanted} is yours to decide:"
        f" ALTER TABLE corporate.vmb_items ALTER COLUMN {found.name} TYPE {wanted} USING …"
    )


def _too_strict(seen: Likeness, found: Found) -> str:
    key = next((rule for rule in seen.rules if rule.kind == "p" and found.name in rule.columns), None)
    return (
        f"the column {found.name} is NOT NULL, and Haulage leaves it NULL where there is none:"
        f" ALTER TABLE corporate.vmb_items {_as_unique(key) if key else ''}ALTER COLUMN {found.name} DROP NOT NULL"
    )


def _as_unique(key: Rule) -> str:
    unique = key.definition.replace("PRIMARY KEY", "UNIQUE")
    return f"DROP CONSTRAINT {key.quoted}, ADD CONSTRAINT {key.quoted} {unique}, "


def _numbering(found: Found) -> Iterator[str]:
    if found.default is not None:
        yield f"the column {found.name} gets its numbers from {found.default}, not from an identity"
    elif found.identity != "a":
        yield f"the column {found.name} is not GENERATED ALWAYS AS IDENTITY"


def _look_at_extra(seen: Likeness, found: Found) -> None:
    if found.name in ITEMS.columns:
        return
    if found.not_null and found.default is None and not found.identity:
        seen.obstacles.append(
            f"the column {found.quoted} is NOT NULL without a default, so that no row of Haulage's could be written:"
            f" ALTER TABLE corporate.vmb_items ALTER COLUMN {found.quoted} SET DEFAULT …, or DROP NOT NULL"
        )
    else:
        seen.stays.append(f"the column {found.quoted}")


def _compare_rules(seen: Likeness) -> None:
    theirs, alike, wanted = {rule.name: rule for rule in seen.rules}, renamed(seen.rules), wanted_rules()
    primary_key = other_primary_key(seen.rules)
    if primary_key is not None:
        _replace_primary_key(seen, primary_key)
    for name, one in sorted(wanted.items()):
        found = theirs.get(name)
        if found is None and name not in alike.values():
            definition = f": {one.definition}" if one.definition else ""
            seen.differences.append(f"the constraint {name} is missing{definition}")
        elif found is not None and (found.kind != one.kind or one.definition not in {"", found.definition}):
            seen.obstacles.append(
                f"the constraint {name} has Haulage's name and means something else: rename it"
            )
    seen.differences += [
        f"the constraint {theirs[old].quoted} is not called {new}" for old, new in alike.items()
    ]
    extra = theirs.keys() - wanted.keys() - alike.keys()
    seen.stays += [
        f"the constraint {theirs[name].quoted}, {theirs[name].definition}" for name in sorted(extra)
    ]


def _replace_primary_key(seen: Likeness, theirs: Rule) -> None:
    seen.differences.append(f"the primary key is {theirs.definition[12:]}, not (id)")
    if theirs.referring:
        seen.obstacles.append(
            f"the primary key {theirs.quoted} must become a UNIQUE constraint, and foreign keys rest on it, of"
            f" {theirs.referring}: drop them, adopt, and make them again"
        )


def _look_around(seen: Likeness, connection: Connection) -> None:
    there = set(connection.scalars(_INDEXES))
    missing = sorted({str(one.name) for one in ITEMS.indexes} - there)
    seen.differences += [f"the index {name} is missing" for name in missing]
    seen.differences.append(f"these are missing beside it: {', '.join(TABLES)}; and functions")
    for name in connection.scalars(_TRIGGERS):
        seen.stays.append(f"the trigger {name}, which runs for what Haulage's roles write, as these roles")
    changing = [found.name for found in seen.columns.values() if changes_type(found)]
    for name, user in connection.execute(_USERS, {"columns": changing}):
        seen.obstacles.append(
            f"{user} uses the column {name}, whose type must change: drop it, adopt, and make it again"
        )
