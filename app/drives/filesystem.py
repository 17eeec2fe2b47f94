"""A drive in a directory: local disk, NFS, anything that has hard links.

An item's id is its path below the root, which begins with the corporation's own directory. Bytes are written to a draft
beside the corporations, at their positions and never truncated, so that a late writer of an earlier attempt can only
write what is there already; a hard link then makes the file visible, and refuses to take a place that is taken.
"""

import errno
import hashlib
import logging
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath

from app.drives.base import Delivery, DriveItem
from app.errors import DrivePathTooLong, DriveUnavailable, NameTaken, NotAFolder, NotVerified
from app.models import Json, Kind
from app.staging import flush_folder

DRAFTS = ".haulage/drafts"  # no corporation's directory begins with a dot
MAX_ID_BYTES = 1000  # see app.names.MAX_PATH_BYTES
_LEFTOVERS = (".placing", ".placed", ".aborted", ".previous")
_WAIT = timedelta(seconds=30)
_LATER = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is over its quota",
    errno.EROFS: "is read-only",
    errno.EIO: "reports input/output errors",
    errno.ESTALE: "was mounted anew",
    errno.ENOTCONN: "is not connected",
    errno.ETIMEDOUT: "does not answer",
    errno.EHOSTDOWN: "does not answer",
    errno.EHOSTUNREACH: "does not answer",
}


log = logging.getLogger(__name__)


