"""What the routes of this process work with, and the threads they work in: nothing that waits runs in the event loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, TypeVar, TypeVarTuple, cast

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from app import asked, tokens
from app.drive_settings import drive_settings
from app.drives.base import Drive
from app.drives.registry import Drives
from app.errors import DriveHalted
from app.settings import Settings
from app.staging import Staging
from app.web.waker import Waker

DISK_THREADS = 16
DRIVE_THREADS = 16  # for each drive
BELIEVED_SECONDS = 600  # how long an operator's token is believed while PostgreSQL cannot be asked

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Operators:
    """The operators' tokens that were good, or believed, a short while ago, as their hashes."""

    def __init__(self) -> None:
        self._good_until: dict[bytes, float] = {}

    def note(self, token: str) -> None:
        self._good_until[tokens.digest(token)] = monotonic() + BELIEVED_SECONDS

    def knows(self, token: str) -> bool:
        return self._good_until.get(tokens.digest(token), 0) > monotonic()


@dataclass(frozen=True)
class Means:
    """Disk, every drive, and database have threads of their own: one that hangs does not take the others' away."""

    staging: Staging
    drives: Drives
    waker: Waker
    operators: Operators
    disk_threads: CapacityLimiter
    drive_threads: Mapping[str, CapacityLimiter]  # by the drive's name
    database_threads: CapacityLimiter  # as many as the pool has connections

    async def on_disk(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await to_thread.run_sync(work, *arguments, limiter=self.disk_threads)

    async def on_drive(
        self, drive: Drive, work: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """Do work that asks a drive; the other processes hear what it refuses to all, and what was asked is counted."""
        try:
            return await to_thread.run_sync(work, *arguments, limiter=self.drive_threads[drive.name])
        except DriveHalted as error:
            await self.in_database(asked.tell, drive.name, error)
            raise
        finally:
            asked.note_soon(self.drives)

    async def in_database(self, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await to_thread.run_sync(work, *arguments, limiter=self.database_threads)


def make(chosen: Settings) -> Means:
    drives = Drives(drive_settings())
    return Means(
        staging=Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes),
        drives=drives,
        waker=Waker(chosen.wake_window),
        operators=Operators(),
        disk_threads=CapacityLimiter(DISK_THREADS),
        drive_threads={name: CapacityLimiter(DRIVE_THREADS) for name in drives.settings},
        database_threads=CapacityLimiter(chosen.web_pool_size),
    )


def _of(request: Request) -> Means:
    return cast("Means", request.state.means)


Given = Annotated[Means, Depends(_of)]
