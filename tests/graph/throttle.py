"""Resource units: what an application may spend in a minute and in a day.

Source: "Avoid getting throttled or blocked in SharePoint Online": costs of Graph requests, limits of an application in
a tenant of up to 1,000 licences, throttled requests count as well, RateLimit headers from 80 % of the minute on.
"""

import math
from dataclasses import dataclass, field

from tests.graph.clock import Clock
from tests.graph.problems import GraphError

SINGLE, MANY = (
    1,
    2,
)  # reading one item, delta with a token, a download; listing, creating, changing, deleting, uploading
PER_MINUTE, PER_DAY = 1_250, 1_200_000
SHOWN_FROM = 80  # per cent of the minute


@dataclass
class Window:
    """What was spent since the window began."""

    began: float
    spent: int = 0


@dataclass
class Throttle:
    """Limits of nought mean: none. A throttled request is counted, too."""

    clock: Clock
    per_minute: int = PER_MINUTE
    per_day: int = PER_DAY
    minute: float = 60.0  # its length in seconds; shorter in a test that waits for its end
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict)

    def spend(self, app: str, cost: int) -> dict[str, str]:
        """Count a request; return the headers to go with its answer, or raise 429."""
        left = self._spend((app, "day"), cost, self.per_day, 86_400.0)
        if left is not None and left[0] < 0:
            raise _throttled(left[1], {})
        left = self._spend((app, "minute"), cost, self.per_minute, self.minute)
        if left is None or left[0] * 100 > self.per_minute * (100 - SHOWN_FROM):
            return {}
        headers = {
            "RateLimit-Limit": str(self.per_minute),
            "RateLimit-Remaining": str(max(left[0], 0)),
            "RateLimit-Reset": str(left[1]),
        }
        if left[0] < 0:
            raise _throttled(left[1], headers)
        return headers

    def forget(self) -> None:
        self._windows.clear()

    def spent(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (app, kind), window in self._windows.items():
            found.setdefault(app, {})[kind] = window.spent
        return found

    def _spend(self, key: tuple[str, str], cost: int, limit: int, length: float) -> tuple[int, int] | None:
        """Return what is left and in how many whole seconds the window ends."""
        if not limit:
            return None
        now = self.clock.monotonic()
        window = self._windows.get(key)
        if window is None or window.began + length <= now:
            window = self._windows[key] = Window(now)
        window.spent += cost
        return limit - window.spent, max(1, math.ceil(window.began + length - now))


def _throttled(seconds: int, headers: dict[str, str]) -> GraphError:
    return GraphError(
        429,
        "activityLimitReached",
        "The request has been throttled",
        "throttledRequest",
        {"Retry-After": str(seconds), **headers},
    )
