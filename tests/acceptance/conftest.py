"""A running Haulage for a test: real prefork workers, beat, and ways to hand files in and to look from outside."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psutil
import pytest

from app import intake, verify
from app.drives.filesystem import FilesystemDrive
from app.models import OnConflict
from app.staging import Staging
from local.system import System
from tests.installation import CORP, Installation

if TYPE_CHECKING:
    from tests.acceptance.forking import Forking

KNOWN_FAULTS = re.compile(
    r"bad record|SSL SYSCALL error|SSL connection has been closed unexpectedly"
    r"|lost synchronization|PGRES_TUPLES_OK|does not return rows|another command is already in progress"
)
PATIENCE = 180.0  # it only bounds a test that has failed; a busy machine may take its time


@dataclass
class Haulage:
    """One installation and its processes."""

    installation: Installation
    system: System

    def start_worker(
        self,
        *options: str,
        name: str = "worker",
        children: int = 2,
        sample: str = "tasks.worker",
        **extra: str,
    ) -> None:
        """Start a worker from our own entry point, or from a sample that changes something about it."""
        self.system.start_worker(name, children, *options, sample=sample, **extra)
        wait_until(lambda: f"{name}@" in self.log(name) and " ready." in self.log(name), f"{name} is ready")

    def start_beat(self) -> None:
        self.system.start_beat()

    def pid(self, name: str = "worker") -> int:
        return self.system.processes[name].pid

    def children(self, name: str = "worker") -> list[psutil.Process]:
        return psutil.Process(self.pid(name)).children()

    def log(self, name: str = "worker") -> str:
        path = self.system.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def hand_in(
        self, number: int, *, size: int = 100, folder: str = "", on_conflict: OnConflict = OnConflict.FAIL
    ) -> list[UUID]:
        """Commit uploads of distinct files; nobody is woken but by the sweep."""
        staging = Staging(self.installation.staging_dir, 2**40, 0)
        made = []
        for one in range(number):
            to = intake.destination(CORP, f"file {one}", folder=folder, on_conflict=on_conflict)
            content = f"{one} ".encode() * (size // len(f"{one} ") + 1)
            made.append(intake.accept(staging, to, staging.put([content[:size]])).id)
        return made

    def was_fenced(self, upload: UUID) -> bool:
        """True if a late attempt at an upload has found that it has lost its claim, whatever it was about to do."""
        events = "SELECT count(*) FROM corporate.upload_events WHERE upload_id = %s AND kind = 'fenced'"
        return bool(self.installation.query(events, str(upload))[0][0])

    def states(self) -> dict[str, int]:
        return dict(self.installation.query("SELECT state, count(*) FROM corporate.uploads GROUP BY 1"))

    def wait_until_stored(self, number: int, patience: float = PATIENCE) -> None:
        wait_until(lambda: self.states() == {"stored": number}, f"{number} are stored", patience, self.states)

    def problems(self) -> list[str]:
        return verify.corporation(FilesystemDrive(self.installation.drive_dir), CORP).problems

    def attempts(self) -> list[int]:
        return [one for (one,) in self.installation.query("SELECT attempts FROM corporate.uploads")]

    def served_by(self) -> dict[int, set[str]]:
        """Return for every PostgreSQL session that made a claim the processes that used it."""
        rows = self.installation.query(
            "SELECT (detail->>'session')::int, detail->>'process' FROM corporate.upload_events"
            " WHERE kind = 'transferring'"
        )
        users: dict[int, set[str]] = {}
        for session, process in rows:
            users.setdefault(session, set()).add(process)
        return users

    def holder(self, upload_id: UUID) -> int | None:
        """Return the pid of the process that transfers an upload now."""
        rows = self.installation.query(
            "SELECT split_part(e.detail->>'process', '@', 1)::int FROM corporate.uploads u"
            " JOIN corporate.upload_events e ON e.upload_id = u.id AND e.kind = 'transferring'"
            " WHERE u.id = %s AND u.state = 'transferring' ORDER BY e.id DESC LIMIT 1",
            str(upload_id),
        )
        return rows[0][0] if rows else None

    def faults_in_logs(self) -> list[str]:
        """Return every line of a worker's or the server's log that has one of the known messages."""
        texts = [path.read_text(errors="replace") for path in self.system.logs.glob("*.log")]
        texts.append(self.server_log())
        return [line for text in texts for line in text.splitlines() if KNOWN_FAULTS.search(line)]

    def server_log(self) -> str:
        """Return what PostgreSQL wrote since this installation began."""
        with self.installation.servers.postgres_log.open("rb") as file:
            file.seek(self.server_log_began)
            return file.read().decode(errors="replace")

    def left_in_transaction(self) -> set[tuple]:
        """Return the transactions that nobody goes on with, by session and beginning.

        A sweep that is between two statements has ended its transaction by a later look; PostgreSQL ends one that was left
        after 15 s.
        """
        left = self._idle_in_transaction()
        deadline = time.monotonic() + 5
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left &= self._idle_in_transaction()
        return left

    def _idle_in_transaction(self) -> set[tuple]:
        return set(
            self.installation.look(
                "SELECT pid, xact_start FROM pg_stat_activity WHERE datname = current_database()"
                " AND state LIKE 'idle in transaction%%' AND pid <> pg_backend_pid()"
            )
        )

    server_log_began: int = 0

    def kill_all(self) -> None:
        for process in self.system.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what was stopped, and hears nothing else
            process.wait()


def wait_until(
    condition: Callable[[], object],
    what: str,
    patience: float = PATIENCE,
    tell: Callable[[], object] = lambda: "",
) -> None:
    """Poll until the condition holds; the time only bounds a test that has failed."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {patience:.0f} s still not: {what}; {tell()}")
        time.sleep(0.05)


@pytest.fixture
def haulage(installation: Installation, tmp_path: Path) -> Iterator[Haulage]:
    logs = tmp_path / "logs"
    logs.mkdir()
    system = System(tmp_path, {**os.environ, **installation.environment, "PYTHONUNBUFFERED": "1"}, logs)
    made = Haulage(installation, system, installation.servers.postgres_log.stat().st_size)
    try:
        yield made
    finally:
        made.kill_all()


@pytest.fixture
def forking(haulage: Haulage, tmp_path: Path) -> "Forking":
    from tests.acceptance.forking import Forking  # which imports this module

    return Forking(haulage, tmp_path)
