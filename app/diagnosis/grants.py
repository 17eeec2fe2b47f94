"""What the role of web and that of the workers must be allowed, against what this one is."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from app.diagnosis.findings import Verdict, bad, good

# As the migrations grant them. A grant on columns counts as well.
WORKER = {
    "SELECT": (
        "alembic_version corporations staging_identity uploads vmb_items upkeep_runs upload_events tallies"
        " tally_horizon totals drives drive_requests"
    ),
    "INSERT": "uploads vmb_items upkeep_runs upload_events tallies drives drive_requests",
    "UPDATE": "uploads vmb_items upkeep_runs tallies tally_horizon drives drive_requests",
    "DELETE": "drive_requests",
    "EXECUTE": "record_folder fold_tallies",
}
WEB = {
    "SELECT": (
        "alembic_version corporations staging_identity uploads vmb_items upkeep_runs upload_events tallies"
        " tally_horizon totals api_tokens drives drive_requests"
    ),
    "INSERT": "uploads upload_events tallies drive_requests",
    "UPDATE": "uploads tallies drive_requests",
    "EXECUTE": "record_folder enqueue_upload",
}

_TABLE = text("""
    SELECT coalesce(
        CASE :privilege WHEN 'DELETE' THEN has_table_privilege(c.oid, 'DELETE')
            ELSE has_any_column_privilege(c.oid, :privilege) END, false)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'corporate' AND c.relname = :name
""")
_FUNCTION = text("""
    SELECT has_function_privilege(p.oid, :privilege)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'corporate' AND p.proname = :name
""")


def grants(connection: Connection) -> Verdict:
    """Judge the role by the work that it lacks the least for: nothing else says whose it is."""
    whose, lacking = min(
        (("the workers'", _lacking(connection, WORKER)), ("the web's", _lacking(connection, WEB))),
        key=lambda one: len(one[1]),
    )
    role = connection.scalar(text("SELECT quote_ident(current_user)"))
    if lacking:
        return bad(
            f"{role} lacks for {whose} work: {', '.join(f'{privilege} {name}' for privilege, name in lacking)}",
            f"As the owner: {'; '.join(_grant(*one, role) for one in lacking)}",
        )
    return good(f"{role} may do {whose} work")


def _lacking(connection: Connection, needed: dict[str, str]) -> Sequence[tuple[str, str]]:
    wanted = [(privilege, name) for privilege, tables in needed.items() for name in tables.split()]
    return [one for one in wanted if not _is_granted(connection, *one)]


def _is_granted(connection: Connection, privilege: str, name: str) -> bool:
    statement = _FUNCTION if privilege == "EXECUTE" else _TABLE
    return bool(connection.scalar(statement, {"privilege": privilege, "name": name}))


def _grant(privilege: str, name: str, role: object) -> str:
    kind = "FUNCTION " if privilege == "EXECUTE" else ""
    return f"GRANT {privilege} ON {kind}corporate.{name} TO {role}"
