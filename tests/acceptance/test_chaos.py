"""A storm of random faults over a working system, then the invariants. The seed is printed, and can be given again."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

import psutil
import pytest
import redis

from app import intake
from app.models import OnConflict
from app.staging import Staging
from local import servers as local_servers
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP

UPLOADS, FAULTS = 1500, 60
FOLDERS, CONTESTED = 12, 20
pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]


class Storm:
    """Hands files in and breaks things, by one random generator."""

    def __init__(self, haulage: Haulage, seed: int) -> None:
        self.haulage, self.random = haulage, random.Random(seed)
        self.staging = Staging(haulage.installation.staging_dir, 2**30, 0)
        self.done: Counter[str] = Counter()
        self.stopped: list[int] = []
        self.restarts = 0

    def hand_in(self, number: int) -> None:
        for one in range(number):
            content = self.random.randbytes(self.random.choice([0, 1, 1000, 200_000]))
            contested = (
                self.random.random() < 0.2
            )  # the same few names again and again, each time with other bytes
            name = (
                f"contested {self.random.randrange(CONTESTED)}"
                if contested
                else f"{self.random.random()} {one}"
            )
            policy = (
                self.random.choice([OnConflict.RENAME, OnConflict.REPLACE]) if contested else OnConflict.FAIL
            )
            folder = f"folder {self.random.randrange(FOLDERS)}"
            to = intake.destination(CORP, name, folder=folder, on_conflict=policy)
            intake.accept(self.staging, to, self.staging.put([content]))

    def break_something(self) -> None:
        faults = [self.kill_child] * 4 + [
            self.kill_worker,
            self.forget_messages,
            self.restart_postgresql,
            self.stop_child,
        ]
        fault = self.random.choice(faults)
        with suppress(psutil.NoSuchProcess, ProcessLookupError, IndexError):  # it has no child at this moment
            fault()
            self.done[fault.__name__] += 1

    def worker(self) -> str:
        return self.random.choice(
            [name for name in self.haulage.system.processes if name.startswith("worker")]
        )

    def child(self) -> int:
        return self.random.choice(self.haulage.children(self.worker())).pid

    def kill_child(self) -> None:
        os.kill(self.child(), signal.SIGKILL)

    def kill_worker(self) -> None:
        name = self.worker()
        os.killpg(self.haulage.pid(name), signal.SIGKILL)
        self.haulage.system.processes.pop(name).wait()
        self.restarts += 1
        self.start(f"worker{self.restarts + 2}")

    def start(self, name: str) -> None:
        self.haulage.start_worker(name=name, MAX_ATTEMPTS="50", LEASE_SECONDS="2")

    def forget_messages(self) -> None:
        redis.Redis.from_url(self.haulage.installation.servers.redis_url).flushall()

    def restart_postgresql(self) -> None:
        local_servers.restart_postgres(
            self.haulage.installation.servers, immediate=self.random.random() < 0.5
        )

    def stop_child(self) -> None:
        """Stop a process; it wakes when the next one is stopped, long after its lease."""
        self.wake_stopped()
        pid = self.child()
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def wake_stopped(self) -> None:
        for pid in self.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped.clear()


def test_a_storm_of_faults_loses_nothing_and_doubles_nothing(haulage: Haulage) -> None:
    seed = int(os.environ.get("SEED") or time.time())
    print(f"SEED={seed}")
    storm = Storm(haulage, seed)
    haulage.start_beat()
    storm.start("worker1")
    storm.start("worker2")

    for _ in range(FAULTS):
        with suppress(Exception):  # PostgreSQL may be away for a moment: what was not accepted does not count
            storm.hand_in(UPLOADS // FAULTS)
        storm.break_something()
    storm.wake_stopped()
    accepted = haulage.installation.query("SELECT count(*) FROM corporate.uploads")[0][0]
    began = time.monotonic()
    wait_until(lambda: haulage.states() == {"stored": accepted}, "everything is stored", 300, haulage.states)

    print(
        f"{accepted} uploads, faults {dict(storm.done)}, drained {time.monotonic() - began:.0f} s after the last one,"
    )
    print(f"{sum(haulage.attempts()) - accepted} attempts more than uploads")
    assert len(storm.done) == 5, "every kind of fault was used"
    assert haulage.problems() == []
    once = haulage.installation.query(
        "SELECT count(*), count(DISTINCT upload_id) FROM corporate.upload_events WHERE kind = 'stored'"
    )
    assert once == [(accepted, accepted)]
    lost = haulage.installation.query(
        "SELECT count(*) FROM corporate.uploads u JOIN corporate.vmb_items i"
        " ON (i.corp_index, i.onedrive_item_id) = (u.corp_index, u.item_id)"
        " WHERE u.on_conflict = 'fail' AND (u.sha256, u.size) IS DISTINCT FROM (i.sha256, i.size)"
    )
    assert lost == [(0,)]
    assert haulage.left_in_transaction() == set()
