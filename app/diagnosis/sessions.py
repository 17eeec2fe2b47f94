"""PostgreSQL's sessions: whether there are enough, and whether each worker's has a worker that answers."""

from collections.abc import Callable, Sequence

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app import figures
from app.diagnosis.findings import Check, Verdict, bad, good, warning
from app.diagnosis.reading import reading
from app.diagnosis.workers import Seen
from app.figures import Connection
from app.settings import Settings

BUDGET = 0.8  # of what PostgreSQL allows
# Of other roles' sessions less is told, but not that they are there.
_SESSIONS = text("""
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
        count(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL AND pid <> pg_backend_pid()
""")


def of_workers(engine: Engine) -> Sequence[Connection]:
    """Return the sessions that workers' processes have now."""
    with reading(engine) as connection:
        found = figures.connections(Session(connection))
    return [one for one in found if one.role == "worker"]


def checks(chosen: Settings, seen: Seen, engine: Callable[[], Engine]) -> Sequence[Check]:
    return [
        Check("worker-sessions", lambda: _answered(seen, engine())),
        Check("connections", lambda: _budget(chosen, seen, engine())),
    ]


def _answered(seen: Seen, engine: Engine) -> Verdict:
    # A child that came or went meanwhile is in one of the two only.
    still = {one.session for one in of_workers(engine)}
    silent = [one for one in seen.before if one.session in still and not seen.is_answered_for(one)]
    if silent:
        processes = sorted({f"{one.process} at {one.host}" for one in silent})
        return warning(
            f"{len(silent)} of a worker that does not answer: process {', '.join(processes[:5])}",
            "That worker is perhaps deaf: it holds its sessions, and hears nothing of Redis. If it takes no uploads either, "
            "end it (TERM) and start it anew. A stopped machine leaves such sessions, too.",
        )
    return good(f"{len(seen.before)}, each of a worker that answers")


def _budget(chosen: Settings, seen: Seen, engine: Engine) -> Verdict:
    with reading(engine) as connection:
        allowed, used = connection.execute(_SESSIONS).one()
        ours = figures.connections(Session(connection))
    children = sum(worker.children for worker in seen.workers) or len(_processes(ours, "worker"))
    webs = len(_processes(ours, "web"))
    at_most = children * chosen.db_pool_size + webs * chosen.web_pool_size
    others = used - sum(1 for one in ours if one.role in {"web", "worker"})
    told = (
        f"{used} of {allowed} are in use; {children} worker children and {webs} web process(es) may take {at_most}, others "
        f"have {others}"
    )
    do = "Raise max_connections, or run fewer children, or lower DB_POOL_SIZE and WEB_POOL_SIZE."
    most = max(at_most + others, used)
    if most > allowed:
        return bad(told, do)
    return warning(told, do) if most > BUDGET * allowed else good(told)


def _processes(sessions: Sequence[Connection], role: str) -> set[tuple[str, int]]:
    return {(one.host, one.process) for one in sessions if one.role == role}
