"""A stand with a corporation whose files go into a simulated library of Microsoft's, and what its workers' time went into."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.stand import Stand
from local import simulator
from local.simulator import Simulator

CORP = "8"
SIZE = 4096  # bytes of a small file
MEMORY = Path("/dev/shm")
WARM = 0.05  # of the files: connections and tokens are made with the first ones
DONE = """
    SELECT count(*), extract(epoch FROM max(at) FILTER (WHERE place = %s) - max(at) FILTER (WHERE place = %s))
    FROM (SELECT finished_at AS at, row_number() OVER (ORDER BY finished_at) AS place FROM corporate.uploads
          WHERE corp_index = 8 AND created_at > %s) AS done
"""


@dataclass(frozen=True)
class Shares:
    """What a child's time went into, from its first task to its last: in parts of it, and how many files it was."""

    files: int
    transactions: float
    requests: float
    rest: float  # of tasks: our own Python, hashing, files
    between: float  # tasks: Celery, Redis

    def cells(self) -> list[str]:
        parts = (self.transactions, self.requests, self.rest, self.between)
        return [f"{part:.0%}" for part in parts]


@dataclass(frozen=True)
class Drained:
    """What a worker did: `rate` in files a second, without the first and the last of them; `seconds` from ready to the last."""

    rate: float
    seconds: float
    shares: Shares


SHARES = ("transactions", "requests", "rest of a task", "between tasks")


@contextmanager
def library(stand: Stand) -> Iterator[Simulator]:
    """Run a simulator that keeps its bytes in memory, where there is such a place; let the installation know its drive."""
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="haulage-") as home,
        simulator.running(Path(home), *simulator.ROOMY) as running,
    ):
        stand.system.environment = {**stand.system.environment, **running.settings()}
        stand.system.run("corp", "add", CORP, "Bench on OneDrive", "--drive", simulator.DRIVE)
        yield running


def drain(stand: Stand, children: int, files: int) -> Drained:
    """Let a worker send so many small files, and write down where its time goes."""
    counts = Path(tempfile.mkdtemp(dir=stand.system.data))
    since = stand.ask("SELECT clock_timestamp()")[0][0]
    stand.prepare(files, SIZE, CORP)
    stand.start_worker(children, "benchmarks.speed.timing_worker", BENCH_COUNTS=str(counts))
    ready = stand.ask("SELECT clock_timestamp()")[0][0]
    stand.wait_until_stored()
    stand.system.stop("worker")
    first, last = max(int(files * WARM), children), files - children  # who comes last is alone
    done, seconds = stand.ask(DONE, last, first, since)[0]
    assert done == files, f"{done} of {files} files are counted"
    ended = stand.ask("SELECT max(finished_at) FROM corporate.uploads")[0][0]
    return Drained((last - first) / float(seconds), (ended - ready).total_seconds(), _shares(counts))


def _shares(counts: Path) -> Shares:
    spent = Counter[str]()
    for file in counts.glob("*.json"):
        spent.update(json.loads(file.read_text()))
    life = spent["life"] or 1
    rest = spent["working"] - spent["transactions"] - spent["requests"]
    between = life - spent["working"]
    parts = [part / life for part in (spent["transactions"], spent["requests"], rest, between)]
    return Shares(int(spent["tasks"]), *parts)


def fill(folder: Path, files: int) -> Path:
    """Make small files, in as many folders as our own go into; return the folder."""
    for number in range(files):
        to = folder / f"folder {number % 16:02}" / f"{number}.bin"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(os.urandom(SIZE))
    return folder
