"""Tells the workers of new uploads from a thread of its own: no request ever waits for Redis, or fails because of it."""

import logging
import threading
from uuid import UUID

from app import wake

log = logging.getLogger(__name__)

MOST_WAITING = 10_000  # beyond it the sweep does the waking
PATIENCE_SECONDS = 2


class Waker:
    """Wakes uploads in the order they come, all that wait at once."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._waiting: list[UUID] = []
        self._over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, upload_id: UUID) -> None:
        """Have an upload woken soon. Returns at once; what does not fit is left to the sweep."""
        with self._changed:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(upload_id)
                self._changed.notify()

    def stop(self) -> None:
        """Let it wake what waits, and wait for that a short while."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        while batch := self._next():
            try:
                wake.new_uploads(batch, self._window)
            except Exception:  # the thread must outlive whatever it meets; PostgreSQL may be away
                log.warning("%d upload(s) were not woken; the sweep will do it", len(batch), exc_info=True)

    def _next(self) -> list[UUID]:
        """Wait for uploads and take them all; nothing means that it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over)
            batch, self._waiting = self._waiting, []
            return batch
