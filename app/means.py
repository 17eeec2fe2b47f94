"""What attempts of a process work with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from app.drive_settings import FILESYSTEM
from app.drives.registry import Drives
from app.inbox import Inbox
from app.models import Json, Upload
from app.staging import Staging
from app.vault import Vault


@dataclass(frozen=True)
class Means:
    """What an attempt works with, and its limits."""

    drives: Drives
    vault: Vault
    staging: Staging
    inbox: Inbox
    lease: timedelta
    slice: timedelta
    first_delay: timedelta
    max_attempts: int
    is_shutting_down: Callable[[], bool]
    # Of an attempt's heart: a long one has things to note on its way.
    at_each_beat: Callable[[], None] = lambda: None

    def seal(self, held: Upload, drive_session: Json | None) -> Json | None:
        """Seal a session that may hold a credential. Those of the one drive that every release knows are open to all."""
        return drive_session if held.drive == FILESYSTEM else self.vault.seal(drive_session)
