"""The projects under examples/: each breaks by name in a real prefork worker, and two lines cure it."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from local.servers import Servers
from tests import environments
from tests.acceptance import evidence
from tests.acceptance.conftest import KNOWN_FAULTS, wait_until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLASSIC = re.compile(r"decryption failed or bad record mac|SSL SYSCALL error: EOF detected")
ANSWER = re.compile(r"succeeded in .*'session': (\d+), 'process': (\d+)")
TASKS = 40
TRIES = 5


@dataclass(frozen=True)
class Example:
    """A project: its folder, the module of its worker and the one that asks it."""

    folder: str
    worker: str
    asker: str


SHOP = Example("flask-sqlalchemy", "shop.worker", "shop.orders")
LEDGER = Example("module-engine", "ledger.worker", "ledger.entries")

each_example = pytest.mark.parametrize("example", [SHOP, LEDGER], ids=lambda example: example.folder)


@dataclass
class Running:
    """A worker of an example, made by that project's own interpreter, which knows nothing of Haulage."""

    example: Example
    directory: Path
    servers: Servers

    @property
    def environment(self) -> dict[str, str]:
        database = make_url(self.servers.owner_url).set(drivername="postgresql+psycopg2")
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DATABASE_URL": database.render_as_string(hide_password=False),
            "REDIS_URL": self.servers.redis_url,
        }

    @property
    def log(self) -> str:
        return (self.directory / "worker.log").read_text(errors="replace")

    @contextmanager
    def worker(self, *options: str) -> Iterator[int]:
        """Run a worker for the length of the block; yield its pid."""
        command = ("celery", "-A", self.example.worker, "worker", "-l", "info", "-c", "4", *options)
        with (self.directory / "worker.log").open("wb") as log:
            process = self._run(subprocess.Popen, *command, stdout=log, start_new_session=True)
        try:
            wait_until(lambda: " ready." in self.log or process.poll() is not None, "the worker is ready")
            assert process.poll() is None, self.log
            yield process.pid
            process.terminate()
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def ask(self) -> tuple[int, str]:
        """Return the exit code and the words of the project's own judge."""
        ended = self._run(subprocess.run, self.example.asker, str(TASKS), stdout=-1, text=True, timeout=90)
        return ended.returncode, ended.stdout

    def _run(self, how: Callable[..., Any], *module: str, **options: object) -> Any:
        return how(
            [environments.interpreter("flask"), "-m", *module],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            **options,
        )


@pytest.fixture
def running(example: Example, tmp_path: Path, servers: Servers) -> Running:
    theirs = shutil.ignore_patterns(".venv", "__pycache__")  # of somebody who tried it there
    shutil.copytree(EXAMPLES / example.folder, tmp_path, dirs_exist_ok=True, ignore=theirs)
    return Running(example, tmp_path, servers)


def cure(directory: Path) -> None:
    shutil.copy(ROOT / "app" / "forksafe.py", directory)
    patch = ["patch", "-p1", "-i"] if shutil.which("patch") else ["git", "apply"]
    subprocess.run([*patch, "cure.diff"], cwd=directory, check=True, capture_output=True)


@each_example
def test_the_project_as_it_is_breaks_by_name(running: Running, servers: Servers) -> None:
    port = evidence.port_of(servers.owner_url)

    for _ in range(TRIES):
        with running.worker() as pid:
            assert evidence.crossing(pid, port), "its children hold the parent's connection from the start"
            code, said = running.ask()
        if CLASSIC.search(said):
            break

    assert CLASSIC.search(said), f"not in {TRIES} tries: {said}"
    assert code == 1, "and its own judge says so"


@each_example
def test_two_lines_cure_it(running: Running, servers: Servers) -> None:
    port, server_log = evidence.port_of(servers.owner_url), servers.postgres_log
    began = server_log.stat().st_size
    cure(running.directory)

    with running.worker("--max-tasks-per-child", "5") as pid:
        crossing = [evidence.crossing(pid, port)]
        code, said = running.ask()
        crossing.append(evidence.crossing(pid, port))

    assert f"{TASKS} right, 0 wrong, 0 failed, 0 unanswered" in said
    assert code == 0, said
    answered = [(int(session), process) for session, process in ANSWER.findall(running.log)]
    assert len(answered) == TASKS
    assert evidence.used_by_several(answered) == {}
    assert crossing == [{}, {}]
    assert not KNOWN_FAULTS.search(running.log)
    assert not KNOWN_FAULTS.search(server_log.read_bytes()[began:].decode(errors="replace"))


@each_example
def test_the_cure_is_two_lines_and_a_file_that_is_not_kept_twice(example: Example) -> None:
    lines = (EXAMPLES / example.folder / "cure.diff").read_text().splitlines()
    changed = [line for line in lines if line[:1] in {"+", "-"} and line[:3] not in {"+++", "---"}]

    assert changed == ["+import forksafe", "+forksafe.install()"]
    assert list(EXAMPLES.rglob("forksafe.py")) == []
