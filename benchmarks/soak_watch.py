"""Watches a soaking worker from outside: the sockets that its processes hold, and what its parent takes up."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import sockets

PAST_ITS_HOOKS = "soak-"  # how the name of a forked process begins once all its fork hooks have run
PROC = Path("/proc")
MIB = 2**20


@dataclass
class Watch:
    """What was seen of one worker, by its pid; port is PostgreSQL's."""

    worker: int
    port: int
    looks: int = 0
    processes_seen: int = 0
    found: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # of the parent, MiB
    descriptors: list[int] = field(default_factory=list)

    def look(self) -> None:
        """Sample once. A process that has just been forked does not count yet, one that ends meanwhile not any more."""
        towards = sockets.connected(self.port, self.worker)
        for child in children_of(self.worker):
            forked = [one for one in (child, *children_of(child)) if is_past_its_hooks(one)]
            theirs = {one: sockets.held_by(one) & towards for one in forked}
            parents = sockets.held_by(self.worker)
            self.found += [
                f"{one}: {sorted(held & parents)}" for one, held in theirs.items() if held & parents
            ]
            self.processes_seen += len(forked)
        self.looks += 1
        with suppress(FileNotFoundError, ProcessLookupError):
            self.memory.append(memory_of(self.worker))
            self.descriptors.append(sum(1 for _ in (PROC / str(self.worker) / "fd").iterdir()))


def at_start_and_end(figures: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the second and of the last tenth: the first is for warming up."""
    tenth = max(len(figures) // 10, 1)
    return median(figures[tenth : 2 * tenth] or figures or [0]), median(figures[-tenth:] or [0])


def children_of(pid: int) -> Iterator[int]:
    """Return the children that a process's main thread has made; none if it has gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        yield from map(int, (PROC / str(pid) / "task" / str(pid) / "children").read_text().split())


def is_past_its_hooks(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / "comm").read_text().startswith(PAST_ITS_HOOKS)
    return False


def memory_of(pid: int) -> float:
    """Return its resident memory in MiB."""
    pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / MIB
