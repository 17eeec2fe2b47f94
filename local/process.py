"""Server processes: started, recognised again later, waited for and ended; knows no particular server."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the only module that knows it

from local.account import CLEAN, Account

PATIENCE = 20.0  # seconds, to become ready and to go


class NotStarted(RuntimeError):
    """A server did not come up; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Running:
    """A process, so that it can be told from a later one with the same pid."""

    pid: int
    started: float


def spawn(command: Sequence[str | Path], log: Path, account: Account) -> Running:
    """Start a server in a session of its own: Ctrl-C must reach the application before the database."""
    log.touch(mode=0o600)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=CLEAN,
            start_new_session=True,
            **account.switch(),
        )
    child.returncode = 0  # disowned: it may outlive us, and that deserves no ResourceWarning
    try:
        return Running(child.pid, psutil.Process(child.pid).create_time())
    except psutil.NoSuchProcess:
        raise NotStarted(f"{command[0]} ended at once:\n{tail(log)}") from None


def alive(running: Running | None) -> bool:
    """True while exactly this process runs. A zombie is gone, and reaped if it was our child."""
    if running is None:
        return False
    try:
        process = psutil.Process(running.pid)
        # The start time is counted from boot in ticks: a corrected clock may move it a little.
        same = abs(process.create_time() - running.started) < 2
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    if same and zombie:
        with suppress(ChildProcessError):
            os.waitpid(running.pid, os.WNOHANG)
    return same and not zombie


def is_taken(pid: int) -> bool:
    """True if any process has this pid now."""
    return bool(psutil.pid_exists(pid))


def end(running: Running | None, how: signal.Signals) -> None:
    """Ask the process to go, wait, and kill it if it stays. One that is already gone is no error."""
    for request in (how, signal.SIGKILL):
        if running is None or not alive(running):
            return
        with suppress(ProcessLookupError):
            os.kill(running.pid, request)
        _wait_for_end(running)


def _wait_for_end(running: Running) -> None:
    deadline = time.monotonic() + PATIENCE
    while alive(running) and time.monotonic() < deadline:
        time.sleep(0.01)


def evict(program: str, directory: Path) -> None:
    """End every process of this program that works in this directory: leftovers that no record names any more."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == program and Path(process.cwd()) == directory.resolve():
                end(Running(process.pid, process.create_time()), signal.SIGQUIT)


def wait_until(
    ready: Callable[[], object], refusals: tuple[type[Exception], ...], running: Running | None, log: Path
) -> None:
    """Call ready every 50 ms until it raises none of the refusals; raises NotStarted when time or process is over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            ready()
        except refusals as refusal:
            if not alive(running) or time.monotonic() > deadline:
                raise NotStarted(f"{refusal}\nThe last lines of {log}:\n{tail(log)}") from refusal
            time.sleep(0.05)
        else:
            return


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:].strip() if log.exists() else "(no log)"
