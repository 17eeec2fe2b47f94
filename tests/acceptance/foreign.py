"""Small foreign projects in real workers, each in a process of its own, for the doctor's tests."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from sqlalchemy import make_url

from app import forkdoctor
from local.home import PROJECT
from local.servers import Servers
from local.system import BIN
from tests.acceptance.conftest import wait_until

SAMPLES = Path(__file__).parent / "doctor_samples"
APPS = {"import_query": "tasks.work:celery"}  # of all others: project:app


@dataclass
class Project:
    """A sample, copied to a directory of its own, with the environment that its worker needs."""

    name: str
    root: Path
    servers: Servers
    python: Path = Path(sys.executable)
    url: str = ""
    queue: str = field(default_factory=lambda: f"sample-{secrets.token_hex(4)}")

    @property
    def app(self) -> str:
        return APPS.get(self.name, "project:app")

    @property
    def environment(self) -> dict[str, str]:
        url = make_url(self.url or self.servers.owner_url).set(drivername="postgresql+psycopg2")
        ours = ("PYTHONPATH", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
        return {
            **{name: value for name, value in os.environ.items() if name not in ours},
            "SAMPLE_DATABASE": url.render_as_string(hide_password=False),
            "SAMPLE_BROKER": self.servers.redis_url,
            "SAMPLE_DIR": str(self.root),
            "SAMPLE_QUEUE": self.queue,
        }

    @property
    def ran(self) -> set[int]:
        """Return the processes in which a task of the project ran."""
        return {int(path.name.removeprefix("ran-")) for path in self.root.glob("ran-*")}

    def send(self, number: int) -> None:
        program = f"from {self.app.replace(':', ' import ')} as app\nfor _ in range({number}):\n"
        program += f"    app.send_task({self.app.split(':')[0]!r} + '.work', queue={self.queue!r}, ignore_result=True)"
        subprocess.run([self.python, "-c", program], cwd=self.root, env=self.environment, check=True)

    def forget(self) -> None:
        """Take back what was sent and has not run."""
        client = redis.Redis.from_url(self.servers.redis_url)
        client.delete(self.queue, f"_kombu.binding.{self.queue}")
        client.close()

    def doctor(self, *options: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Let our doctor start its worker."""
        return subprocess.run(
            [*self.command, *options],
            cwd=PROJECT,
            env={**self.environment, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    @property
    def command(self) -> list[str | Path]:
        return [BIN / "haulage", "doctor", "--app", self.app, "--dir", self.root, "--python", self.python]

    @contextmanager
    def worker(self, *options: str) -> Iterator[psutil.Process]:
        """Run its own worker, with two children."""
        log = self.root / "worker.log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                [self.python, "-m", "celery", "-A", self.app, "worker", "-c", "2", "-l", "info", *options],
                cwd=self.root,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: " ready." in log.read_text(errors="replace"),
                "its worker is ready",
                tell=log.read_text,
            )
            yield psutil.Process(started.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def project(name: str, to: Path, servers: Servers, **options: Any) -> Project:
    root = to / name
    shutil.copytree(SAMPLES / name, root, ignore=shutil.ignore_patterns("__pycache__"))
    if name == "forksafe_copied":
        shutil.copy(PROJECT / "app" / "forksafe.py", root)
    return Project(name, root, servers, **options)


def keys(servers: Servers) -> dict[bytes, bytes | None]:
    """Return what lies in Redis, by key."""
    client = redis.Redis.from_url(servers.redis_url)
    found = {key: client.dump(key) for key in client.keys("*")}
    client.close()
    return found


def told(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(ended.stdout)


def processes_of(token: str) -> list[int]:
    """Return every process that has this word in its command line or among its open files."""
    found = []
    for one in psutil.process_iter(["pid"]):
        with suppress(psutil.Error):
            if token in " ".join(one.cmdline()) or any(token in file.path for file in one.open_files()):
                found.append(one.pid)
    return found


def examine_until(
    pid: int, port: int, begin: Callable[[], object], done: Callable[[], object], patch: pytest.MonkeyPatch
) -> forkdoctor.Report:
    """Let the doctor watch; let something begin when it knows who holds what, and end the watch when that is done."""
    watch = {"began": time.monotonic(), "looks": 0, "begun": False}

    def is_late(_deadline: float) -> bool:
        assert time.monotonic() - watch["began"] < 60, "it is done before long"
        if watch["begun"]:
            return bool(done())
        watch["looks"] += time.monotonic() - watch["began"] > 2 * forkdoctor.SETTLE
        if watch["looks"] == 3:
            watch["begun"] = True
            begin()
        return False

    patch.setattr(forkdoctor, "_is_late", is_late)
    return forkdoctor.examine(str(pid), [port], 0)
