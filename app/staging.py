"""Received bytes at rest: hashed while written, flushed to disk, never under a client's name."""

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from io import BufferedReader
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

from app.errors import SourceMissing, StagingFull, StagingUnavailable, TooLarge, WrongStaging
from app.quickxor import QuickXor

log = logging.getLogger(__name__)

IDENTITY_FILE = ".haulage-staging"
_WAIT = timedelta(seconds=30)
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Staged:
    """Bytes that are safely on the staging's disk. `size` in bytes; the hashes as in drives.base.Delivery."""

    id: UUID
    size: int
    sha256: str
    quick_xor: str


class Draft:
    """A file being received, in a `with` block: write to it, then `keep` it; what is not kept is removed."""

    def __init__(self, root: Path, max_bytes: int, reserve_bytes: int) -> None:
        self._id = uuid4()
        self._root, self._max_bytes, self._reserve_bytes = root, max_bytes, reserve_bytes
        self._path = root / "drafts" / self._id.hex
        self._sha256, self._quick_xor = hashlib.sha256(), QuickXor()
        self._size = 0

    def __enter__(self) -> Self:
        with _trouble_by_name():
            self._file = self._path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk again, while flushing; the bytes go anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises TooLarge beyond the limit, and StagingFull when they would use up the reserve."""
        self._size += len(data)
        if self._size > self._max_bytes:
            raise TooLarge(f"the file has more than {self._max_bytes} bytes")
        self._sha256.update(data)
        self._quick_xor.update(data)  # about as quick; reading the file once more would not be
        with _trouble_by_name():
            _leave_reserve(self._root, len(data), self._reserve_bytes)
            self._file.write(data)

    def keep(self) -> Staged:
        """Make the bytes durable, then give them their final name."""
        final = kept_path(self._root, self._id)
        with _trouble_by_name():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._path.rename(final)
            flush_folder(final.parent)
        return Staged(self._id, self._size, self._sha256.hexdigest(), self._quick_xor.digest())


@contextmanager
def _trouble_by_name() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        log.error("staging is not where it was: %s; is it mounted?", error.filename)  # noqa: TRY400  no stack is needed
        raise StagingUnavailable("staging is not mounted on this machine", _WAIT) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StagingFull("the staging disk is full; try again later", _WAIT) from error
        raise


def _leave_reserve(root: Path, more_bytes: int, reserve_bytes: int) -> None:
    if shutil.disk_usage(root).free < more_bytes + reserve_bytes:
        raise StagingFull("the staging disk has not enough room for this file; try again later", _WAIT)


def kept_path(root: Path, staged_id: UUID) -> Path:
    return root / "kept" / staged_id.hex[:2] / staged_id.hex


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable: an fsync of the file alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Staging:
    """The directory that every web process and worker reaches."""

    def __init__(self, root: Path, max_bytes: int, reserve_bytes: int) -> None:
        self.root = root
        self._max_bytes, self._reserve_bytes = max_bytes, reserve_bytes

    def prepare(self) -> UUID:
        """Make an empty directory a staging; return its identity, which stays the same ever after."""
        kept = self.root / "kept"
        for folder in (self.root / "drafts", *(kept / f"{number:02x}" for number in range(256))):
            folder.mkdir(parents=True, exist_ok=True)
        flush_folder(kept)
        return self.identity() or self._new_identity()

    def _new_identity(self) -> UUID:
        """Give the staging an identity, whole or not at all; of two that come at once the first decides."""
        made = uuid4()
        draft = self.root / "drafts" / made.hex
        with draft.open("x") as file:
            file.write(f"{made}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, self.root / IDENTITY_FILE)
        draft.unlink()
        flush_folder(self.root)
        return self.identity() or made

    def identity(self) -> UUID | None:
        try:
            return UUID((self.root / IDENTITY_FILE).read_text().strip())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise WrongStaging(f"{self.root / IDENTITY_FILE} cannot be read: {error}") from error

    def make_room(self, announced_bytes: int) -> None:
        """Refuse early what cannot fit: TooLarge for the limit, StagingFull for the disk."""
        if announced_bytes > self._max_bytes:
            raise TooLarge(f"the file has {announced_bytes} bytes; {self._max_bytes} are allowed")
        with _trouble_by_name():
            _leave_reserve(self.root, announced_bytes, self._reserve_bytes)

    def draft(self) -> Draft:
        return Draft(self.root, self._max_bytes, self._reserve_bytes)

    def put(self, chunks: Iterable[bytes]) -> Staged:
        """Stage bytes from an iterable."""
        with self.draft() as draft:
            for chunk in chunks:
                draft.write(chunk)
            return draft.keep()

    def open(self, staged_id: UUID) -> BufferedReader:
        try:
            return self.path(staged_id).open("rb")
        except FileNotFoundError as error:
            if self.identity() is None:
                raise StagingUnavailable("staging is not mounted on the worker's machine", _WAIT) from error
            log.error("staged bytes %s are not in %s: is the right staging mounted?", staged_id, self.root)  # noqa: TRY400
            raise SourceMissing(
                "the staged bytes are not there: is staging mounted on the worker's machine?"
            ) from error

    def path(self, staged_id: UUID) -> Path:
        return kept_path(self.root, staged_id)

    def remove(self, staged_id: UUID) -> None:
        """Remove staged bytes; does nothing if they are gone."""
        self.path(staged_id).unlink(missing_ok=True)

    def older_than(self, moment: float) -> Iterator[UUID | Path]:
        """Yield what was last written before `moment` (seconds, this file system's clock): kept ids, then drafts."""
        for path in self.root.glob("kept/??/*"):
            if _is_older(path, moment):
                with suppress(ValueError):  # not ours: a network file system keeps names of its own there
                    yield UUID(path.name)
        for path in self.root.glob("drafts/*"):
            if _is_older(path, moment):
                yield path


def _is_older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:  # kept, or removed, by another process since we saw its name
        return False
