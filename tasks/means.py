"""What the tasks of this process work with, made from its settings when first asked for."""

from datetime import timedelta
from functools import cache, partial

from app import asked
from app.drive_settings import drive_settings, session_keys
from app.drives.registry import Drives
from app.inbox import Inbox
from app.means import Means
from app.settings import settings
from app.staging import Staging
from app.vault import Vault
from tasks import shutdown


@cache
def means() -> Means:
    chosen, drives = settings(), Drives(drive_settings())
    return Means(
        drives=drives,
        vault=Vault(session_keys()),
        staging=Staging(chosen.staging_dir, chosen.max_upload_bytes, chosen.staging_reserve_bytes),
        inbox=Inbox(chosen.inbox_dir),
        lease=timedelta(seconds=chosen.lease_seconds),
        slice=timedelta(seconds=chosen.slice_seconds),
        first_delay=timedelta(seconds=chosen.retry_seconds),
        max_attempts=chosen.max_attempts,
        is_shutting_down=shutdown.is_announced,
        at_each_beat=partial(asked.note, drives),
    )
