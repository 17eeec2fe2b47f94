"""The route that Prometheus scrapes: everything is taken from PostgreSQL, so that one web process can tell of all."""

import logging
from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy.exc import SQLAlchemyError

from app import figures
from app.database import is_out_of_reach, session_scope
from app.figures import Connection, Figures
from app.models import State
from app.web import means
from app.web.access import IsDatabaseUp
from app.web.problems import responses

log = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])

# Metric, what the tallies call it, and what it means.
_COUNTED = (
    ("haulage_attempts", "transferring", "Attempts at uploads"),
    ("haulage_setbacks", "set_back", "Attempts that failed and are made again"),
    ("haulage_workers_lost", "worker_lost", "Attempts that ended without a word"),
    ("haulage_failed", "failed", "Uploads that failed for good"),
    ("haulage_cancelled", "cancelled", "Uploads that were cancelled"),
    ("haulage_fenced_writes", "fenced", "Writes refused because another attempt had taken over"),
    ("haulage_wake_ups", "wake_ups", "Messages sent to wake uploads"),
)
_BY_DRIVE = (
    ("haulage_stored", "stored", "Uploads stored", 1),
    ("haulage_stored_bytes", "bytes", "Bytes of the uploads stored", 1),
    ("haulage_storing_seconds", "milliseconds", "Time that the attempts took which stored them", 1000),
)


@router.get(
    "/metrics",
    response_class=Response,
    responses=responses() | {200: {"description": "Figures", "content": {"text/plain": {}}}},
)
async def metrics(mine: means.Given, is_database_up: IsDatabaseUp) -> Response:
    """Tell the figures in Prometheus' text format. While PostgreSQL is away, that is all they say."""
    found = await _figures(mine) if is_database_up else None
    return Response(_as_text(found), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _figures(mine: means.Means) -> Figures | None:
    try:
        return await mine.in_database(_gather)
    except SQLAlchemyError as error:
        if not is_out_of_reach(error):
            raise
        log.warning("no figures: PostgreSQL is out of reach: %s", error)
        return None


def _gather() -> Figures:
    with session_scope() as session:
        return figures.gather(session)


def _as_text(found: Figures | None) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Told(found))
    return generate_latest(registry)


class _Told:
    """Figures that were gathered, in the form that the client library writes out."""

    def __init__(self, found: Figures | None) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        up = 0 if self._found is None else 1
        yield GaugeMetricFamily("haulage_database_up", "1 if PostgreSQL answered this scrape", value=up)
        if self._found is not None:
            yield from _gauges(self._found)
            yield from _counters(self._found)


def _gauges(found: Figures) -> Iterator[Metric]:
    uploads = GaugeMetricFamily("haulage_uploads", "Uploads by state", labels=["state"])
    for state in State:
        uploads.add_metric([state], found.uploads.get(state, 0))
    yield uploads
    yield _postponed(found)
    yield from _drives(found)
    yield GaugeMetricFamily(
        "haulage_oldest_waiting_seconds",
        "How long the oldest queued upload has waited since it was queued or first tried; 0 if none waits",
        value=found.oldest_waiting or 0,
    )
    if found.since_sweep is not None:
        yield GaugeMetricFamily(
            "haulage_sweep_age_seconds", "How long ago the last sweep ran", value=found.since_sweep
        )
    sessions = GaugeMetricFamily(
        "haulage_database_sessions",
        "PostgreSQL sessions by what their process is",
        labels=["role", "host", "tls"],
    )
    by_kind = Counter((one.role, one.host, _tls(one)) for one in found.connections)
    for labels, number in sorted(by_kind.items()):
        sessions.add_metric(labels, number)
    yield sessions


def _drives(found: Figures) -> Iterator[Metric]:
    paused = GaugeMetricFamily(
        "haulage_drive_paused",
        "1 while nobody is to ask this drive, by the reason",
        labels=["drive", "reason"],
    )
    for name, pause in sorted(found.pauses.items()):
        paused.add_metric([name, pause.reason], 1)
    yield paused
    for what, meaning in (
        ("requests", "Requests to a drive in the last minute that is over"),
        ("units", "What Microsoft counts for them"),
    ):
        told = GaugeMetricFamily(f"haulage_drive_{what}_last_minute", meaning, labels=["drive"])
        for name, asked in sorted(found.asked.items()):
            told.add_metric([name], getattr(asked, what))
        yield told


def _postponed(found: Figures) -> Metric:
    told = GaugeMetricFamily(
        "haulage_uploads_postponed",
        "Uploads that are queued again, by what ended their last attempt",
        labels=["reason"],
    )
    for reason, number in sorted(found.postponed.items()):
        told.add_metric([reason], number)
    return told


def _tls(one: Connection) -> str:
    return (one.tls or "none") if one.is_visible else "not visible"


def _counters(found: Figures) -> Iterator[Metric]:
    for name, what, meaning in _COUNTED:
        amount = sum(found.totals[key] for key in found.totals if key[0] == what)
        yield CounterMetricFamily(name, meaning, value=amount)
    for name, what, meaning, divisor in _BY_DRIVE:
        counter = CounterMetricFamily(name, meaning, labels=["drive"])
        for (kind, drive), amount in sorted(found.totals.items()):
            if kind == what:
                counter.add_metric([drive], amount / divisor)
        yield counter
