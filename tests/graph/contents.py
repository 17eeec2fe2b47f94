"""Bytes on disk: files that grow while they are received, and finished ones with their size and hash."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tests.graph.hashes import QuickXorHash

STEP = 1 << 20


@dataclass(frozen=True)
class Content:
    """Finished bytes."""

    path: Path
    size: int
    quick_xor_hash: str


class Draft:
    """Bytes on their way, hashed while they come; written at positions, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(12)
        self._file = self.path.open("x+b", buffering=0)
        self.hash = QuickXorHash()

    @property
    def size(self) -> int:
        return self.hash.length

    def put(self, at: int, data: bytes | memoryview) -> None:
        """Write without counting it: `take` decides what of it is kept."""
        view, file = memoryview(data), self._file.fileno()
        while view:
            written = os.pwrite(file, view, at)
            view, at = view[written:], at + written

    def take(self, so_far: QuickXorHash) -> None:
        """Count everything up to here, of which this is the hash."""
        self.hash = so_far

    def take_some(self, length: int) -> None:
        """Count only the next so many bytes of what was put."""
        while length:
            data = os.pread(self._file.fileno(), min(length, STEP), self.size)
            self.hash.update(data)
            length -= len(data)

    def append(self, data: bytes) -> None:
        self.put(self.size, data)
        self.hash.update(data)

    def finish(self) -> Content:
        os.truncate(self._file.fileno(), self.size)
        self._file.close()
        return Content(self.path, self.size, self.hash.digest())

    def drop(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)
