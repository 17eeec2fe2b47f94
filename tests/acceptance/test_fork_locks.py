"""Processes killed while they hold locks: these are free at once, though a process lives that was forked from them.

Such a process keeps a copy of its forebears' sockets unless it is told not to, and PostgreSQL, which hears of a death
by the end of the connection, goes on waiting for the dead.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import psycopg2.errors
import pytest

from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.forking import Forking
from tests.acceptance.samples import fork_markers

OF_PARENT, OF_CHILD, OF_WITNESS = 1, 2, 3  # as in samples/fork_locks.py
BOTH = {"row", "advisory"}
ROW = (
    "SELECT 1 FROM corporate.uploads WHERE id ="
    " (SELECT id FROM corporate.uploads ORDER BY id LIMIT 1 OFFSET %s - 1) FOR UPDATE NOWAIT"
)
WITNESS = """
import psycopg2, sys, time
connection = psycopg2.connect(sys.argv[1])
connection.cursor().execute("SELECT pg_advisory_lock(%s)", sys.argv[2:])
print(flush=True)
time.sleep(600)
"""


@pytest.fixture
def helper() -> Iterator[list[psutil.Process]]:
    """The process that was forked in the task, once there is one."""
    found: list[psutil.Process] = []
    yield found
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def hold(forking: Forking, helper: list[psutil.Process], without: str = "") -> int:
    """Start a parent and a child that hold their locks, and the helper; return the child's pid."""
    forking.haulage.hand_in(2)
    forking.start("fork_locks", without=without)
    fork_markers.send(1, "fork_locks.hold")
    pids = [forking.folder / "child", forking.folder / "helper"]
    wait_until(lambda: all(file.exists() for file in pids), "the child holds its locks")
    child, forked = (int(file.read_text()) for file in pids)
    helper.append(psutil.Process(forked))
    assert held(forking.haulage, OF_PARENT) == held(forking.haulage, OF_CHILD) == BOTH
    return child


def held(haulage: Haulage, number: int) -> set[str]:
    """Return which of a process's two locks nobody else can have; asked by trying to take them."""
    found = set()
    if not haulage.installation.query("SELECT pg_try_advisory_lock(%s)", number)[0][0]:
        found.add("advisory")
    try:
        haulage.installation.query(ROW, number)
    except psycopg2.errors.LockNotAvailable:
        found.add("row")
    return found


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    wait_until(lambda: not is_alive(process), f"{pid} is dead")


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_a_later_death_is_known(haulage: Haulage) -> None:
    """Kill another process that holds a lock, and wait until PostgreSQL has noticed: by then it could know of others."""
    command = (sys.executable, "-c", WITNESS, haulage.installation.environment["OWNER_DATABASE_URL"])
    with subprocess.Popen([*command, str(OF_WITNESS)], stdout=subprocess.PIPE) as witness:
        assert witness.stdout is not None
        assert witness.stdout.readline() == b"\n"
        assert "advisory" in held(haulage, OF_WITNESS)
        os.kill(witness.pid, signal.SIGKILL)
    wait_until(lambda: "advisory" not in held(haulage, OF_WITNESS), "the witness's lock is free")


def test_the_locks_of_the_killed_are_free_while_a_process_forked_from_them_lives(
    haulage: Haulage, forking: Forking, helper: list[psutil.Process]
) -> None:
    child = hold(forking, helper)

    kill(child)
    wait_until(lambda: not held(haulage, OF_CHILD), "the child's locks are free")
    assert held(haulage, OF_PARENT) == BOTH, "the parent lives"

    kill(haulage.pid())
    wait_until(lambda: not held(haulage, OF_PARENT), "the parent's locks are free")
    assert is_alive(helper[0])
    assert haulage.faults_in_logs() == []


def test_with_worker_process_init_alone_the_locks_are_held_as_long_as_that_process_lives(
    haulage: Haulage, forking: Forking, helper: list[psutil.Process]
) -> None:
    child = hold(forking, helper, without="hook")

    for victim, its_own in {child: OF_CHILD, haulage.pid(): OF_PARENT}.items():
        kill(victim)
        wait_until_a_later_death_is_known(haulage)
        assert held(haulage, its_own) == BOTH

    helper[0].kill()
    wait_until(lambda: not held(haulage, OF_CHILD) | held(haulage, OF_PARENT), "all locks are free")
