"""The processes of one Haulage on this machine: web, worker, beat, Flower, each with its own environment and log."""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from local import given
from local.home import PROJECT, write_private
from local.servers import Servers

BIN = Path(sys.executable).parent
OWN_DRIVES = ("DRIVES", "DRIVE_", "SESSION_KEYS")  # how the settings of drives begin
ROOT_OF_FILES = "DRIVE_DIR"  # the one of them that every installation here has of its own
PATIENCE = 60.0  # seconds for a process to answer, or to end before it is killed


class NotUp(RuntimeError):
    """A process of the system did not come up or ended by itself; the message has the last lines of its log."""


@dataclass
class System:
    """One installation: its environment, and the processes that run in it.

    `logs` is None where the processes write to this terminal.
    """

    data: Path
    environment: Mapping[str, str]
    logs: Path | None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str | Path, role: str = "DATABASE_URL", **extra: str) -> None:
        """Start a process under a name; `role` is the variable that holds its own DATABASE_URL."""
        output = None if self.logs is None else (self.logs / f"{name}.log").open("ab")
        try:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={**self.environment, "DATABASE_URL": self.environment[role], **extra},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output and subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to us alone, and we stop them in order
            )
        finally:
            if output is not None:
                output.close()

    def start_worker(
        self,
        name: str = "worker",
        children: int = 2,
        *options: str,
        sample: str = "tasks.worker",
        **extra: str,
    ) -> None:
        """Start a worker from our own entry point, or from a sample that changes something about it."""
        worker = (BIN / "celery", "-A", sample, "worker", "-l", "info", "-c", str(children))
        self.start(name, *worker, "-n", f"{name}@%h", *options, **extra)

    def start_beat(self) -> None:
        self.start("beat", BIN / "celery", "-A", "tasks.worker", "beat", "-l", "warning", "--pidfile=")

    def start_web(self, port: int) -> str:
        """Start the web app; return its URL when it answers."""
        serve = (BIN / "uvicorn", "app.web.main:app", "--host", "127.0.0.1", "--port", str(port))
        self.start("web", *serve, "--log-level", "warning", role="WEB_DATABASE_URL")
        url = f"http://127.0.0.1:{port}"
        self.wait_for_answer("web", f"{url}/readyz")
        return url

    def start_flower(self, port: int, password: str) -> str:
        flower = (BIN / "celery", "-A", "tasks.worker", "flower", "--address=127.0.0.1", f"--port={port}")
        self.start("flower", *flower, "--logging=warning", FLOWER_BASIC_AUTH=password)
        url = f"http://127.0.0.1:{port}"
        self.wait_for_answer("flower", f"{url}/healthcheck")
        return url

    def run(self, *arguments: str, role: str = "WEB_DATABASE_URL") -> str:
        """Run the `haulage` command to its end; return what it printed. Raises NotUp with its complaint if it fails."""
        environment = {**self.environment, "DATABASE_URL": self.environment[role]}
        command = [str(BIN / "haulage"), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, cwd=self.data
        )
        if done.returncode != 0:
            raise NotUp(f"haulage {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def wait_for_answer(self, name: str, url: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            self.check()
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(url, timeout=5).close()
                return
            if time.monotonic() > deadline:
                raise NotUp(f"{name} does not answer:\n{self.last_lines(name)}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raise NotUp if a process has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise NotUp(f"{name} has ended with {process.returncode}:\n{self.last_lines(name)}")

    def last_lines(self, name: str) -> str:
        log = self.logs / f"{name}.log" if self.logs else None
        return log.read_text(errors="replace")[-3000:].strip() if log and log.exists() else "(see above)"

    def stop(self, *names: str) -> None:
        """End the processes warmly, in this order (all of them without names); kill what stays."""
        for name in names or ("web", "beat", "flower", *self.processes):
            process = self.processes.pop(name, None)
            if process is not None:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def installed(servers: Servers, data: Path, logs: Path | None = None, **extra: str) -> Iterator[System]:
    """Prepare directories and schema for these servers; stop on the way out whatever was started."""
    for folder in ("staging", "inbox", "drive"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    if logs is not None:
        logs.mkdir(exist_ok=True)
        for old in logs.glob("*.log"):
            old.unlink()
    system = System(data, environment(servers, data) | extra, logs)
    system.run("migrate")
    try:
        yield system
    finally:
        system.stop()


def environment(servers: Servers, data: Path) -> dict[str, str]:
    """Return the environment of every process; nothing of this shell's own Haulage settings gets in."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(OWN_DRIVES)}
    return theirs | {
        "DATABASE_URL": servers.worker_url,
        "WEB_DATABASE_URL": servers.web_url,
        "OWNER_DATABASE_URL": servers.owner_url,
        "REDIS_URL": servers.redis_url,
        "STAGING_DIR": str(data / "staging"),
        "INBOX_DIR": str(data / "inbox"),
        ROOT_OF_FILES: str(data / "drive"),
        "PYTHONUNBUFFERED": "1",
    }


def named_drives(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the drives that an environment names."""
    named = {name: value for name, value in environment.items() if name.startswith(OWN_DRIVES)}
    named.pop(ROOT_OF_FILES, None)
    return named


def write_environment(haulage: System, home: Path) -> Path:
    """Write the environment for a shell to read, as the web role has it; return the file, its owner's alone."""
    names = ("OWNER_DATABASE_URL", "REDIS_URL", "STAGING_DIR", "INBOX_DIR", ROOT_OF_FILES)
    chosen = {name: haulage.environment[name] for name in names} | named_drives(haulage.environment)
    chosen["DATABASE_URL"] = haulage.environment["WEB_DATABASE_URL"]
    chosen["WORKER_DATABASE_URL"] = haulage.environment["DATABASE_URL"]
    chosen[given.OURS] = "1"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in chosen.items()]
    path = home / "environment"
    write_private(path, "\n".join([*lines, f"export PATH={shlex.quote(str(BIN))}:$PATH", ""]))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_password() -> str:
    return secrets.token_urlsafe(12)
