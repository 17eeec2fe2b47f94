"""Every way in which a worker comes by new children while its parent works; beside each a control without safeguards."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app import queue
from tests.acceptance.conftest import Haulage, wait_until
from tests.acceptance.forking import Forking
from tests.acceptance.samples import fork_markers

pytestmark = pytest.mark.prove

CLASSIC = re.compile("bad record|EOF detected|closed unexpectedly")
TOO_LATE = "Timed out waiting for UP message"


class Worker(Forking):
    """One whose parent plays several parts, and holds a transaction open from its start to its end."""

    def processes(self, who: str) -> set[str]:
        return {one.process for one in self.marks(who)}

    def shared(self) -> dict[str, set[str]]:
        return fork_markers.shared(replace(one, who="") for one in self.marks())

    def has_the_fault(self) -> bool:
        """True once it has shown itself by name, to one of the processes or to the server."""
        return any(CLASSIC.search(line) for line in [*self.problems(), *self.haulage.faults_in_logs()])

    def end(self) -> None:
        self.stop()
        self.assert_nothing_crossed()
        assert self.haulage.left_in_transaction() == set()

    def end_with_its_transaction(self) -> None:
        self.end()
        assert (self.folder / "kept").exists(), "the parent's open transaction must commit"


@pytest.fixture
def worker(haulage: Haulage, tmp_path: Path) -> Worker:
    return Worker(haulage, tmp_path)


def grow(worker: Worker, **extra: str) -> None:
    worker.start("long_memory", **extra)
    fork_markers.send(24, "long.grow")


def scale(worker: Worker, **extra: str) -> None:
    worker.start("long_autoscale", "--autoscale", "4,1", AUTOSCALE_KEEPALIVE="1", **extra)
    fork_markers.send(8, "long.last", "first")


def hang(worker: Worker, **extra: str) -> None:
    worker.start("long_limit", **extra)
    for _ in range(3):
        fork_markers.send(2, "long.hang")
        fork_markers.send(4)


def fork_in_threads(worker: Worker, **extra: str) -> None:
    worker.start("long_threads", "--pool", "threads", "--concurrency", "4", DB_POOL_SIZE="4", **extra)
    fork_markers.send(4, "long.connect")
    worker.wait_for("thread", 4)
    fork_markers.send(40, "long.fork")


@pytest.mark.parametrize("do", [grow, scale, hang, fork_in_threads])
def test_without_safeguards_the_same_worker_fails_by_name(do: Callable[..., None], worker: Worker) -> None:
    do(worker, without="everything")

    wait_until(worker.has_the_fault, "the classic fault shows itself")


def test_children_that_are_replaced_because_they_grew(worker: Worker) -> None:
    grow(worker)

    worker.wait_for("child", 24)

    assert len(worker.processes("child")) >= 4, "nothing else replaces children here"
    worker.end_with_its_transaction()


def test_children_that_come_and_go_with_the_load(worker: Worker) -> None:
    scale(worker)
    for load, after_it in (("first", "second"), ("second", None)):
        wait_until(lambda: len(working(worker)) == 4, "it has grown, and all are at work")
        (worker.folder / load).touch()
        wait_until(lambda: len(worker.haulage.children()) == 1, "it has shrunk")
        if after_it:
            fork_markers.send(8, "long.last", after_it)

    worker.wait_for("child", 32)
    assert len(worker.processes("child")) >= 7
    worker.end_with_its_transaction()


def working(worker: Worker) -> set[int]:
    """Return the living children that have begun a task."""
    marked = {int(process.split("@")[0]) for process in worker.processes("child")}
    return marked & {child.pid for child in worker.haulage.children()}


def test_children_that_are_killed_at_a_hard_time_limit(worker: Worker) -> None:
    hang(worker)

    worker.wait_for("child", 18)
    worker.wait_for("after_return", 6)

    for hook in ("on_failure", "after_return", "task_failure"):
        assert worker.processes(hook) == worker.processes("parent"), (
            "Celery runs these in the parent, which forks next"
        )
    assert len(worker.processes("child")) >= 6
    worker.end_with_its_transaction()


def test_children_that_take_longer_to_begin_than_celery_waits_by_default(worker: Worker) -> None:
    """Both at a time, since each takes a while: ours, and on another queue one with Celery's default."""
    slow = ("--max-tasks-per-child", "1", "--concurrency", "1", "--queues")
    control = Worker(worker.haulage, worker.folder / "control")
    control.folder.mkdir()
    worker.start("long_init", *slow, "uploads")
    control.start("long_init", *slow, "resume", name="control", LIMIT="4", NO_TRANSACTION="1")
    for queue_name in (queue.Queue.UPLOADS, queue.Queue.RESUME) * 2:
        queue.celery.send_task(fork_markers.MARK, queue=queue_name.value)

    worker.wait_for("child", 2)
    wait_until(lambda: worker.haulage.log("control").count(TOO_LATE) >= 2, "the control loops for ever")

    assert len(control.marks("child")) == 1
    assert len(worker.processes("child")) == 2
    assert TOO_LATE not in worker.haulage.log()
    worker.end_with_its_transaction()


def test_threads_that_fork_in_the_middle_of_each_others_transactions(worker: Worker) -> None:
    fork_in_threads(worker)

    worker.wait_for("thread", 4 + 40 * 6)
    worker.wait_for("forked", 40 * 5)

    assert len(worker.processes("thread")) == 1
    assert len(worker.processes("forked")) == 40
    assert len({one.session for one in worker.marks("thread")}) <= 4, "its pool is neither leaked nor renewed"
    worker.end()


# No control here: a new interpreter inherits nothing, and nothing goes wrong without safeguards either.
def test_children_that_are_new_interpreters(worker: Worker) -> None:
    worker.start("long_spawn", "--max-tasks-per-child", "2")
    fork_markers.send(6)

    worker.wait_for("child", 6)

    assert len(worker.processes("child")) >= 3
    sessions = worker.haulage.installation.look(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE '%%@%%'"
    )
    assert sessions
    assert all(" worker@" in name for (name,) in sessions), "they know that they are children of our worker"
    worker.end_with_its_transaction()
