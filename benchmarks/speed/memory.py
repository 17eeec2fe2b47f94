"""The memory of every process while one large file goes through HTTP, staging and transfer."""

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil  # type: ignore[import-untyped]

from benchmarks.report import Table
from benchmarks.speed.part import Part
from benchmarks.speed.stand import CORP, Stand, say
from local import system

MIB = 2**20
PIECE = MIB  # the file is made of pieces, one at a time
LOOK_SECONDS = 0.2
ALLOWED_MIB = 64
WARM_UP = 16  # small uploads, so that everything has been imported and connected once
BEFORE, RECEIVING, TRANSFERRING = "before", "receiving", "transferring"
Processes = dict[str, psutil.Process]


class Watch(threading.Thread):
    """Looks at the resident memory of every process, and keeps the most of each phase, in MiB."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(daemon=True)
        self.processes = processes
        self.most: dict[str, dict[str, float]] = {name: {} for name in processes}
        self.phase, self.looks = BEFORE, 0
        self.gone: set[str] = set()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        phase = self.phase
        for name, process in self.processes.items():
            try:
                now = process.memory_info().rss / MIB
            except psutil.NoSuchProcess:
                self.gone.add(name)
            else:
                self.most[name][phase] = max(now, self.most[name].get(phase, 0.0))
        self.looks += 1

    @contextmanager
    def during(self) -> Iterator[None]:
        self.look()
        self.start()
        try:
            yield
        finally:
            self._over.set()
            self.join()

    def growth(self, name: str) -> float:
        most = self.most[name]
        return max(most.get(RECEIVING, 0.0), most.get(TRANSFERRING, 0.0)) - most.get(BEFORE, 0.0)


def measure(stand: Stand, mebibytes: int) -> Part:
    """Send one file of so many MiB. A disk without room for it twice is said to be so, and nothing is measured."""
    needed, free = 2 * mebibytes + 1024, shutil.disk_usage(stand.system.data).free // MIB
    if free < needed:
        said = f"The large file was not sent: {stand.system.data} has {free:,} MiB free, and {needed:,} are needed"
        return Part("memory", [], {}, notes=[said])
    token = stand.system.run("token", "create", "--corp", CORP, "--label", "memory").strip()
    url = f"{stand.system.start_web(system.free_port())}/api/v1/corporations/{CORP}/uploads"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=600, trust_env=False) as client:
        stand.start_worker(2)
        stand.system.start_beat()
        try:
            for number in range(WARM_UP):
                _send(client, url, f"small {number}", 1)
            stand.wait_until_stored()
            stand.wait(lambda: bool(stand.ask("SELECT 1 FROM corporate.upkeep_runs")), 0.1)  # beat is at work
            watch, seconds = _watched(stand, client, url, mebibytes)
        finally:
            stand.system.stop("web", "beat", "worker")
    return _told(watch, seconds, mebibytes)


def _watched(stand: Stand, client: httpx.Client, url: str, mebibytes: int) -> tuple[Watch, dict[str, float]]:
    watch, seconds = Watch(_processes(stand)), {}
    with watch.during():
        for phase in (RECEIVING, TRANSFERRING):
            watch.phase, began = phase, time.monotonic()
            if phase == RECEIVING:
                _send(client, url, "large", mebibytes)
            else:
                stand.wait_until_stored()
            seconds[phase] = time.monotonic() - began
            say(f"  {phase}: {seconds[phase]:.1f} s")
    return watch, seconds


def _processes(stand: Stand) -> Processes:
    running = {name: psutil.Process(process.pid) for name, process in stand.system.processes.items()}
    children = running["worker"].children()
    parents = {"web": running["web"], "worker, parent": running["worker"], "beat": running["beat"]}
    return parents | {f"worker, child {number + 1}": child for number, child in enumerate(children)}


def _send(client: httpx.Client, url: str, name: str, pieces: int) -> None:
    one = secrets.token_bytes(PIECE)

    def body() -> Iterator[bytes]:
        for number in range(pieces):
            yield number.to_bytes(8, "big") + one[8:]

    client.post(url, params={"name": name}, content=body()).raise_for_status()


def _told(watch: Watch, seconds: dict[str, float], mebibytes: int) -> Part:
    rows = [
        [
            name,
            *(f"{most.get(phase, 0.0):.1f}" for phase in (BEFORE, RECEIVING, TRANSFERRING)),
            _growth(watch, name),
        ]
        for name, most in watch.most.items()
    ]
    table = Table(
        f"Memory while one file of {mebibytes:,} MiB goes through",
        ["process", "before, MiB", "most while receiving", "most while transferring", "growth"],
        rows,
        f"Resident memory (RSS), {watch.looks} looks, one every {LOOK_SECONDS} s, after {WARM_UP} small uploads. The file is "
        f"made while it is sent. Received in {seconds[RECEIVING]:.1f} s, stored {seconds[TRANSFERRING]:.1f} s later. "
        f"Allowed: growth by less than {ALLOWED_MIB} MiB each.",
    )
    figures = {"mebibytes": mebibytes, "seconds": seconds, "most_mib": watch.most, "looks": watch.looks}
    over = [name for name in watch.most if watch.growth(name) >= ALLOWED_MIB]
    wrong = [f"{name} grew by {watch.growth(name):.1f} MiB; {ALLOWED_MIB} are allowed" for name in over]
    wrong += [f"{name} has ended while it was watched" for name in sorted(watch.gone)]
    return Part("memory", [table], figures, wrong=wrong)


def _growth(watch: Watch, name: str) -> str:
    return f"{watch.growth(name):+.1f}"
