"""Soaks a real worker in forks while parent and children work, and judges it from outside: `python -m benchmarks.soak`."""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg2
import redis
from celery import Celery
from sqlalchemy import make_url

from benchmarks.options import writable
from benchmarks.soak_verdict import Verdict, known_messages, read_ledger
from benchmarks.soak_watch import Watch, at_start_and_end
from local.account import NoAccount
from local.discovery import NoServer
from local.process import NotStarted
from local.servers import Servers, throwaway
from local.system import BIN, NotUp, System, installed

CHILDREN = 3
WAITING = 12  # messages in the queue: enough that no child waits for one
LOOK_SECONDS = 0.25
QUEUE = "uploads"
LEFT_OVER = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '% worker@%' AND datname = current_database()"
TABLE = """
    CREATE TABLE corporate.soak_marks (process text NOT NULL, session text NOT NULL, marker text NOT NULL);
    GRANT SELECT, INSERT ON corporate.soak_marks TO PUBLIC
"""


@dataclass(frozen=True)
class Soak:
    """One worker, and what it needs."""

    servers: Servers
    system: System
    minutes: float
    patience: float  # seconds that the worker has to finish, and then to end

    @property
    def ledger(self) -> Path:
        return self.system.data / "ledger"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.system.processes["worker"]

    def start(self, **extra: str) -> None:
        command = (
            BIN / "celery",
            "-A",
            "benchmarks.soak_worker",
            "worker",
            "-l",
            "warning",
            "-c",
            str(CHILDREN),
        )
        options = ("--max-tasks-per-child", "1", "--without-gossip", "--without-mingle")
        self.system.start("worker", *command, *options, SOAK_DIR=str(self.system.data), **extra)

    def run(self) -> Verdict:
        """Keep the queue filled and look at the processes, until the time is up or somebody presses Ctrl-C."""
        verdict = Verdict(self.minutes)
        watch = Watch(self.process.pid, make_url(self.servers.worker_url).port or 5432)
        self.wait_until(self.is_ready, 60)
        began = time.monotonic()
        with Feeder(self.servers.redis_url) as feeder:
            with suppress(KeyboardInterrupt):
                while time.monotonic() - began < self.minutes * 60 and self.process.poll() is None:
                    feeder.fill()
                    watch.look()
                    time.sleep(LOOK_SECONDS)
            verdict.minutes = (time.monotonic() - began) / 60
            verdict.tasks_sent = feeder.sent
            self.wait_until(lambda: not feeder.waiting(), self.patience)
        self.wait_until(lambda: self.done() >= verdict.tasks_sent, self.patience)
        verdict.ended_as_told = self.end()
        self.judge(verdict, watch)
        return verdict

    def is_ready(self) -> bool:
        self.system.check()
        return self.ledger.exists() and "begun" in self.ledger.read_text()

    def done(self) -> int:
        return sum(line.startswith("done\tchild\t") for line in self.ledger.read_text().splitlines())

    def wait_until(self, condition: Callable[[], bool], patience: float) -> None:
        """Poll until the condition holds, the worker has ended, or patience does: the verdict tells the rest."""
        deadline = time.monotonic() + patience
        while not condition() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)

    def end(self) -> bool:
        """End the worker warmly; True if that was enough. Kill what is left of it."""
        process = self.system.processes.pop("worker")
        was_running = process.poll() is None
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.patience)
        ended = process.poll() is not None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return was_running and ended

    def judge(self, verdict: Verdict, watch: Watch) -> None:
        verdict.connections_left = self.connections_left()
        rows = {marker for (marker,) in self.ask("SELECT marker FROM corporate.soak_marks")}
        with self.ledger.open() as ledger:
            read_ledger(verdict, ledger, rows)
        assert self.system.logs is not None
        logs = [self.servers.postgres_log, self.system.logs / "worker.log"]
        verdict.known_messages = known_messages(line for log in logs for line in lines_of(log))
        verdict.tracebacks = sum(line.startswith("Traceback") for line in lines_of(logs[1]))
        verdict.looks, verdict.processes_seen = watch.looks, watch.processes_seen
        verdict.sockets_found = len(watch.found)
        verdict.memory_mib, verdict.descriptors = (
            at_start_and_end(watch.memory),
            at_start_and_end(watch.descriptors),
        )

    def connections_left(self) -> int:
        """Count the worker's sessions once the server has had time to notice that it has gone."""
        deadline = time.monotonic() + 10
        while (left := int(self.ask(LEFT_OVER)[0][0])) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.servers.admin_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


class Feeder:
    """Keeps the queue at a bounded length. Every second task forks a process of its own."""

    def __init__(self, redis_url: str) -> None:
        self._celery = Celery(broker=redis_url, set_as_current=False)
        self._redis = redis.Redis.from_url(redis_url)
        self.sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
        self._celery.close()

    def waiting(self) -> int:
        return int(self._redis.llen(QUEUE))

    def fill(self) -> None:
        for _ in range(WAITING - self.waiting()):
            arguments = [secrets.token_hex(16), self.sent % 2 == 0]
            self._celery.send_task("soak.work", arguments, queue=QUEUE, ignore_result=True)
            self.sent += 1


def lines_of(log: Path) -> Iterator[str]:
    with log.open(errors="replace") as file:
        yield from file


@contextmanager
def soaking(minutes: float, patience: float = 60, *, unguarded: bool = False) -> Iterator[Soak]:
    """Servers and a worker of their own for the length of the block."""
    with tempfile.TemporaryDirectory() as folder, throwaway() as servers:
        data = Path(folder)
        with installed(servers, data, data / "logs") as system:
            soak = Soak(servers, system, minutes, patience)
            connection = psycopg2.connect(servers.owner_url)
            with connection, connection.cursor() as cursor:
                cursor.execute(TABLE)
            connection.close()
            soak.start(**({"SOAK_UNGUARDED": "1"} if unguarded else {}))
            yield soak


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=minutes, default=1.0, help="how long (default: 1)")
    parser.add_argument("--json", type=writable, metavar="FILE", help="write every figure to FILE")
    parser.add_argument(
        "--unguarded", action="store_true", help="the control: without any safeguard; must fail"
    )
    return parser.parse_args(arguments)


def minutes(given: str) -> float:
    try:
        number = float(given)
    except ValueError:
        number = 0
    if not 0 < number <= 24 * 60:
        raise argparse.ArgumentTypeError("a number is wanted, more than 0 and at most a day (1440)")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if everything is clean, 1 if anything is not."""
    options = parsed(arguments)
    try:
        with soaking(options.minutes, 5 if options.unguarded else 60, unguarded=options.unguarded) as soak:
            verdict = soak.run()
    except (NoServer, NoAccount, NotStarted, NotUp) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # a second one, or one before the soak had begun
        print("Interrupted; nothing was judged.", file=sys.stderr)
        return 1
    print(verdict)
    for line in verdict.wrong or ["nothing is wrong"]:
        print(f"  {'WRONG: ' if verdict.wrong else ''}{line}")
    if options.json:
        options.json.write_text(json.dumps(verdict.as_json(), indent=2) + "\n")
    return 1 if verdict.wrong else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    sys.exit(main())
