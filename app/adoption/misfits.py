"""The rows of a vmb_items that another application has made: what each will be, and which cannot be adopted.

They are looked at in copies of this session's own, every value as text, and only what Haulage has a use for: no type, no
missing column and nothing in a column of theirs is in the way.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Text, column, func, literal_column, select, text

from app import names
from app.errors import BadName

_SHOWN = 5  # examples in each sentence
_AT_A_TIME = 10_000

_MAKE_KEYS = text("""
    CREATE TEMP TABLE haulage_keys (name text NOT NULL, name_key text NOT NULL, problem text) ON COMMIT DROP
""")
_NAMES = text("SELECT DISTINCT name::text FROM corporate.vmb_items WHERE name IS NOT NULL")
_ADD_KEYS = text("""
    INSERT INTO pg_temp.haulage_keys
        SELECT * FROM unnest(CAST(:names AS text[]), CAST(:keys AS text[]), CAST(:problems AS text[]))
""")
# What is looked at, under the names it has here.
_LOOKED_AT = {
    "corp_index": "corp_index",
    "item_id": "onedrive_item_id",
    "given_parent": "parent_id",
    "name": "name",
    "kind": "kind",
    "child_count": "child_count",
    "size": "size",
    "sha256": "sha256",
    "id": "id",
    "given_key": "name_key",
}
# A root's id is its corp_index: see FilesystemDrive.make_root.
_MAKE_ROWS = """
    CREATE TEMP TABLE haulage_rows ON COMMIT DROP AS
    SELECT r.*, k.name_key, k.problem, CASE WHEN NOT is_root THEN coalesce(given_parent, corp_index) END AS parent_id
    FROM (
        SELECT *, coalesce(item_id = corp_index AND given_parent IS NULL, false) AS is_root
        FROM (SELECT {looked_at} FROM corporate.vmb_items) AS theirs
    ) AS r LEFT JOIN haulage_keys k USING (name)
"""
# Who has children, or was said to, is a folder; who has bytes is a file. The rest are empty folders where files have
# sizes, and files where nothing has.
_MAKE_FUTURE = text("""
    CREATE TEMP TABLE haulage_future ON COMMIT DROP AS
    SELECT r.*, coalesce(c.children, 0) AS children, coalesce(r.kind, CASE
               WHEN r.is_root OR c.children > 0 OR r.child_count ~ '^[1-9]' THEN 'folder'
               WHEN r.size IS NOT NULL OR r.sha256 IS NOT NULL THEN 'file'
               WHEN (SELECT count(size) > 0 FROM haulage_rows) THEN 'folder'
               ELSE 'file' END) AS new_kind
    FROM haulage_rows r
    LEFT JOIN (SELECT corp_index, parent_id AS item_id, count(*) AS children FROM haulage_rows GROUP BY 1, 2) c
        USING (corp_index, item_id)
