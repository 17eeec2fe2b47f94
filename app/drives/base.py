"""What the transfer asks of a drive, step by step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.models import Json, Kind


def _is_not(_item_id: str) -> bool:
    return False


@dataclass(frozen=True)
class Delivery:
    """What is to be put where. `size` in bytes; the hashes are of the bytes that were received.

    `sha256` in hexadecimal, `quick_xor` in base64, as Microsoft writes it.
    """

    upload_id: UUID
    parent_id: str
    name: str
    size: int
    sha256: str
    quick_xor: str
    replace: bool = False
    replaces: str | None = None  # the drive's id of the item that the catalogue has there
    queued_at: datetime | None = None  # nothing older can be this delivery
    is_catalogued: Callable[[str], bool] = field(
        default=_is_not, compare=False, repr=False
    )  # by the drive's id


@dataclass(frozen=True)
class DriveItem:
    """An item as the drive tells of it; `info` is whatever else it told."""

    id: str
    name: str
    kind: Kind
    size: int | None = None
    info: Json | None = None


class Drive(Protocol):
    """A place where items live.

    A transfer's state in the drive is a session: plain JSON, saved by the caller before the first byte goes out, with
    which another process on another machine can go on. One that says nothing (`{}`) is not saved: who has none begins as
    well, and aborts that one. Every step may be repeated. All steps may raise
    DriveUnavailable (nothing failed, later) or any other error (this attempt failed).
    """

    name: str  # by which settings, records and figures know it
    chunk_bytes: int  # how much to `put` at a time, at most
    finish_brings_last: bool  # the last chunk makes the file visible, so that `finish` sends it

    def owns(self, corp_index: int, item_id: str) -> bool:
        """True if this can be the id of an item of that corporation."""

    def make_root(self, corp_index: int) -> DriveItem:
        """Make a corporation's root folder, or return the one that is there."""

    def make_folder(self, parent_id: str, name: str) -> DriveItem:
        """Make a folder, or return the one that is there. Raises NotAFolder if a file has that name."""

    def remove_empty_folder(self, folder_id: str) -> None:
        """Remove a folder that was made for nothing; one that is not empty, or not there, stays as it is."""

    def begin(self, delivery: Delivery, previous: Json | None = None) -> tuple[Json, int]:
        """Open a session; return it and how many bytes the drive holds already: none, or all of a file that is there.

        `previous` is a session that could not be gone on with. Nothing new is visible in the drive yet.
        """

    def held(self, session: Json, delivery: Delivery) -> int | None:
        """Return how many bytes, from the first on, the drive safely holds.

        None if it knows no such session any more, or if the session was for another name.
        """

    def chunk_of(self, session: Json) -> int:
        """Return how much to `put` at a time just now, in bytes, from one multiple of it to the next."""

    def put(self, session: Json, offset: int, data: bytes) -> int:
        """Hand over bytes at their position; return the position to go on from. May note in the session what it learned."""

    def secure(self, session: Json, offset: int) -> Json:
        """Make everything before `offset` durable; return the session to save with it."""

    def finish(
        self, delivery: Delivery, session: Json, last: bytes, may_place: Callable[[], None]
    ) -> DriveItem:
        """Verify the bytes against the delivery and make the file visible; an answer lost before is found out.

        `last` are the bytes that were not `put`, if this drive's `finish_brings_last`. `may_place` is called right before
        the step that makes the file visible, and raises if this attempt must not take it. Raises NotVerified if the drive
        holds other bytes, which `abort` then takes back, and NameTaken if something else is in that place.
        """

    def release(self, session: Json) -> None:
        """Forget what a session kept until its upload was stored."""

    def abort(self, session: Json, placed: Delivery | None) -> None:
        """End a session for good: remove its bytes and, if it may have placed a file, that one; bring back the one before."""

    def read(self, item_id: str, first: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a file's bytes from the byte `first` on, `length` of them or all that follow.

        Raises FileNotFoundError if the drive has no such file.
        """

    def size_now(self, item_id: str) -> int | None:
        """Return how many bytes a file has, where people may change it and the drive vouches for what they leave.

        None where only the catalogue knows how long it should be: what is shorter there was cut. Raises FileNotFoundError
        if the drive has no such file.
        """

    def is_same(self, item_id: str, info: Json | None) -> bool | None:
        """Say whether a file is still as it was when the drive told `info` of it; None if only its bytes can tell.

        Raises FileNotFoundError if the drive has no such file.
        """

    def children(self, folder_id: str) -> Iterator[DriveItem]:
        """Yield what a folder holds, in no certain order."""
