"""The same bare job on several queues, each with two processes: how many jobs a second each gets done."""

import os
import signal
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import psycopg2

from benchmarks.report import Table
from benchmarks.speed.chart import Chart
from benchmarks.speed.jobs.bare import THREADS
from benchmarks.speed.part import Part
from benchmarks.speed.rounds import HEADINGS, Rounds, interleaved
from benchmarks.speed.stand import Stand, say
from local.home import PROJECT
from local.system import BIN, NotUp, System

PROCESSES = 2
WARM = 0.02  # of the jobs: what is measured begins when so many are done
PATIENCE = 120.0  # seconds without a job getting done
GOODBYE = 5.0  # seconds
BASE = "Celery, Haulage's settings"
TABLE = """
    CREATE TABLE IF NOT EXISTS corporate.bench_jobs (
        number bigint NOT NULL, process bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    GRANT SELECT, INSERT ON corporate.bench_jobs TO PUBLIC
"""
SPEED = """
    SELECT count(*), count(DISTINCT number), extract(epoch FROM max(at) - min(at) FILTER (WHERE place > %s))
    FROM (SELECT number, at, row_number() OVER (ORDER BY at) AS place FROM corporate.bench_jobs) AS jobs
"""


@dataclass(frozen=True)
class Queue:
    """How a queue is fed and worked. `jobs`: the share of a round's jobs it gets, since some would take all day."""

    title: str
    module: str
    worker: tuple[str, ...]
    killed: str  # what becomes of a job whose worker is killed
    share: float = 1.0
    kind: str = ""
    ours: bool = False
    threads: int = 1  # of each process, that make jobs


JOBS = "benchmarks.speed.jobs"
CELERY = ("celery", "-A", f"{JOBS}.on_haulage", "worker", "-l", "warning", "-c", str(PROCESSES))
AHEAD = tuple(word.replace("on_haulage", "on_celery_ahead") for word in CELERY)
TASKIQ_THREADS = min((os.cpu_count() or 1) + 4, THREADS)  # Python's own number; each needs a connection
LATE = "comes again: acknowledged late; in Haulage the row brings it back"
BROKER = f"{JOBS}.on_taskiq:broker"
TASKIQ = ("taskiq", "worker", BROKER, "--workers", str(PROCESSES), "--log-level", "WARNING")
DRAMATIQ = ("dramatiq", f"{JOBS}.on_dramatiq", "-p", str(PROCESSES))
QUEUES = (
    Queue(BASE, "on_haulage", CELERY, LATE, kind="pooled", ours=True),
    Queue("Celery, prefetch 4, no events", "on_haulage", AHEAD, LATE, kind="pooled", ours=True),
    Queue("Celery, an engine per job", "on_haulage", CELERY, LATE, 0.2, "classic", ours=True),
    Queue(
        "huey",
        "on_huey",
        ("huey_consumer", f"{JOBS}.on_huey.queue", "-w", str(PROCESSES), "-k", "process", "-q"),
        "is lost: taken off the list before it runs",
    ),
    Queue(
        "taskiq, Redis streams",
        "on_taskiq",
        TASKIQ,
        "comes again after 10 minutes: acknowledged when done",
        threads=TASKIQ_THREADS,
    ),
    Queue(
        "taskiq, one thread each",
        "on_taskiq",
        (*TASKIQ, "--max-threadpool-threads", "1"),
        "comes again after 10 minutes: acknowledged when done",
    ),
    Queue(
        "dramatiq",
        "on_dramatiq",
        (*DRAMATIQ, "-t", "8"),
        "comes again after a minute: acknowledged when done",
        threads=8,
    ),
    Queue(
        "dramatiq, one thread each",
        "on_dramatiq",
        (*DRAMATIQ, "-t", "1"),
        "comes again after a minute: acknowledged when done",
    ),
    Queue(
        "rq, SimpleWorker",
        "on_rq",
        ("rq", "worker-pool", "bench", "-n", str(PROCESSES), "-w", "rq.worker.SimpleWorker", "-q"),
        "is noted as failed; comes again only if the sender asked for retries",
        0.5,
    ),
    Queue(
        "rq, a fork per job",
        "on_rq",
        ("rq", "worker-pool", "bench", "-n", str(PROCESSES), "-q"),
        "is noted as failed; comes again only if the sender asked for retries",
        0.04,
    ),
    Queue("no queue, a pooled engine", "on_nothing", (), "is lost", kind="pooled", ours=True),
    Queue("no queue, an engine per job", "on_nothing", (), "is lost", 0.2, "classic", ours=True),
)


