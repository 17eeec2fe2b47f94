"""The workers: asked through Redis, as Flower asks them, and held against their sessions in PostgreSQL."""

import importlib.metadata
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app import queue
from app.diagnosis.broker import connected
from app.diagnosis.environment import LONGEST_CALL_SECONDS
from app.diagnosis.findings import Check, Verdict, bad, good, not_examined, warning
from app.figures import Connection
from app.settings import Settings

FIRST_SECONDS, NEXT_SECONDS = 3.0, 2.0  # how long workers have for an answer
SECONDS = FIRST_SECONDS + 3 * NEXT_SECONDS + 2
SHOWN = 5
TASKS = {
    queue.TRANSFER_UPLOAD, queue.UPLOAD_FILE, queue.RECORD_ITEM, queue.RECOUNT, queue.SWEEP, queue.CLEAN_UP, queue.PURGE
}  # fmt: skip


@dataclass(frozen=True)
class Worker:
    """What a worker says of itself; limits in seconds, 0 without one."""

    name: str
    processes: frozenset[int]
    children: int
    soft: float
    hard: float

    @property
    def host(self) -> str:
        return self.name.partition("@")[2]


@dataclass
class Seen:
    """What the workers told; `before` are the sessions that they had before they were asked."""

    before: Sequence[Connection] = ()
    workers: list[Worker] = field(default_factory=list)
    tasks: dict[str, set[str]] = field(default_factory=dict)
    queues: dict[str, set[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def is_answered_for(self, session: Connection) -> bool:
        """True if a worker that answered knows this session's process as its own."""
        hosts = {worker.host for worker in self.workers}
        return any(
            session.process in worker.processes and (session.host == worker.host or session.host not in hosts)
            for worker in self.workers
        )

    def queues_of_ours(self) -> set[str]:
        """Return the queues that are read by workers who know our tasks: tasks of one's own may have some."""
        ours = [read for name, read in self.queues.items() if self.tasks.get(name, TASKS) >= TASKS]
        return {one for read in ours for one in read}

    def without(self, answers: Collection[str]) -> Verdict | None:
        """Return what is to be said if a worker that was there a moment ago gave none of these answers."""
        silent = [worker.name for worker in self.workers if worker.name not in answers]
        if not silent:
            return None
        return not_examined(f"{silent[0]} did not answer this in time", "It is busy, or ends: look again.")


def checks(chosen: Settings, seen: Seen, sessions: Callable[[], Sequence[Connection]]) -> Sequence[Check]:
    """Return the row of the workers, which fills `seen`; Redis must have answered."""
    return [
        Check("workers", lambda: workers(chosen.redis_url, seen, sessions), is_gate=True, seconds=SECONDS),
        Check("worker-queues", lambda: queues(seen)),
        Check("worker-tasks", lambda: tasks(seen)),
        Check("worker-versions", lambda: versions(seen)),
        Check("worker-limits", lambda: limits(chosen, seen)),
    ]


def ask(url: str, seen: Seen) -> None:
    """Ask every worker; whoever does not answer in time is not seen."""
    with connected(url) as connection:
        exchange = queue.celery.conf.control_exchange
        # Not the application's own mailbox: that one sends over its pool of connections, which are patient.
        mailbox = queue.celery.control.Mailbox(exchange, "fanout", connection, accept=["json"])
        seen.workers = [_worker(*one) for one in _answers(mailbox, "stats", FIRST_SECONDS, None)]
        if not seen.workers:
            return
        many = len(seen.workers)
        for name, told in _answers(mailbox, "active_queues", NEXT_SECONDS, many):
            seen.queues[name] = {one["name"] for one in told}
        for name, told in _answers(mailbox, "registered", NEXT_SECONDS, many):
            seen.tasks[name] = {one.partition(" ")[0] for one in told}
        for name, told in _answers(mailbox, "report", NEXT_SECONDS, many):
            version = re.search(r"celery:(\S+)", str(told.get("ok")))  # the rest of it is the configuration
            seen.versions[name] = version[1] if version else "?"


def _answers(mailbox: Any, question: str, seconds: float, limit: int | None) -> list[tuple[str, Any]]:
    replies = mailbox.multi_call(question, timeout=seconds, limit=limit) or []
    # A list: two workers may have one name, and a dict would hide one of them.
    answers = [one for reply in replies for one in reply.items()]
    return [(name, told) for name, told in answers if not (isinstance(told, dict) and "error" in told)]


def _worker(name: str, stats: Any) -> Worker:
    pool = stats.get("pool") or {}
    children = [one for one in pool.get("processes") or [] if isinstance(one, int)]
    soft, hard = pool.get("timeouts") or (0, 0)
    most = int(pool.get("max-concurrency") or 1)
    return Worker(name, frozenset([*children, int(stats.get("pid", 0))]), most, float(soft), float(hard))


def workers(url: str, seen: Seen, sessions: Callable[[], Sequence[Connection]]) -> Verdict:
    with suppress(SQLAlchemyError):  # which worker-sessions will tell
        seen.before = sessions()
    ask(url, seen)
    names = [worker.name for worker in seen.workers]
    if not names:
        return bad(
            f"none answers within {FIRST_SECONDS:.0f} s: uploads are accepted, and wait",
            "Start one: celery -A tasks.worker worker -c 4. If one runs: does it use this REDIS_URL, and is it deaf "
            "(worker-sessions)?",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return warning(
            f"several have the name {twice[0]}: Flower and this doctor take them for one",
            "Start each with a name of its own: -n worker1@%h.",
        )
    children = sum(worker.children for worker in seen.workers)
    return good(f"{len(names)} with {children} children: {', '.join(sorted(names)[:SHOWN])}")


def queues(seen: Seen) -> Verdict:
    read = {one for queues_of_one in seen.queues.values() for one in queues_of_one}
    unread = [str(one) for one in queue.Queue if one not in read]
    if unread and (silent := seen.without(seen.queues)):
        return silent
    if unread:
        return bad(
            f"no worker reads {', '.join(unread)}",
            "Start a worker without -Q, or with -Q uploads,resume,upkeep among them.",
        )
    return good("every queue has a worker that reads it")


def tasks(seen: Seen) -> Verdict:
    for name, known in sorted(seen.tasks.items()):
        if missing := sorted(TASKS - known):
            return bad(
                f"{name} does not know {len(missing)} of our tasks ({missing[0]}): it throws such messages away",
                "Replace it by a worker of this release (celery -A tasks.worker); is it another application's, on the same "
                "Redis database?",
            )
    return seen.without(seen.tasks) or good("every worker knows every task")


def versions(seen: Seen) -> Verdict:
    ours = importlib.metadata.version("celery")
    if others := {name: version for name, version in seen.versions.items() if version != ours}:
        name, version = min(others.items())
        return warning(
            f"{name} has Celery {version}, this release {ours}", "Replace it by this release's worker."
        )
    return seen.without(seen.versions) or good(f"every worker has Celery {ours}")


def limits(chosen: Settings, seen: Seen) -> Verdict:
    longest = chosen.slice_seconds + LONGEST_CALL_SECONDS
    do = "Start it without --time-limit and --soft-time-limit, and with the SLICE_SECONDS of all others."
    for worker in seen.workers:
        if not worker.soft or not worker.hard:
            return warning(f"{worker.name} has no time limit: what hangs there hangs for ever", do)
        if not longest < worker.soft < worker.hard:
            return bad(
                f"{worker.name} ends its tasks after {worker.soft:.0f} s, or kills them after {worker.hard:.0f} s; a slice "
                f"and its longest call may take {longest} s",
                do,
            )
    return good("every worker gives a slice and its longest call their time")
