"""Faults while files are on their way: everything is stored, once, with a bounded number of attempts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import redis

from local import servers as local_servers
from tests.acceptance.conftest import Haulage, wait_until

ROOT = Path(__file__).parents[2]
SLOW = "tests.acceptance.samples.slow"
BIG = 2 * 2**20  # 32 chunks of the slow sample
MAX_ATTEMPTS = 8


def assert_stored_once(haulage: Haulage, number: int) -> None:
    haulage.wait_until_stored(number)
    assert haulage.problems() == []
    items = haulage.installation.query("SELECT count(*) FROM corporate.vmb_items WHERE kind = 'file'")
    assert items == [(number,)]
    stored = haulage.installation.query(
        "SELECT count(*), count(DISTINCT upload_id) FROM corporate.upload_events WHERE kind = 'stored'"
    )
    assert stored == [(number, number)]
    assert max(haulage.attempts()) <= MAX_ATTEMPTS


def wait_for_holder(haulage: Haulage, upload: UUID) -> int:
    found: list[int] = []

    def look() -> bool:
        pid = haulage.holder(upload)
        sent = haulage.installation.query(
            "SELECT drive_session IS NOT NULL FROM corporate.uploads WHERE id = %s", str(upload)
        )
        found[:] = [pid] if pid and sent == [(True,)] else []
        return bool(found)

    wait_until(look, "the upload is being transferred")
    return found[0]


@pytest.fixture
def slow(haulage: Haulage) -> Haulage:
    haulage.start_beat()
    haulage.start_worker(sample=SLOW, PUT_SECONDS="0.1")
    return haulage


def test_a_child_killed_in_the_middle_of_a_transfer(slow: Haulage) -> None:
    uploads = slow.hand_in(3, size=BIG)
    victim = wait_for_holder(slow, uploads[0])

    os.kill(victim, signal.SIGKILL)

    assert_stored_once(slow, 3)
    lost = slow.installation.query("SELECT count(*) FROM corporate.upload_events WHERE kind = 'worker_lost'")
    assert lost[0][0] >= 1


def test_a_whole_worker_killed(slow: Haulage) -> None:
    uploads = slow.hand_in(3, size=BIG)
    wait_for_holder(slow, uploads[0])

    os.killpg(slow.pid(), signal.SIGKILL)
    slow.system.processes.pop("worker").wait()
    slow.start_worker(name="next", sample=SLOW, PUT_SECONDS="0.01")

    assert_stored_once(slow, 3)


def test_a_redis_that_forgets_everything(slow: Haulage) -> None:
    slow.hand_in(30, size=2 * 64 * 1024)
    wait_until(lambda: slow.states().get("stored", 0) > 0, "the work has begun")

    redis.Redis.from_url(slow.installation.servers.redis_url).flushall()

    assert_stored_once(slow, 30)


def test_postgresql_restarted_under_load(slow: Haulage) -> None:
    slow.hand_in(40, size=2 * 64 * 1024)
    wait_until(lambda: slow.states().get("stored", 0) > 0, "the work has begun")

    local_servers.restart_postgres(slow.installation.servers)
    wait_until(lambda: slow.states().get("stored", 0) > 10, "it goes on")
    local_servers.restart_postgres(slow.installation.servers, immediate=True)

    assert_stored_once(slow, 40)


def test_a_stopped_worker_that_wakes_after_its_lease(slow: Haulage) -> None:
    # Half a minute long: on a busy machine, too, it must still be stopped in the middle.
    [upload] = slow.hand_in(1, size=8 * BIG)
    zombie = wait_for_holder(slow, upload)

    os.kill(zombie, signal.SIGSTOP)
    try:
        assert slow.states() == {"transferring": 1}
        slow.start_worker(name="second", sample=SLOW, PUT_SECONDS="0.01")
        slow.wait_until_stored(1)
    finally:
        os.kill(zombie, signal.SIGCONT)

    wait_until(lambda: slow.was_fenced(upload), "the zombie has noticed")
    assert_stored_once(slow, 1)
    assert psutil.pid_exists(zombie)


def test_a_warm_shutdown_ends_a_long_transfer_early_and_takes_the_attempt_back(slow: Haulage) -> None:
    [upload] = slow.hand_in(1, size=BIG * 16)
    wait_for_holder(slow, upload)

    slow.system.stop("worker")

    state = slow.installation.query("SELECT state, attempts, reason FROM corporate.uploads")
    assert state == [("queued", 0, "shutting_down")]
    slow.start_worker(name="next", sample=SLOW, PUT_SECONDS="0")
    assert_stored_once(slow, 1)
    sent_twice = slow.installation.query("SELECT attempts FROM corporate.uploads")
    assert sent_twice == [(1,)]


def test_a_long_transfer_goes_in_slices(haulage: Haulage) -> None:
    haulage.start_beat()
    haulage.start_worker(sample=SLOW, PUT_SECONDS="0.1", SLICE_SECONDS="1")
    haulage.hand_in(1, size=BIG)

    assert_stored_once(haulage, 1)

    assert haulage.attempts() == [1]
    slices = haulage.installation.query(
        "SELECT count(*) FROM corporate.upload_events WHERE kind = 'transferring'"
    )
    assert slices[0][0] >= 3


def test_rubbish_in_the_queue_harms_nobody(haulage: Haulage) -> None:
    haulage.start_beat()
    haulage.start_worker()
    broker = redis.Redis.from_url(haulage.installation.servers.redis_url)
    rubbish = [
        "garbage",
        "[]",
        "{}",
        "7",
        "null",
        b"\xff\xfe",
        '{"body": "e30=", "headers": {}, "properties": {}}',
    ]

    for one in rubbish:
        broker.lpush("uploads", one)
    from app import queue

    queue.celery.send_task("no.such.task", queue="uploads")
    for arguments in (
        [],
        ["not an id"],
        [None],
        [{"a": 1}],
        ["00000000-0000-0000-0000-000000000000"],
        [1, 2, 3],
    ):
        queue.celery.send_task(queue.TRANSFER_UPLOAD, arguments, queue="uploads")
    haulage.hand_in(3)

    assert_stored_once(haulage, 3)
    wait_until(lambda: broker.llen("uploads") == 0, "the queue is empty")
    assert haulage.system.processes["worker"].poll() is None
    assert "tasks.upkeep.sweep" not in haulage.log().split("ready.")[1], (
        "what goes well all the time is not logged"
    )


def test_a_wake_up_does_not_carry_the_limits_of_its_sender(haulage: Haulage) -> None:
    program = (
        "import uuid\nimport tasks.uploads\nfrom app import queue\nqueue.celery.finalize()\n"
        "assert queue.celery.tasks[queue.TRANSFER_UPLOAD].soft_time_limit\n"
        "queue.wake([uuid.uuid4()])\n"
        "queue.celery.send_task(queue.TRANSFER_UPLOAD, ['control'], queue='uploads')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ, check=True)

    broker = redis.Redis.from_url(haulage.installation.servers.redis_url)
    control, ours = (json.loads(one)["headers"]["timelimit"] for one in broker.lrange("uploads", 0, -1))
    assert ours == [None, None]
    assert None not in control, "Celery sends a task's limits along by itself"


def test_a_sweep_finds_its_way_past_a_backlog_of_slow_transfers(haulage: Haulage) -> None:
    haulage.start_beat()
    haulage.start_worker(children=1, sample=SLOW, PUT_SECONDS="2.5")
    haulage.hand_in(40, size=2 * 64 * 1024)
    wait_until(lambda: haulage.states().get("stored", 0) > 0, "the backlog is worked at")
    redis.Redis.from_url(haulage.installation.servers.redis_url).delete(
        "upkeep"
    )  # whatever had gathered by now

    def swept_again(since: list[object]) -> bool:
        ran = haulage.installation.query("SELECT ran_at FROM corporate.upkeep_runs WHERE task LIKE '%%sweep'")
        since[:] = since or ran
        return ran != since

    seen: list[object] = []
    wait_until(lambda: swept_again(seen), "a sweep has run beside the backlog", 30, haulage.states)

    assert haulage.states().get("queued", 0) > 20
