"""The examination of a whole installation: what can be looked at by itself at once, the workers after what they need."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

from sqlalchemy import Engine

from app import database, queue
from app.diagnosis import (
    broker,
    certificates,
    disks,
    drives,
    environment,
    findings,
    flower,
    postgres,
    sessions,
    work,
    workers,
)
from app.diagnosis.findings import Check, Finding, Level, Secrets
from app.diagnosis.reading import Engines
from app.drive_settings import names, readable
from app.settings import Settings

# In the order in which they are told. Of drives there may be several; a line about one of them goes on with :NAME.
NAMES = (
    "settings", "limits",
    "postgresql", "postgresql-session", "postgresql-tls", "postgresql-certificate", "postgresql-ca", "clock-postgresql",
    "roles", "owner", "schema", "grants", "connections",
    "redis", "redis-tls", "redis-certificate", "redis-ca", "redis-eviction", "redis-memory", "redis-persistence",
    "redis-keys", "clock-redis", "queues",
    "staging", "staging-identity", "staging-space", "inbox",
    "drives", "drive", "drive-space", "onedrive-files", "onedrive", "drive-pauses", "corporations",
    "workers", "worker-sessions", "worker-queues", "worker-tasks", "worker-versions", "worker-limits",
    "sweep", "clean-up", "waiting", "failed", "tokens", "flower",
)  # fmt: skip


def examine(chosen: Settings, variables: Mapping[str, str]) -> list[Finding]:
    """Look at everything, and change nothing; each line has one finding. `variables` are the environment's own."""
    engines = cache(database.short_lived_engine)
    found = _at_once(_first_rows(chosen, variables, engines))
    found |= _workers(chosen, found, partial(engines, chosen.database_url))
    hidden = Secrets(
        [chosen.database_url, chosen.owner_database_url, chosen.redis_url, variables.get("FLOWER_BASIC_AUTH")]
    )
    told = sorted(found.values(), key=lambda one: NAMES.index(kind_of(one.name)))
    return [Finding(one.name, one.level, hidden.hide(one.found), hidden.hide(one.do)) for one in told]


def kind_of(line: str) -> str:
    """Return the name that a line has in NAMES."""
    return line.partition(":")[0]


def _first_rows(
    chosen: Settings, variables: Mapping[str, str], engines: Engines
) -> Sequence[Sequence[Check]]:
    known, problems = readable()
    named = {*known, *names()}
    return [
        [
            Check("settings", lambda: environment.settings(variables)),
            Check("limits", lambda: _limits(chosen)),
            Check("drives", lambda: drives.settings(known, problems, variables)),
        ],
        [*postgres.checks(chosen, engines), *work.checks(chosen, engines, known, named)],
        broker.checks(chosen),
        *certificates.checks(chosen),
        *disks.checks(chosen, known),
        *drives.checks(known),
        [flower.check(variables)],
    ]


def _limits(chosen: Settings) -> findings.Verdict:
    conf = queue.celery.conf
    visibility = conf.broker_transport_options["visibility_timeout"]
    return environment.limits(chosen, conf.task_soft_time_limit, conf.task_time_limit, visibility)


def _at_once(rows: Sequence[Sequence[Check]]) -> dict[str, Finding]:
    with ThreadPoolExecutor(len(rows)) as threads:
        return {one.name: one for row in threads.map(findings.run, rows) for one in row}


def _workers(
    chosen: Settings, found: Mapping[str, Finding], engine: Callable[[], Engine]
) -> dict[str, Finding]:
    """Ask the workers, as far as Redis answers, and judge PostgreSQL's sessions by what they say."""
    seen = workers.Seen()
    no_redis, no_postgres = (
        name if found[name].level is Level.BAD else None for name in ("redis", "postgresql")
    )
    before = (lambda: sessions.of_workers(engine())) if no_postgres is None else list
    answered, budget = sessions.checks(chosen, seen, engine)
    told = [
        *findings.run(workers.checks(chosen, seen, before), no_redis),  # first, since it fills `seen`
        *findings.run([broker.keys_check(chosen.redis_url, seen.queues_of_ours)], no_redis),
        *findings.run([answered], no_postgres or no_redis),
        *findings.run([budget], no_postgres),
    ]
    return {one.name: one for one in told}
