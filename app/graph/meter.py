"""Counts what is asked of Microsoft, whose limits are per application and minute, whatever the number of workers."""

import threading
from collections import Counter
from dataclasses import dataclass
from time import time


@dataclass(frozen=True)
class Minute:
    """What one process asked for in one minute: `starts_at` in seconds since 1970, by this machine's clock."""

    drive: str
    starts_at: int
    requests: int
    units: int


class Meter:
    """The counts of one process for one drive, until somebody takes them away. Shared by threads."""

    def __init__(self, drive: str) -> None:
        self.drive, self._lock = drive, threading.Lock()
        self._requests: Counter[int] = Counter()
        self._units: Counter[int] = Counter()

    def count(self, units: int) -> None:
        minute = int(time()) // 60 * 60
        with self._lock:
            self._requests[minute] += 1
            self._units[minute] += units

    def take(self) -> list[Minute]:
        """Return what was counted since the last time."""
        with self._lock:
            taken = [Minute(self.drive, at, self._requests[at], self._units[at]) for at in self._requests]
            self._requests.clear()
            self._units.clear()
        return taken
