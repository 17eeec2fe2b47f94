"""Takes over a corporate.vmb_items that another application has made: adds what is missing, drops nothing, counts.

All of it is one transaction under a lock of that table. The migrations run as everywhere and make a table of their own;
at its end the adopted one is compared with that, so that it is as the migrations would have made it.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection, TextClause, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import catalogue, database, names, schema
from app.adoption import alignment, likeness, misfits, standing
from app.catalogue import NewItem
from app.errors import DatabaseRefused, HaulageError
from app.models import Kind, StagingIdentity

_LOCK_TIMEOUT = "55P03"
_CALM = text("SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '10s'")
_THEIR_OWN_PATH = text("SET LOCAL search_path TO DEFAULT")  # for their triggers
_LOCK = text("LOCK TABLE corporate.vmb_items IN ACCESS EXCLUSIVE MODE")
_MAY_READ = text("SELECT has_table_privilege('corporate.vmb_items', 'SELECT')")


@dataclass
class Survey:
    """What there is, in sentences: what adopting puts right, what stands in its way, and what stays as it is."""

    differences: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    has_counts: bool = False


@dataclass
class Adopted:
    """What was done, in sentences; all empty where there was nothing to do."""

    differences: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    corporations: list[int] = field(default_factory=list)


def refuse_strangers(url: str) -> None:
    """Raise DatabaseRefused, with every difference, if the schema holds what another application has made."""
    with _one_transaction(url) as connection:
        if not _needs_migrations_alone(connection):
            raise DatabaseRefused(_refusal(_survey(connection)))


def adopt(
    url: str, make_places: Callable[[int], str], make_staging: Callable[[], UUID], *, rehearse: bool = False
) -> Adopted:
    """Make corporate.vmb_items Haulage's own, as the role in `url`; return what was done, or nothing to do.

    `make_places` makes what a corporation has in drive and inbox and returns its root's id, `make_staging` the staging and
    returns its identity; they are called right before the commit. A rehearsal does all the rest, and takes it back. Raises
    DatabaseRefused, and leaves everything as it was, if the table cannot be adopted.
    """
    with _one_transaction(url) as connection:
        if _needs_migrations_alone(connection):
            return Adopted()
        if list(standing.what_forbids(connection)):  # nor may it be locked, then
            raise DatabaseRefused(_refusal(_survey(connection)))
        _lock(connection)
        if standing.is_ours(connection):  # somebody else has adopted it while this one waited
            return Adopted()
        survey = _survey(connection)
        if survey.obstacles:
            raise DatabaseRefused(_refusal(survey))
        adopted = _take_over(connection, survey)
        if not rehearse:
            _make_roots(adopted.corporations, make_places)
            connection.execute(insert(StagingIdentity).values(identity=make_staging()))
            connection.commit()
        return adopted


def _needs_migrations_alone(connection: Connection) -> bool:
    """True if there is nothing to adopt. Raises DatabaseRefused if even so the migrations could not run."""
    if standing.is_ours(connection):
        return True
    if standing.is_there(connection):
        return False
    if taken := list(standing.taken_names(connection)):
        raise DatabaseRefused(_lines("The migrations cannot run:", taken))
    return True


@contextmanager
def _one_transaction(url: str) -> Iterator[Connection]:
    """Yield a connection whose transaction is rolled back unless the block commits it; errors become one sentence."""
    with database.short_lived_engine(url).connect() as connection:
        try:
            connection.execute(_CALM)
            yield connection
        except DBAPIError as error:
            if database.is_out_of_reach(error):
                raise
            raise DatabaseRefused(
                f"PostgreSQL refused a step, and everything is as it was: {_said(error)}"
            ) from error


def _said(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())


def _lock(connection: Connection) -> None:
    try:
        connection.execute(_LOCK)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_TIMEOUT:
            raise
        raise DatabaseRefused(
            "corporate.vmb_items is in use, and could not be locked within 10 s: stop who uses it, or try again"
        ) from error


def _survey(connection: Connection) -> Survey:
    seen = likeness.compare(connection)
    found = Survey(seen.differences, [], seen.stays, "child_count" in seen.columns)
    found.obstacles += [
        *standing.what_forbids(connection),
        *standing.taken_names(connection),
        *seen.obstacles,
    ]
    if connection.scalar(_MAY_READ):
        misfits.examine(connection, seen.columns)
        found.obstacles += misfits.misfits(connection)
        found.differences += misfits.changes(connection)
    return found


def _refusal(survey: Survey) -> str:
    said = "corporate.vmb_items was made by another application"
    if survey.obstacles:
        return _lines(f"{said}, and cannot be adopted as it is:", survey.obstacles)
    told = _lines(f"{said}, and differs from Haulage's:", survey.differences)
    stays = _lines("What stays as it is:", survey.stays) if survey.stays else ""
    how = "`haulage migrate --adopt` adds what is missing, drops nothing, and counts anew; --dry-run rehearses it."
    return "\n".join(filter(None, [told, stays, how]))


def _lines(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  - {line}" for line in lines)])


def _take_over(connection: Connection, survey: Survey) -> Adopted:
    connection.execute(
        text("SET CONSTRAINTS ALL IMMEDIATE")
    )  # the table cannot change while checks are put off
    _migrate_beside(connection)
    for written in alignment.BEFORE_THE_ROWS:
        _run_what_is_written(connection, written)
    corrected = _look_after_rows(connection)
    for written in alignment.AFTER_THE_ROWS:
        _run_what_is_written(connection, written)
    if different := connection.scalars(alignment.STILL_DIFFERENT).all():
        raise DatabaseRefused(f"These could not be made like Haulage's: {', '.join(different)}")
    _run(connection, *alignment.DROP_REFERENCE)
    corporations = list(connection.scalars(alignment.CORP_INDEXES))
    _try_writing(connection, corporations)
    return Adopted(survey.differences, corrected if survey.has_counts else [], survey.stays, corporations)


def _migrate_beside(connection: Connection) -> None:
    """Run the migrations while the table stands aside; then put what they made of it aside, as the reference."""
    not_ours = connection.scalars(alignment.NOT_OURS_TO_GRANT).all()
    _run(connection, *alignment.STAND_ASIDE)
    schema.upgrade(connection)
    _run(connection, *not_ours, *alignment.COME_BACK, *alignment.LOOK_AT_BOTH)


def _run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _run_what_is_written(connection: Connection, query: TextClause) -> None:
    _run(connection, *filter(None, connection.scalars(query).all()))


def _look_after_rows(connection: Connection) -> list[str]:
    """Give every row what it lacks; return the counts that were wrong, in sentences."""
    connection.execute(_THEIR_OWN_PATH)
    for statement in (alignment.CORPORATIONS, alignment.ROOTS, alignment.ROWS):
        connection.execute(statement)
    corrected = connection.execute(alignment.RECOUNT).all()
    connection.execute(_CALM)
    return [
        f"child_count of {names.printable(item_id)} of corporation {corp_index}: {noted}, now {counted}"
        for corp_index, item_id, noted, counted in corrected
    ]


def _try_writing(connection: Connection, corporations: list[int]) -> None:
    """Write as Haulage will, and take it back: what triggers and constraints of others forbid shows here.

    Raises DatabaseRefused if a write is refused, or if children are counted by somebody else, too.
    """
    connection.execute(_THEIR_OWN_PATH)
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        try:
            if not corporations:
                catalogue.add_corporation(session, 1, "Trial", "1")
            counts = _write_as_haulage(session, (corporations or [1])[0])
        except (DBAPIError, HaulageError) as error:
            said = _said(error) if isinstance(error, DBAPIError) else "a row did not arrive"
            raise DatabaseRefused(
                f"Haulage could not write to this table; a trigger or a constraint is in the way: {said}"
            ) from error
        session.rollback()
    connection.execute(_CALM)
    if counts != (1, 1):
        raise DatabaseRefused(
            "A trigger of this table counts children as well, or keeps them from being counted: "
            f"one more child made child_count {counts[0]} more; drop the trigger, Haulage counts"
        )


def _write_as_haulage(session: Session, corp_index: int) -> tuple[int, int]:
    """Make a folder and two files of one name; return by how much the root's and the folder's child_count grew."""
    root = catalogue.root_id(session, corp_index)
    before = catalogue.item(session, corp_index, root).child_count
    name = f"haulage-{secrets.token_hex(8)}"
    folder, _ = catalogue.record_folder(
        session, corp_index, NewItem(f"{root}/{name}", root, name, Kind.FOLDER)
    )
    session.expire_all()
    grown = catalogue.item(session, corp_index, root).child_count - before
    for parent in (folder, root):
        new = NewItem(f"{parent}/{name}.x", parent, f"{name}.x", size=1, sha256=64 * "0")
        catalogue.record(session, corp_index, new)
        catalogue.count_in(session, corp_index, parent)
        catalogue.record(session, corp_index, NewItem(**vars(new) | {"size": 2}), replace=True)
        session.flush()
    session.expire_all()
    return grown, catalogue.item(session, corp_index, folder).child_count


def _make_roots(corporations: list[int], make_places: Callable[[int], str]) -> None:
    for corp_index in corporations:
        if make_places(corp_index) != str(corp_index):
            raise DatabaseRefused(
                "This drive's roots have other ids than corp_index: it cannot adopt a table"
            )
