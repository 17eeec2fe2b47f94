"""PostgreSQL restarted between and inside tasks: nothing is lost, and what the logs say of it is no fault of a fork.

A restart and a fork's fault have words in common. They are told apart by the server's own log and by time: what the server
says between a request to shut down and being ready again, and what a worker says between that and the moment at which all
its work is done, is the restart's; the same words at any other time are not, and some words never are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from local import servers as local_servers
from tests.acceptance.conftest import KNOWN_FAULTS, Haulage, wait_until
from tests.acceptance.forking import Forking

pytestmark = pytest.mark.prove

FORK_ALONE = re.compile(
    "bad record mac|lost synchronization|PGRES_TUPLES_OK|does not return rows|another command is already"
)
STAMP = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}): ")
FILES = 8
MAX_ATTEMPTS = 8


@dataclass
class Restarted(Forking):
    """A worker that lives through restarts, and when they began and were over for it."""

    windows: list[tuple[datetime, datetime]] = field(default_factory=list)
    files: int = 0

    def begin(self, without: str = "") -> None:
        self.haulage.start_beat()
        self.start("long_restart", "--max-tasks-per-child", "3", without=without, NO_TRANSACTION="1")

    def hand_in(self) -> None:
        self.haulage.hand_in(FILES, folder=f"{self.files}")
        self.files += FILES

    def restart(self, *, immediate: bool) -> None:
        local_servers.restart_postgres(self.haulage.installation.servers, immediate=immediate)

    def wait_until_stored(self) -> None:
        self.haulage.wait_until_stored(self.files)

    def faults_of_the_worker(self) -> list[str]:
        return [
            line
            for at, line in stamped(self.haulage.log())
            if KNOWN_FAULTS.search(line) and not any(begun <= at <= over for begun, over in self.windows)
        ]

    def faults_of_the_server(self) -> list[str]:
        return [line for line in outside_restarts(self.haulage.server_log()) if KNOWN_FAULTS.search(line)]


def stamped(log: str) -> Iterator[tuple[datetime, str]]:
    """Yield each line with its time; the lines of a traceback have that of the line above them."""
    at = datetime.min  # noqa: DTZ901
    for line in log.splitlines():
        if stamp := STAMP.match(line):
            at = datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007  both in this machine's own time
        yield at, line


def outside_restarts(server_log: str) -> Iterator[str]:
    is_up = True
    for line in server_log.splitlines():
        if "shutdown request" in line:
            is_up = False
        if is_up:
            yield line
        if "ready to accept connections" in line:
            is_up = True


@pytest.fixture
def worker(haulage: Haulage, tmp_path: Path) -> Restarted:
    return Restarted(haulage, tmp_path)


def now() -> datetime:
    return datetime.now()  # noqa: DTZ005  compared with the times in the worker's log


def restart_inside_and_between(worker: Restarted) -> None:
    worker.hand_in()
    wait_until((worker.folder / "inside").exists, "a task is in the middle of its transaction")
    begun = now()
    worker.restart(immediate=True)
    (worker.folder / "go").touch()
    worker.wait_until_stored()
    worker.windows.append((begun, now()))

    worker.hand_in()
    worker.wait_until_stored()
    begun = now()
    worker.restart(immediate=False)  # every child waits for work, with connections in its pool
    worker.hand_in()
    worker.wait_until_stored()
    worker.windows.append((begun, now()))

    worker.hand_in()
    worker.wait_until_stored()


def test_tasks_outlive_restarts_and_nothing_crosses_a_fork(worker: Restarted) -> None:
    worker.begin()

    restart_inside_and_between(worker)
    worker.stop()

    assert worker.haulage.problems() == []
    stored = "SELECT count(*), count(DISTINCT upload_id) FROM corporate.upload_events WHERE kind = 'stored'"
    assert worker.haulage.installation.query(stored) == [(worker.files, worker.files)]
    assert max(worker.haulage.attempts()) <= MAX_ATTEMPTS
    assert worker.haulage.server_log().count("shutdown request") == len(worker.windows) == 2
    assert [line for line in worker.haulage.faults_in_logs() if FORK_ALONE.search(line)] == []
    assert worker.faults_of_the_worker() == []
    assert worker.faults_of_the_server() == []
    assert [one for one in worker.problems() if "wrong answer" in one] == []
    assert worker.shared() == {}
    assert all(len(processes) == 1 for processes in worker.haulage.served_by().values())


def test_without_safeguards_the_words_that_no_restart_explains_are_there(worker: Restarted) -> None:
    worker.begin(without="everything")
    worker.hand_in()
    worker.restart(immediate=True)
    (worker.folder / "go").touch()

    def told() -> list[str]:
        return [*worker.problems(), *worker.haulage.faults_in_logs()]

    wait_until(lambda: any(FORK_ALONE.search(line) for line in told()), "the classic fault shows itself")