class FilesystemDrive:
    chunk_bytes = 4 * 2**20
    finish_brings_last = False

    def __init__(self, root: Path, name: str = "filesystem") -> None:
        self._root, self.name = root, name

    def owns(self, corp_index: int, item_id: str) -> bool:
        parts = item_id.split("/")
        legal = not any(part in {"", ".", ".."} or "\0" in part for part in parts)
        return legal and parts[0] == str(corp_index) and len(item_id.encode()) <= MAX_ID_BYTES

    def make_root(self, corp_index: int) -> DriveItem:
        if not self._root.is_dir():
            raise DriveUnavailable(f"{self._root} is not there: create it, or mount it", _WAIT)
        (self._root / DRAFTS).mkdir(parents=True, exist_ok=True)
        (self._root / str(corp_index)).mkdir(exist_ok=True)
        flush_folder(self._root)
        return DriveItem(str(corp_index), str(corp_index), Kind.FOLDER)

    def make_folder(self, parent_id: str, name: str) -> DriveItem:
        with self._trouble_by_name():
            made = self._child_id(parent_id, name)
            path = self._path(made)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if not path.is_dir():
                    raise NotAFolder(f"a file in the drive has the name of the folder {name!r}") from None
            flush_folder(path.parent)
            return DriveItem(made, path.name, Kind.FOLDER)

    def remove_empty_folder(self, folder_id: str) -> None:
        with suppress(OSError):
            self._path(folder_id).rmdir()

    def begin(self, delivery: Delivery, previous: Json | None = None) -> tuple[Json, int]:  # noqa: ARG002  a draft is always new
        # A name of this session alone: whatever an earlier one of the same upload still does, it does to its own draft.
        session: Json = {"draft": f"{delivery.upload_id.hex}-{secrets.token_hex(6)}", "secured": 0}
        with self._trouble_by_name():
            # A path that is too long is told before the bytes are sent.
            self._child_id(delivery.parent_id, delivery.name)
        # The draft comes with the first byte: nobody would remove one whose session was never saved.
        return session, 0

    def held(self, session: Json, delivery: Delivery) -> int | None:  # noqa: ARG002  a draft is for any name
        # Bytes behind the last `secure` may be holes after a power cut, whatever the file's size says.
        with self._trouble_by_name():
            draft = self._draft(session)
            try:
                size = draft.stat().st_size
            except FileNotFoundError:
                placed = draft.with_suffix(".placed")
                return placed.stat().st_size if placed.exists() else None
            secured = int(session["secured"])
            return secured if size >= secured else 0

    def chunk_of(self, session: Json) -> int:  # noqa: ARG002  a disk takes any
        return self.chunk_bytes

    def put(self, session: Json, offset: int, data: bytes) -> int:
        with self._trouble_by_name():
            # Behind its beginning a draft that is missing was taken away: a late writer must not leave a new one behind.
            descriptor = self._open_draft(session, make=offset == 0)
            try:
                left = memoryview(data)
                while left:
                    written = os.pwrite(descriptor, left, offset)
                    offset, left = offset + written, left[written:]
            finally:
                os.close(descriptor)
        return offset

    def secure(self, session: Json, offset: int) -> Json:
        with self._trouble_by_name():
            descriptor = self._open_draft(session)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return session | {"secured": offset}

    def finish(
        self,
        delivery: Delivery,
        session: Json,
        last: bytes,  # noqa: ARG002  it was put, like all before it
        may_place: Callable[[], None],
    ) -> DriveItem:
        with self._trouble_by_name():
            draft = self._draft(session)
            placed = self._child_id(delivery.parent_id, delivery.name)
            path = self._path(placed)
            if _is_same(draft.with_suffix(".placed"), path):  # an earlier attempt came this far
                self._verify(delivery, path)
                may_place()
            else:
                if delivery.size == 0:  # nothing was put
                    may_place()  # a late attempt must not leave a new draft behind
                    os.close(self._open_draft(session, make=True))
                self._verify(delivery, draft)
                path.parent.mkdir(parents=True, exist_ok=True)
                may_place()
                self._place(delivery, draft, path)
                flush_folder(path.parent)
                _seal(draft)
            return DriveItem(placed, path.name, Kind.FILE, delivery.size)

    def _verify(self, delivery: Delivery, draft: Path) -> None:
        """Read back what the disk holds, and make it durable."""
        try:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
                same = os.fstat(file.fileno()).st_size == delivery.size
                same = same and hashlib.file_digest(file, "sha256").hexdigest() == delivery.sha256
        except FileNotFoundError as error:
            raise NotVerified("the bytes are gone from the drive") from error
        if not same:
            raise NotVerified("the drive holds other bytes than were received")

    def _place(self, delivery: Delivery, draft: Path, path: Path) -> None:
        try:
            os.link(draft, path)
        except FileExistsError:
            self._place_over(delivery, draft, path)
        except FileNotFoundError as error:  # another attempt has finished or aborted meanwhile
            raise NotVerified("the bytes are gone from the drive") from error

    def _place_over(self, delivery: Delivery, draft: Path, path: Path) -> None:
        if _is_same(draft, path):
            return  # an earlier attempt came this far
        if not (delivery.replace and _is_file(path)) and not _holds(path, delivery):
            raise NameTaken(f"the drive has something else under the name {delivery.name!r}") from None
        try:
            self._replace(draft, path)
        except FileNotFoundError as error:  # as above
            raise NotVerified("the bytes are gone from the drive") from error

    @staticmethod
    def _replace(draft: Path, path: Path) -> None:
        """Put the draft's bytes in the place of others, which stay at hand until the upload is stored."""
        placing, previous = draft.with_suffix(".placing"), draft.with_suffix(".previous")
        with suppress(FileExistsError):  # left by an attempt that died between these lines
            os.link(draft, placing)  # first, since it fails where another attempt is through already
        with suppress(FileExistsError):
            os.link(path, previous)
        # It takes the name away with it: an attempt that wakes up here later finds nothing to place.
        placing.replace(path)

    def release(self, session: Json) -> None:
        draft = self._draft(session)
        for leftover in (draft, *(draft.with_suffix(suffix) for suffix in _LEFTOVERS)):
            leftover.unlink(missing_ok=True)

    def abort(self, session: Json, placed: Delivery | None) -> None:
        with self._trouble_by_name():
            draft = self._draft(session)
            aborted = draft.with_suffix(".aborted")
            if not aborted.exists():  # left by a clean-up that died
                for ours in (draft, draft.with_suffix(".placed")):
                    with suppress(FileNotFoundError):
                        ours.rename(aborted)
            # From here on no earlier attempt can place it.
            draft.with_suffix(".placing").unlink(missing_ok=True)
            if placed is not None and aborted.exists():
                with suppress(DrivePathTooLong):  # then it was not placed there
                    path = self._path(self._child_id(placed.parent_id, placed.name))
                    _take_back(path, aborted, draft.with_suffix(".previous"))
            self.release(session)

    def read(self, item_id: str, first: int = 0, length: int | None = None) -> Iterator[bytes]:
        with self._path(item_id).open("rb") as file:
            file.seek(first)
            left = sys.maxsize if length is None else length
            while chunk := file.read(min(left, 2**20)):
                yield chunk
                left -= len(chunk)

    def size_now(self, item_id: str) -> int | None:  # noqa: ARG002
        return None

    def is_same(self, item_id: str, info: Json | None) -> bool | None:  # noqa: ARG002  a disk remembers no hash
        with self._trouble_by_name():
            if not stat.S_ISREG(self._path(item_id).stat().st_mode):
                raise FileNotFoundError(errno.ENOENT, "no such file in the drive", item_id)
        return None

    def children(self, folder_id: str) -> Iterator[DriveItem]:
        with os.scandir(self._path(folder_id)) as entries:
            for entry in entries:
                kind = Kind.FOLDER if entry.is_dir(follow_symlinks=False) else Kind.FILE
                size = entry.stat(follow_symlinks=False).st_size if kind == Kind.FILE else None
                yield DriveItem(f"{folder_id}/{entry.name}", entry.name, kind, size)

    def _child_id(self, parent_id: str, name: str) -> str:
        made = f"{parent_id}/{self._mapped(name)}"
        if len(made.encode()) > MAX_ID_BYTES:
            raise DrivePathTooLong(f"the path in the drive would have more than {MAX_ID_BYTES} bytes")
        return made

    def _mapped(self, name: str) -> str:
        """Return the name that this file system can take: shortened, with a hash, where it allows less than 255 bytes."""
        limit = os.pathconf(self._root, "PC_NAME_MAX")
        if len(name.encode()) <= limit:
            return name
        suffix = PurePosixPath(name).suffix if len(PurePosixPath(name).suffix) < 16 else ""
        tail = f"~{hashlib.sha256(name.encode()).hexdigest()[:8]}{suffix}"
        return name.encode()[: limit - len(tail.encode())].decode(errors="ignore") + tail

    def _path(self, item_id: str) -> Path:
        parts = item_id.split("/")
        if any(part in {"", ".", ".."} for part in parts) or parts[0].startswith("."):
            raise FileNotFoundError(errno.ENOENT, "not an item's id", item_id)
        return self._root.joinpath(*parts)

    def _draft(self, session: Json) -> Path:
        return self._root / DRAFTS / str(session["draft"])

    def _open_draft(self, session: Json, *, make: bool = False) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT if make else 0)
        return os.open(self._draft(session), flags, 0o666)

    @contextmanager
    def _trouble_by_name(self) -> Iterator[None]:
        """Tell a drive that is not there, or that is full, from an attempt that failed."""
        if not (self._root / DRAFTS).is_dir():
            log.error("the drive is not at %s: is it mounted on this machine?", self._root)
            raise DriveUnavailable("the drive is not mounted on the worker's machine", _WAIT)
        try:
            yield
        except OSError as error:
            if error.errno in _LATER:
                raise DriveUnavailable(f"the drive {_LATER[error.errno]}", _WAIT) from error
            raise


def _seal(draft: Path) -> None:
    """Take away the names by which an earlier attempt, should it wake up, could still place the bytes."""
    draft.replace(draft.with_suffix(".placed"))
    draft.with_suffix(".placing").unlink(missing_ok=True)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _take_back(path: Path, ours: Path, previous: Path) -> None:
    if not _is_same(ours, path):
        return  # not placed, or somebody else's by now
    if previous.exists():
        previous.replace(path)
    else:
        path.unlink()
    flush_folder(path.parent)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _holds(path: Path, delivery: Delivery) -> bool:
    """True if the file at this place has the delivery's bytes already."""
    if not _is_file(path) or path.stat().st_size != delivery.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == delivery.sha256
