"""The work: staged bytes into a drive, resumable, verified. Knows neither Celery nor PostgreSQL."""

from collections.abc import Callable
from io import BufferedReader
from time import monotonic
from typing import Protocol

from app.drives.base import Delivery, Drive
from app.errors import Postponed
from app.models import Json

CHECKPOINT_SECONDS = 5


class Watch(Protocol):
    """What a transfer tells of itself, and whom it asks whether to go on."""

    def proceed(self) -> None:
        """Return, or raise what ends this attempt: LostClaim, Cancelled, SliceEnded, ShuttingDown, DrivePauses."""

    def tell(self, sent: int) -> None:
        """Hear how many bytes were handed to the drive."""

    def checkpoint(self, session: Json, transferred: int) -> None:
        """Save how to go on from here."""


def send(
    drive: Drive, delivery: Delivery, source: Callable[[], BufferedReader], session: Json | None, watch: Watch
) -> tuple[Json, bytes]:
    """Bring the bytes of a delivery into the drive; return its session and what is left for `finish` to bring.

    `session` is what an earlier attempt saved, None for the first. `source` opens the staged bytes.
    """
    offset = None if session is None else drive.held(session, delivery)
    if session is None or offset is None:
        if session is not None:
            drive.abort(session, None)
        session, offset = drive.begin(delivery, session)
        watch.checkpoint(session, offset)
    with source() as file:
        file.seek(offset)
        return _pump(drive, delivery, session, file, watch)


def _pump(
    drive: Drive, delivery: Delivery, session: Json, file: BufferedReader, watch: Watch
) -> tuple[Json, bytes]:
    saved = offset = file.tell()
    saved_at = monotonic()
    try:
        while data := file.read(_up_to_next(drive.chunk_of(session), offset)):
            watch.proceed()
            if drive.finish_brings_last and file.tell() == delivery.size:
                return session, data
            offset = drive.put(session, offset, data)
            if offset != file.tell():
                file.seek(offset)  # the drive kept less than it was given
            watch.tell(offset)
            if monotonic() - saved_at > CHECKPOINT_SECONDS:
                session = drive.secure(session, offset)
                watch.checkpoint(session, offset)
                saved_at, saved = monotonic(), offset
    except Postponed:
        if offset > saved:
            watch.checkpoint(drive.secure(session, offset), offset)
        raise
    return session, b""


def _up_to_next(chunk: int, offset: int) -> int:
    return chunk - offset % chunk
