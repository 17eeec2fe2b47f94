"""What both play on: PostgreSQL over TLS, Valkey, a simulator of Microsoft Graph, and a worker of each."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from celery import Celery
from celery.exceptions import TimeoutError as NoAnswer
from sqlalchemy import make_url

from local import servers, simulator, system
from local.servers import Servers
from local.simulator import Simulator
from local.system import System

HERE = Path(__file__).parent
CORP = 7
PATIENCE = 120  # seconds; only bounds what has failed
LEASE_SECONDS = "6"  # Haulage's own default is 60: nobody wants to wait for that here
CLASSIC_TABLE = """
    CREATE SCHEMA classic;
    CREATE TABLE classic.vmb_items (
        id serial PRIMARY KEY, corp_index int NOT NULL, parent_id int REFERENCES classic.vmb_items, name text NOT NULL,
        onedrive_item_id text, child_count int NOT NULL DEFAULT 0);
    INSERT INTO classic.vmb_items (corp_index, name) VALUES (7, 'classic')
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its state as Celery knows it, and its result, an exception's words if it failed."""

    state: str
    result: Any


@dataclass
class Stage:
    """`data` has the inbox that both read; what is sent under a name of its own can be told apart everywhere."""

    servers: Servers
    simulator: Simulator
    haulage: System
    data: Path

    @cached_property
    def celery(self) -> Celery:
        return Celery("sender", broker=self.servers.redis_url, backend=self.servers.redis_url)

    # What is sent, and by whom

    def file(self, name: str, size: int, content: bytes | None = None) -> str:
        path = self.data / "inbox" / str(CORP) / name
        path.write_bytes(os.urandom(size) if content is None else content)
        return name

    def classic(self, *names: str) -> Callable[[], list[Outcome]]:
        return self._send("classic.worker.upload_file", "classic", names)

    def ours(self, *names: str) -> Callable[[], list[Outcome]]:
        return self._send("tasks.uploads.upload_file", "uploads", names)

    def _send(self, task: str, queue: str, names: tuple[str, ...]) -> Callable[[], list[Outcome]]:
        sent = [self.celery.send_task(task, args=[CORP, name], queue=queue) for name in names]
        return lambda: [_outcome(one) for one in sent]

    # Who works

    @contextmanager
    def classic_worker(self, children: int = 2, **extra: str) -> Iterator[None]:
        """Run its worker; unless `extra` says otherwise with the cure against forks, which are one scenario of their own."""
        name = "classic"
        self.log(name).unlink(missing_ok=True)
        worker = (
            sys.executable,
            "-m",
            "celery",
            "-A",
            "classic.worker",
            "worker",
            "-l",
            "info",
            "-c",
            str(children),
        )
        self.haulage.start(name, *worker, "-n", f"{name}@%h", **self._classic_environment() | extra)
        try:
            self.until(lambda: " ready." in self.said(name), "the classic worker is ready")
            yield
        finally:
            self.haulage.stop(name)

    def _classic_environment(self) -> dict[str, str]:
        running = self.simulator
        database = make_url(self.servers.owner_url).set(drivername="postgresql+psycopg2")
        return {
            "PYTHONPATH": str(HERE),
            "DATABASE_URL": database.render_as_string(hide_password=False),
            "GRAPH_URL": f"{running.url}/v1.0",
            "LOGIN_URL": running.url,
            "TENANT_ID": running.tenant,
            "CLIENT_ID": running.client_id,
            "CLIENT_SECRET": running.client_secret,
            "DRIVE_ID": running.drive_id,
            "REQUESTS_CA_BUNDLE": str(running.ca_file),
            "CLASSIC_POOL": "disposed",
        }

    def forget_faults(self) -> None:
        self.simulator.control("DELETE faults")

    def fault(self, **given: Any) -> None:
        """Script what goes wrong next, and nothing else: docs/graph-simulator.md has the words."""
        self.forget_faults()
        self.simulator.control("POST faults", **given)

    def children(self, worker: str) -> list[psutil.Process]:
        return psutil.Process(self.haulage.processes[worker].pid).children()

    def kill_classic(self) -> None:
        """Kill its one child as a machine that runs out of memory does: without a word."""
        [child] = self.children("classic")
        child.send_signal(signal.SIGKILL)

    def holder(self, name: str) -> tuple[int, int]:
        """Return the child of ours that transfers a file, and the PostgreSQL session that it works with, by their pids."""
        last = (
            "SELECT split_part(e.detail->>'process', '@', 1)::int, (e.detail->>'session')::int FROM corporate.uploads u"
            " JOIN corporate.upload_events e ON e.upload_id = u.id AND e.kind = 'transferring'"
            " WHERE u.name = %s ORDER BY e.id DESC LIMIT 1"
        )
        return self.ask(last, name)[0]

    def kill_ours(self, name: str) -> None:
        os.kill(self.holder(name)[0], signal.SIGKILL)

    def log(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text(errors="replace") if self.log(name).exists() else ""

    # What is there

    def look(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask as a superuser: nobody else sees what the sessions of other roles are doing."""
        return self._asked(self.servers.admin_url, statement, parameters)

    def ask(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._asked(self.servers.owner_url, statement, parameters)

    @staticmethod
    def _asked(url: str, statement: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def in_drive(self, folder: str, stem: str) -> dict[str, str]:
        """Return the files of a folder whose names begin so, with the sha256 of the bytes on the simulator's disk."""
        items = self.simulator.control("GET tree", drive=self.simulator.drive_id)
        found = {
            one["path"].removeprefix(f"{folder}/"): one
            for one in items
            if one["path"].startswith(f"{folder}/")
        }
        return {
            name: one["sha256"] for name, one in found.items() if name.startswith(stem) and not one["folder"]
        }

    def sessions(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.simulator.control("GET sessions") if one["name"] == name]

    def requests(self, path: str) -> list[dict[str, Any]]:
        return [one for one in self.simulator.control("GET requests") if path in one["path"]]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            self.haulage.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"still not: {what}")
            time.sleep(0.05)
        return found

    def hurry(self) -> None:
        """Make due at once what Haulage has put off: it would be tried by itself, 30 seconds later."""
        self.ask(
            "UPDATE corporate.uploads SET due_at = now(), woken_at = NULL WHERE state = 'queued' AND due_at > now()"
        )


def _outcome(sent: Any) -> Outcome:
    try:
        result = sent.get(timeout=PATIENCE, propagate=False)
    except NoAnswer:
        return Outcome(sent.state, "no answer")
    return Outcome(
        sent.state, result if isinstance(result, str | dict) else f"{type(result).__name__}: {result}"
    )


@contextmanager
def stage() -> Iterator[Stage]:
    """Start everything but the classic worker; all of it is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="from-the-article-") as folder,
        simulator.running(Path(folder) / "simulator", *simulator.ROOMY) as running,
        servers.throwaway() as own,
    ):
        data = Path(folder)
        settings = {**running.settings(), "LEASE_SECONDS": LEASE_SECONDS, "SWEEP_SECONDS": "1"}
        with system.installed(own, data, data / "logs", **settings) as haulage:
            made = Stage(own, running, haulage, data)
            haulage.run("corp", "add", str(CORP), "Both", "--drive", simulator.DRIVE)
            made.ask(CLASSIC_TABLE)
            running.control("POST folder", path="classic")
            (data / "inbox" / str(CORP)).mkdir(parents=True, exist_ok=True)
            haulage.start_worker(children=2)
            haulage.start_beat()
            yield made
