"""What the tasks of this process work with, made from its settings when first asked for."""

from datetime import timedelta
from functools import cache

from app.attempt import Means
from app.drives.filesystem import FilesystemDrive
from app.inbox import Inbox
from app.settings import settings
from app.staging import Staging
from tasks import shutdown


@cache
def means() -> Means:
    chosen = settings()
    return Means(
        drive=FilesystemDrive(chosen.drive_dir),
        staging=Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes),
        inbox=Inbox(chosen.inbox_dir),
        lease=timedelta(seconds=chosen.lease_seconds),
        slice=timedelta(seconds=chosen.slice_seconds),
        first_delay=timedelta(seconds=chosen.retry_seconds),
        max_attempts=chosen.max_attempts,
        is_shutting_down=shutdown.is_announced,
    )