""")
_ANALYSE = text("ANALYZE pg_temp.haulage_rows, pg_temp.haulage_future")


class Question(NamedTuple):
    """What kind of row is looked for, what somebody has to do about it, and a SELECT of one text for each."""

    what: str
    todo: str
    select: str


_MISFITS = (
    Question(
        "rows without a corp_index",
        "fill it in",
        "SELECT coalesce(item_id, '?') AS example FROM haulage_future WHERE corp_index IS NULL",
    ),
    Question(
        "corp_indexes that are not positive",
        "give these corporations another",
        "SELECT DISTINCT corp_index AS example FROM haulage_future WHERE corp_index ~ '^(-|0)'",
    ),
    Question(
        "rows without a onedrive_item_id",
        "fill it in",
        "SELECT coalesce(name, '?') AS example FROM haulage_future WHERE item_id IS NULL",
    ),
    Question(
        "rows without a name",
        "fill it in",
        "SELECT coalesce(item_id, '?') AS example FROM haulage_future WHERE name IS NULL",
    ),
    Question(
        "rows with a name that Haulage refuses",
        "rename them",
        "SELECT item_id || ': ' || problem AS example FROM haulage_future WHERE problem IS NOT NULL",
    ),
    Question(
        "rows without an id",
        "number them, or rename the column",
        "SELECT item_id AS example FROM haulage_future WHERE has_no_id",
    ),
    Question(
        "ids that several rows have",
        "number these rows anew",
        "SELECT id AS example FROM haulage_future WHERE id IS NOT NULL GROUP BY 1 HAVING count(*) > 1",
    ),
    Question(
        "onedrive_item_ids that a corporation has more than once",
        "keep one row of each",
        "SELECT item_id AS example FROM haulage_future GROUP BY corp_index, item_id HAVING count(*) > 1 AND min(item_id) > ''",
    ),
    Question(
        "onedrive_item_ids that several corporations have",
        "change them: the drive would keep both corporations' files in one place",
        "SELECT item_id AS example FROM haulage_future GROUP BY 1 HAVING count(DISTINCT corp_index) > 1",
    ),
    Question(
        "onedrive_item_ids that are in another corporation's part of the drive",
        "change them, as in: 'id-' || onedrive_item_id",
        """
        SELECT item_id || ' of corporation ' || corp_index AS example FROM haulage_future
        WHERE split_part(item_id, '/', 1) ~ '^[1-9][0-9]*$' AND split_part(item_id, '/', 1) <> corp_index
        """,
    ),
    Question(
        "onedrive_item_ids that are no path in the drive: empty, with an empty part, '.' or '..', or a dot before all",
        "change them, as in: 'id-' || replace(onedrive_item_id, '/', '-')",
        """
        SELECT '''' || item_id || ''' of corporation ' || corp_index AS example FROM haulage_future
        WHERE item_id ~ '(^|/)[.]{0,2}(/|$)' OR item_id ~ '^[.]'
        """,
    ),
    Question(
        "onedrive_item_ids that lie below another corporation's",
        "change them: what is uploaded there would meet",
        """
        SELECT f.item_id || ' of corporation ' || f.corp_index || ', below ' || p.item_id AS example
        FROM haulage_future f CROSS JOIN LATERAL string_to_array(f.item_id, '/') AS parts
        CROSS JOIN LATERAL generate_series(1, cardinality(parts) - 1) AS n
        JOIN haulage_future p ON p.item_id = array_to_string(parts[1:n], '/') AND p.corp_index <> f.corp_index
        WHERE strpos(f.item_id, '/') > 0
        """,
    ),
    Question(
        "onedrive_item_ids of more than 1000 bytes",
        "shorten them",
        "SELECT left(item_id, 20) || '…' AS example FROM haulage_future WHERE octet_length(item_id) > 1000",
    ),
    Question(
        "rows with a parent and the onedrive_item_id of a corporation's root, its corp_index",
        "take one of the two away",
        "SELECT item_id AS example FROM haulage_future WHERE item_id = corp_index AND given_parent IS NOT NULL",
    ),
    Question(
        "rows with a parent_id that no row of their corporation has",
        "mend it, or make it NULL to put them into the root",
        """
        SELECT f.item_id || ' in ' || f.given_parent AS example FROM haulage_future f
        WHERE f.given_parent <> f.corp_index AND NOT EXISTS (SELECT FROM haulage_future p
            WHERE p.corp_index = f.corp_index AND p.item_id = f.given_parent)
        """,
    ),
    Question(
        "rows that are below themselves, or below such",
        "give one of each circle another parent",
        """
        WITH RECURSIVE reached (corp_index, item_id) AS (
            SELECT f.corp_index, f.item_id FROM haulage_future f
            WHERE NOT EXISTS (SELECT FROM haulage_future p
                WHERE p.corp_index = f.corp_index AND p.item_id = f.parent_id)
            UNION
            SELECT f.corp_index, f.item_id FROM reached r
            JOIN haulage_future f ON f.corp_index = r.corp_index AND f.parent_id = r.item_id
        )
        SELECT item_id AS example FROM (
            SELECT corp_index, item_id FROM haulage_future WHERE corp_index IS NOT NULL AND item_id IS NOT NULL
            EXCEPT SELECT corp_index, item_id FROM reached
        ) AS others
        """,
    ),
    Question(
        "names that several children of one folder have, but for case and composition",
        "rename all but one",
        """
        SELECT string_agg(name, ' = ' ORDER BY name) || ' in ' || parent_id AS example FROM haulage_future
        WHERE parent_id IS NOT NULL AND name_key IS NOT NULL
        GROUP BY corp_index, parent_id, name_key HAVING count(*) > 1
        """,
    ),
    Question(
        "rows with a kind that is neither file nor folder",
        "make it one of them, or NULL to have it guessed",
        "SELECT item_id || ': ' || kind AS example FROM haulage_future WHERE kind NOT IN ('file', 'folder')",
    ),
    Question(
        "files that have children, or are a root",
        "make them folders, or give the children another parent",
        "SELECT item_id AS example FROM haulage_future WHERE new_kind = 'file' AND (children > 0 OR is_root)",
    ),
    Question(
        "rows with a negative size",
        "mend it, or make it NULL",
        "SELECT item_id || ': ' || size AS example FROM haulage_future WHERE size LIKE '-%'",
    ),
    Question(
        "rows with a sha256 that is not 64 hexadecimal digits in lower case",
        "mend it, or make it NULL",
        "SELECT item_id AS example FROM haulage_future WHERE sha256 !~ '^[0-9a-f]{64}$'",
    ),
)
_CHANGES = (
    Question(
        "corporations without a row in corporate.corporations",
        "they get one, under a name to be mended",
        "SELECT DISTINCT corp_index AS example FROM haulage_future",
    ),
    Question(
        "corporations without a root row",
        "they get one",
        "SELECT corp_index AS example FROM haulage_future GROUP BY 1 HAVING NOT bool_or(is_root)",
    ),
    Question(
        "rows without a parent",
        "they become children of the root",
        "SELECT item_id AS example FROM haulage_future WHERE given_parent IS NULL AND NOT is_root",
    ),
    Question(
        "rows of no kind that have children, or no bytes",
        "they become folders",
        "SELECT item_id AS example FROM haulage_future WHERE kind IS NULL AND new_kind = 'folder'",
    ),
    Question(
        "rows of no kind that have bytes, or no children",
        "they become files",
        "SELECT item_id AS example FROM haulage_future WHERE kind IS NULL AND new_kind = 'file'",
    ),
    Question(
        "rows with another name_key than Haulage's",
        "it is computed",
        "SELECT item_id AS example FROM haulage_future WHERE given_key <> name_key",
    ),
    Question(
        "rows with a created_at or changed_at of NULL",
        "it becomes the present time",
        "SELECT item_id AS example FROM haulage_future WHERE has_no_time",
    ),
    Question(
        "rows with a child_count that is not the number of their children",
        "they are counted",
        """
        SELECT item_id || ': ' || coalesce(child_count, 'NULL') || ', has ' || children AS example FROM haulage_future
        WHERE has_count AND child_count IS DISTINCT FROM children::text
        """,
    ),
)


def examine(connection: Connection, columns: Collection[str]) -> None:
    """Copy the rows into haulage_future, with the parent, the name's key, the kind and the count that each will have.

    `columns` are those that the table has.
    """
    connection.execute(_MAKE_KEYS)
    if "name" in columns:
        found = connection.execute(_NAMES, execution_options={"stream_results": True})
        for batch in found.scalars().partitions(_AT_A_TIME):
            _add_keys(connection, batch)
    looked_at = ", ".join(_looked_at(columns))
    for statement in (text(_MAKE_ROWS.format(looked_at=looked_at)), _MAKE_FUTURE, _ANALYSE):
        connection.execute(statement)


def _looked_at(columns: Collection[str]) -> Iterator[str]:
    for name, theirs in _LOOKED_AT.items():
        yield f"{theirs if theirs in columns else 'NULL'}::text AS {name}"
    times = [f"{one} IS NULL" for one in ("created_at", "changed_at") if one in columns]
    yield f"{' OR '.join(times) or 'false'} AS has_no_time"
    yield f"{'id IS NULL' if 'id' in columns else 'false'} AS has_no_id"
    yield f"{'child_count' in columns} AS has_count"


def misfits(connection: Connection) -> Iterator[str]:
    """Say which rows cannot be adopted, why, and what to do. The rows must have been examined."""
    return _ask(connection, _MISFITS)


def changes(connection: Connection) -> Iterator[str]:
    """Say which rows adopting changes, and how. The rows must have been examined."""
    return _ask(connection, _CHANGES)


def _add_keys(connection: Connection, batch: Sequence[str]) -> None:
    connection.execute(
        _ADD_KEYS,
        {
            "names": list(batch),
            "keys": [names.key(name) for name in batch],
            "problems": [_problem(name) for name in batch],
        },
    )


def _problem(name: str) -> str | None:
    try:
        names.check(name)
    except BadName as error:
        return str(error)
    return None


def _ask(connection: Connection, questions: Iterable[Question]) -> Iterator[str]:
    for one in questions:
        found = text(one.select).columns(column("example", Text)).subquery()
        rows = connection.execute(
            select(func.count().over(), found.c.example).order_by(literal_column("2")).limit(_SHOWN)
        ).all()
        if rows:
            yield f"{one.what}: {rows[0][0]} ({shown([str(row[1]) for row in rows], rows[0][0])}); {one.todo}"


def shown(examples: Sequence[str], number: int) -> str:
    """Return the examples for a person to read, and a sign that there are more."""
    more = ["…"] if number > len(examples) else []
    return ", ".join([*(names.printable(one)[:80] for one in examples), *more])