def measure(stand: Stand, jobs: int, rounds: int) -> Part:
    stand.ask(TABLE)
    home = _environment()
    variants = {
        queue.title: partial(_one_round, stand, queue, max(int(jobs * queue.share), 20), home)
        for queue in QUEUES
    }
    found = Rounds("jobs/s", BASE)
    for title, figure in interleaved(variants, rounds, say):
        found.add(title, figure)
    rows = [
        [queue.title, str(PROCESSES * queue.threads), *found.cells(queue.title), queue.killed]
        for queue in QUEUES
    ]
    table = Table(
        "The same bare job on several queues",
        ["two processes each", "jobs at once", "jobs/s", *HEADINGS, "a job whose worker is killed"],
        rows,
        f"One row inserted in one transaction over TLS; {rounds} rounds of up to {jobs:,} jobs that wait already, from "
        f"{WARM:.0%} done to the last. rq with a fork per job gets {max(int(jobs * 0.04), 20)} of them, an engine per job "
        f"{max(int(jobs * 0.2), 20)}, SimpleWorker {max(int(jobs * 0.5), 20)}.",
    )
    chart = Chart("The same bare job, two processes each: jobs a second", found, BASE)
    return Part("queues", [table], {"rounds": found.as_json()}, {"queues": chart})


def _environment() -> Path:
    """Return where the others' programs are; makes their environment if need be."""
    # By name: the tests are not written for the type checker, and would all be checked with an import.
    environments = import_module("tests.environments")
    return Path(environments.interpreter("rivals")).parent


def _one_round(stand: Stand, queue: Queue, jobs: int, home: Path) -> float:
    stand.ask("TRUNCATE corporate.bench_jobs")
    with stand.redis() as redis:
        redis.flushdb()
    python = BIN / "python" if queue.ours else home / "python"
    if queue.worker:
        stand.run(python, "-m", f"{JOBS}.{queue.module}", str(jobs), queue.kind)
        stand.system.start(
            "queue", (BIN if queue.ours else home) / queue.worker[0], *queue.worker[1:], **PATH
        )
    else:
        alone = (python, "-m", f"{JOBS}.{queue.module}", str(jobs // PROCESSES), queue.kind)
        for number in range(PROCESSES):
            stand.system.start(f"alone {number}", *alone, **PATH)
        jobs = jobs // PROCESSES * PROCESSES
    try:
        _wait(stand, queue, jobs)
    finally:
        _end(stand.system)
    done, distinct, seconds = stand.ask(SPEED, int(jobs * WARM))[0]
    if queue.worker and (done, distinct) != (jobs, jobs):
        raise NotUp(f"{queue.title}: {done} rows of {distinct} jobs, where {jobs} were sent")
    return float(jobs * (1 - WARM) / float(seconds))


PATH = {"PYTHONPATH": str(PROJECT)}


def _end(system: System) -> None:
    """End what worked. All jobs are done by now: whoever takes long over its goodbye is not waited for."""
    for process in system.processes.values():
        process.send_signal(signal.SIGTERM)
    for process in system.processes.values():
        with suppress(subprocess.TimeoutExpired):
            process.wait(GOODBYE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    system.processes.clear()


def _wait(stand: Stand, queue: Queue, jobs: int) -> None:
    """Return when all jobs are done. Raises NotUp if none gets done for a while."""
    with closing(psycopg2.connect(stand.servers.admin_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        before, deadline = -1, time.monotonic() + PATIENCE
        while before < jobs:
            cursor.execute("SELECT count(*) FROM corporate.bench_jobs")
            row = cursor.fetchone()
            done = int(row[0]) if row else 0
            if done > before:
                before, deadline = done, time.monotonic() + PATIENCE
            elif time.monotonic() > deadline:
                raise NotUp(f"{queue.title}: {done} of {jobs} jobs are done, and no more come")
            time.sleep(0.1)
