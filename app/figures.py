"""What is going on in an installation, for whoever runs it: read from PostgreSQL alone, and nothing is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Float, case, cast, func, select, text
from sqlalchemy.orm import Session

from app import pauses, queue, tallies
from app.models import DriveState, State, Upload
from app.pauses import Asked
from app.uploads import DEADLINE


@dataclass(frozen=True)
class Connection:
    """One PostgreSQL session of one of our processes; ages in seconds. `tls` is the protocol's version, None without.

    Of another role's sessions only the names are to be seen, unless the asking role has pg_read_all_stats.
    """

    process: int
    role: str
    host: str
    session: int
    tls: str | None
    state: str | None
    age: float | None
    state_age: float | None

    @property
    def is_visible(self) -> bool:
        return self.age is not None


@dataclass(frozen=True)
class Minute:
    """What was stored in one of the last sixty minutes; `ago` is 0 for the one that is running."""

    ago: int
    uploads: int
    bytes: int


@dataclass(frozen=True)
class Figures:
    """`oldest_waiting` and `since_sweep` in seconds, None if nothing waits and if no sweep ever ran."""

    uploads: Mapping[State, int]
    waiting_by_age: Mapping[str, int]
    oldest_waiting: float | None
    since_sweep: float | None
    totals: Mapping[tuple[str, str], int]
    connections: Sequence[Connection]
    postponed: Mapping[str, int]
    pauses: Mapping[str, DriveState]
    asked: Mapping[str, Asked]


# Nearly all uploads are stored in the end, so those are not counted here but taken from the tallies.
_UPLOADS = text("SELECT state, count(*) FROM corporate.uploads WHERE state <> 'stored' GROUP BY state")
# How long a queued upload has waited: since its first attempt began, or before that since it was queued, be it by a retry.
# One that is in the drive in part, between two slices as a rule, waits since it is due.
_FIRST_TRIED = Upload.deadline_at - DEADLINE
_SINCE = case((Upload.transferred == 0, func.coalesce(_FIRST_TRIED, Upload.due_at)), else_=Upload.due_at)
waited = func.greatest(func.now() - _SINCE, timedelta(0))
oldest_waited = cast(func.extract("epoch", func.max(waited)), Float)
_AGES = {
    "under a minute": (timedelta(0), timedelta(minutes=1)),
    "under ten minutes": (timedelta(minutes=1), timedelta(minutes=10)),
    "under an hour": (timedelta(minutes=10), timedelta(hours=1)),
    "an hour and more": (timedelta(hours=1), timedelta.max),
}
_WAITING = select(
    *(func.count().filter(waited >= least, waited < most) for least, most in _AGES.values()), oldest_waited
).where(Upload.state == State.QUEUED)
_POSTPONED = text("""
    SELECT reason, count(*) AS uploads FROM corporate.uploads
    WHERE state = 'queued' AND reason IS NOT NULL GROUP BY reason
""")
_SWEEP = text(
    "SELECT extract(epoch FROM now() - ran_at)::float FROM corporate.upkeep_runs WHERE task = :task"
)
_CONNECTIONS = text("""
    SELECT a.application_name, a.pid, CASE WHEN s.ssl THEN s.version END, a.state,
        extract(epoch FROM clock_timestamp() - a.backend_start)::float,
        extract(epoch FROM clock_timestamp() - a.state_change)::float
    FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s USING (pid)
    WHERE a.datname = current_database() AND a.application_name ~ '^[0-9]+ [a-z]+@'
    ORDER BY 1, 2
""")
_THROUGHPUT = text("""
    SELECT (extract(epoch FROM date_trunc('minute', now()) - date_trunc('minute', at)) / 60)::int,
        count(*), coalesce(sum((detail->>'bytes')::bigint), 0)::bigint
    FROM corporate.upload_events
    WHERE at > date_trunc('minute', now()) - interval '59 minutes' AND kind = 'stored'
    GROUP BY 1
""")


def gather(session: Session) -> Figures:
    sums = tallies.totals(session)
    uploads = {State(state): number for state, number in session.execute(_UPLOADS)}
    *by_age, oldest = session.execute(_WAITING).one()
    return Figures(
        uploads=uploads | {State.STORED: sum(sums[what, drive] for what, drive in sums if what == "stored")},
        waiting_by_age=dict(zip(_AGES, by_age, strict=True)),
        oldest_waiting=oldest,
        since_sweep=session.scalar(_SWEEP, {"task": queue.SWEEP}),
        totals=sums,
        connections=connections(session),
        postponed=postponed(session),
        pauses=pauses.now(session),
        asked=pauses.requests(session),
    )


def postponed(session: Session) -> Mapping[str, int]:
    """Return how many uploads are queued again, by the code of what ended their last attempt."""
    return {row.reason: row.uploads for row in session.execute(_POSTPONED)}


def _connection(row: Sequence[Any]) -> Connection:
    name, session, tls, state, age, state_age = row
    process, _, who = name.partition(" ")
    role, _, host = who.partition("@")
    return Connection(int(process), role, host, session, tls, state, age, state_age)


def connections(session: Session) -> Sequence[Connection]:
    """Return the sessions of this application's processes, as far as the asking role may see them."""
    return [_connection(tuple(row)) for row in session.execute(_CONNECTIONS)]


def throughput(session: Session) -> Sequence[Minute]:
    """Return what was stored in each of the last sixty minutes, the oldest first."""
    found = {ago: (uploads, size) for ago, uploads, size in session.execute(_THROUGHPUT)}
    return [Minute(ago, *found.get(ago, (0, 0))) for ago in reversed(range(60))]
