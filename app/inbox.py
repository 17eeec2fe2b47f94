"""Files that another application has put into INBOX/<corp_index>/, opened so that no link leads elsewhere."""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from app import names
from app.errors import InboxFileMissing, InboxFileRefused, InboxUnavailable, SourceChanged

log = logging.getLogger(__name__)

_CHUNK_BYTES = 2**20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # a FIFO must not make us wait


class Inbox:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, corp_index: int, path: str) -> Iterator[bytes]:
        """Yield the bytes of a file below the corporation's inbox.

        Raises InboxFileMissing, or InboxFileRefused for a link or anything else that is no regular file, or
        SourceChanged if somebody wrote to it meanwhile.
        """
        descriptor = self._open(corp_index, path)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor has no path
            before = os.fstat(descriptor)
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
            after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceChanged(f"the inbox file {names.printable(path)} was written to while it was read")

    def _open(self, corp_index: int, path: str) -> int:
        at = self._root / str(corp_index)
        if not at.is_symlink() and not at.exists():  # a place where nothing is mounted is an empty directory
            log.error("there is no inbox at %s: is it mounted on this machine?", at)
            raise InboxUnavailable(
                "the corporation's inbox is not on the worker's machine", timedelta(seconds=30)
            )
        *folders, name = (str(corp_index), *names.parts(path))
        try:
            descriptor = _walk(self._root, folders, name)
        except FileNotFoundError as error:
            raise InboxFileMissing(f"the inbox has no file {names.printable(path)}") from error
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}:
                raise InboxFileRefused(
                    f"{names.printable(path)} in the inbox is a link, or below one"
                ) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InboxFileRefused(f"{names.printable(path)} in the inbox is not a regular file")
        return descriptor


def _walk(root: Path, folders: list[str], name: str) -> int:
    """Open a file folder by folder, following no link in any part of its path."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, _FILE, dir_fd=at)
    finally:
        os.close(at)
