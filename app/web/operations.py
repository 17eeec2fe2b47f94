"""The route of the operations page: what goes on in the whole installation, as far as PostgreSQL knows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from fastapi import APIRouter, Response

from app import figures, pauses
from app.database import session_scope
from app.figures import Connection, Figures, Minute
from app.models import State
from app.settings import settings
from app.web import means, page_shell
from app.web.access import OPERATOR

router = APIRouter(include_in_schema=False)

LATE_SWEEPS = 10  # a sweep that is later than this many of its intervals is not late by chance
BAR_WIDTH, BAR_HEIGHT = 10, 80
ROLES = ("worker", "web", "command")  # in this order; others come behind
TOTALS = (
    ("stored", "uploads stored"),
    ("failed", "uploads failed"),
    ("cancelled", "uploads cancelled"),
    ("transferring", "attempts"),
    ("set_back", "attempts that failed and were made again"),
    ("worker_lost", "attempts that ended without a word"),
    ("fenced", "late writes refused"),
    ("wake_ups", "wake-ups sent"),
)


@dataclass(frozen=True)
class Bar:
    x: int
    height: float
    ago: int
    amount: int


@dataclass(frozen=True)
class Picture:
    """One amount for each of the last sixty minutes, and what it comes to in words."""

    bars: Sequence[Bar]
    total: int
    most: int
    most_ago: int


@dataclass(frozen=True)
class Process:
    """One process of ours by its id, and its PostgreSQL sessions."""

    id: int
    sessions: Sequence[Connection]


@dataclass(frozen=True)
class Group:
    """The processes of one role on one host."""

    host: str
    role: str
    processes: Sequence[Process]

    @property
    def sessions(self) -> int:
        return sum(len(process.sessions) for process in self.processes)


@router.get("/operations", dependencies=[OPERATOR])
async def operations(mine: means.Given) -> Response:
    """Show what goes on, from PostgreSQL alone."""
    found, minutes = await mine.in_database(_read)
    chosen = settings()
    return page_shell.render(
        "operations.html",
        found=found,
        states=[(state, found.uploads.get(state, 0)) for state in State if state != State.STORED],
        totals=list(_totals(found.totals)),
        stored_bytes=_sum(found.totals, "bytes"),
        groups=list(_groups(found.connections)),
        hidden=sum(not one.is_visible for one in found.connections),
        without_tls=sum(one.is_visible and one.tls is None for one in found.connections),
        is_sweep_late=_is_late(found, chosen.sweep_seconds),
        pictures={
            "uploads": _picture(minutes, [minute.uploads for minute in minutes]),
            "bytes": _picture(minutes, [minute.bytes for minute in minutes]),
        },
        bar={"width": BAR_WIDTH, "height": BAR_HEIGHT},
        flower_url=chosen.flower_url,
        sentence=pauses.sentence,
    )


def _read() -> tuple[Figures, Sequence[Minute]]:
    with session_scope() as session:
        return figures.gather(session), figures.throughput(session)


def _is_late(found: Figures, interval: int) -> bool:
    return found.since_sweep is None or found.since_sweep > LATE_SWEEPS * interval


def _totals(totals: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, int]]:
    for what, meaning in TOTALS:
        yield meaning, _sum(totals, what)


def _sum(totals: Mapping[tuple[str, str], int], what: str) -> int:
    return sum(amount for (kind, _), amount in totals.items() if kind == what)


def _groups(connections: Sequence[Connection]) -> Iterator[Group]:
    def where(one: Connection) -> tuple[int, str, str]:
        return ROLES.index(one.role) if one.role in ROLES else len(ROLES), one.role, one.host

    ordered = sorted(connections, key=lambda one: (*where(one), one.process, one.session))
    for (_, role, host), members in groupby(ordered, key=where):
        by_process = groupby(members, key=lambda one: one.process)
        yield Group(host, role, [Process(number, list(sessions)) for number, sessions in by_process])


def _picture(minutes: Sequence[Minute], amounts: Sequence[int]) -> Picture:
    most = max(amounts)
    bars = [
        Bar(
            x=number * BAR_WIDTH,
            height=round(amount / most * BAR_HEIGHT, 1) if most else 0,
            ago=minute.ago,
            amount=amount,
        )
        for number, (minute, amount) in enumerate(zip(minutes, amounts, strict=True))
    ]
    return Picture(bars, sum(amounts), most, minutes[list(amounts).index(most)].ago)
