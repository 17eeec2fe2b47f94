"""The server's clocks: one that is trusted, and one that is shown and may be wrong."""

import time
from datetime import UTC, datetime
from email.utils import formatdate


class Clock:
    """Lifetimes are kept by a monotonic clock; what clients are shown may be off by as many seconds as a test likes."""

    def __init__(self) -> None:
        self.off_by = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def shown(self, in_seconds: float = 0.0) -> datetime:
        return datetime.fromtimestamp(time.time() + self.off_by + in_seconds, UTC)

    def stamp(self, in_seconds: float = 0.0) -> str:
        return stamp(self.shown(in_seconds))

    def http_date(self) -> str:
        return formatdate(self.shown().timestamp(), usegmt=True)


def stamp(moment: datetime) -> str:
    """Return a time as work and school accounts show it, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
