"""A Haulage of its own to be measured: servers, schema, a corporation, and staged uploads with their wake-ups sent."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import redis

from local.home import PROJECT
from local.servers import Servers, throwaway
from local.system import BIN, NotUp, System, installed

CORP = "7"
PATIENCE = 300.0  # seconds without anything getting done; only bounds a run that has failed
WAITING = "SELECT count(*) FROM corporate.uploads WHERE state IN ('queued', 'transferring')"
NOT_STORED = "SELECT count(*) FROM corporate.uploads WHERE state NOT IN ('queued', 'transferring', 'stored')"


@dataclass
class Stand:
    servers: Servers
    system: System

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL as a superuser, on a connection of its own."""
        with closing(psycopg2.connect(self.servers.admin_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []

    def prepare(self, uploads: int, size: int, corp: str = CORP) -> None:
        """Stage files of so many bytes, commit their rows and send their wake-ups; no worker must be running."""
        self.run(BIN / "python", "-m", "benchmarks.speed.prepare", str(uploads), str(size), corp)

    def run(self, *command: str | Path, **extra: str) -> None:
        """Run a program of this benchmark to its end, in the environment of the installation."""
        environment = {**self.system.environment, "PYTHONPATH": str(PROJECT), **extra}
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotUp(f"{' '.join(map(str, command[1:4]))} has failed:\n{done.stderr[-2000:]}")

    def start_worker(self, children: int, sample: str = "tasks.worker", **extra: str) -> None:
        """Start a worker, and return when it says that it is ready."""
        self.log("worker").unlink(missing_ok=True)
        self.system.start_worker("worker", children, sample=sample, **extra)
        self.wait(lambda: " ready." in self.said("worker"), 0.005)

    def drain(self, children: int, sample: str, uploads: int, size: int) -> float:
        """Return how many uploads a second a worker stores, from the moment that it is ready to the last one stored."""
        self.prepare(uploads, size)
        self.start_worker(children, sample)
        begun = self.ask("SELECT clock_timestamp()")[0][0]
        self.wait_until_stored()
        ended = self.ask("SELECT max(finished_at) FROM corporate.uploads")[0][0]
        self.system.stop("worker")
        return float(uploads / (ended - begun).total_seconds())

    def wait_until_stored(self) -> None:
        with closing(psycopg2.connect(self.servers.admin_url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()

            def count(statement: str) -> int:
                cursor.execute(statement)
                row = cursor.fetchone()
                return int(row[0]) if row else 0

            self.wait(lambda: not count(WAITING), 0.1)
            if lost := count(NOT_STORED):
                raise NotUp(
                    f"{lost} uploads were not stored; the worker said:\n{self.said('worker')[-2000:]}"
                )

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Look every so many seconds until the condition holds. Raises NotUp if a process ends, or patience does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.system.check()
            if time.monotonic() > deadline:
                raise NotUp(f"nothing came of it in {PATIENCE:.0f} s:\n{self.system.last_lines('worker')}")
            time.sleep(seconds)

    def log(self, name: str) -> Path:
        assert self.system.logs is not None
        return self.system.logs / f"{name}.log"

    def said(self, name: str) -> str:
        log = self.log(name)
        return log.read_text(errors="replace") if log.exists() else ""

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.servers.redis_url)


@contextmanager
def stand() -> Iterator[Stand]:
    """Servers and an installation of their own for the length of the block; everything is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="haulage-bench-") as folder, throwaway() as servers:
        data = Path(folder)
        with installed(servers, data, data / "logs") as system:
            system.run("corp", "add", CORP, "Bench")
            yield Stand(servers, system)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
