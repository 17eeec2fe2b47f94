"""Keeps an attempt's claim alive while it works, and knows when it must stop."""

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import pauses, uploads
from app.database import session_scope
from app.errors import Cancelled, DrivePauses, LostClaim, ShuttingDown, SliceEnded
from app.means import Means
from app.models import Json, Upload
from app.start import Start

log = logging.getLogger(__name__)

TELL_SECONDS = 1  # how often it is written down, for people, how far a transfer has come
# How old PostgreSQL's answer may be to whether the drive pauses: a disk takes many chunks in a second.
LOOK_SECONDS = 0.05
# How old PostgreSQL's answer may be to whether the claim is ours: no lease is nearly as short, and most files are.
SURE_SECONDS = 0.5


class Watch:
    """A heartbeat for the length of a `with` block, on a connection of its own.

    Some single steps of a drive outlast any lease, so that checkpoints alone would not do.
    """

    def __init__(self, begun: Start, means: Means) -> None:
        self._held, self._lease, self._seal = begun.held, means.lease, partial(means.seal, begun.held)
        self._slice_ends = monotonic() + means.slice.total_seconds()
        self._is_shutting_down, self._at_each_beat = means.is_shutting_down, means.at_each_beat
        self._over = threading.Event()
        self._lost = self._cancelled = False
        self._told_at = self._looked_at = monotonic()
        self._sure_at = begun.asked_at
        # In a copy of this context, so that what it logs is known to be about this upload.
        beat = partial(copy_context().run, self._beat)
        self._thread = threading.Thread(target=beat, name=f"heartbeat-{self._held.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._lease.total_seconds() / 3):
            try:
                self._ask(uploads.extend)
                self._at_each_beat()
            except LostClaim:
                return
            except Cancelled:  # its holder ends it; a request that is on its way must not outlive the claim
                continue
            except Exception:  # the outermost frame of a thread; the next beat tries again
                log.warning("upload %s: a heartbeat failed", self._held.id, exc_info=True)

    def fence(self) -> None:
        """Return with at least half a lease left, or raise LostClaim, Cancelled or DrivePauses.

        PostgreSQL answers, or has just answered: it is not asked again before the one request that a small file is.
        """
        self._stop_if_over()
        if monotonic() - self._sure_at < SURE_SECONDS:
            return
        pause = self._ask(uploads.ensure)
        if pause is not None:
            raise pause

    def _ask(self, question: Callable[[Session, Upload, timedelta], bool]) -> DrivePauses | None:
        asked_at = monotonic()
        try:
            with session_scope() as session:
                self._hear(is_unwanted=question(session, self._held, self._lease))
                pause = pauses.found(session, self._held.drive)
        except LostClaim:
            self._lost = True
            raise
        self._stop_if_over()
        self._sure_at = asked_at
        return pause

    def _hear(self, *, is_unwanted: bool) -> None:
        """Keep a wish to cancel: two threads ask, and the older answer may come last."""
        self._cancelled = self._cancelled or is_unwanted

    def proceed(self) -> None:
        """Return, or raise what ends this attempt."""
        self.stay()
        if monotonic() > self._slice_ends:
            raise SliceEnded("the transfer goes on in its next slice")
        self._respect_pause()

    def _respect_pause(self) -> None:
        """Raise DrivePauses if another process was told meanwhile that nobody is to ask the drive."""
        if monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = monotonic()
        try:
            with session_scope() as session:
                pause = pauses.found(session, self._held.drive)
        except SQLAlchemyError as error:  # the drive will tell it again
            log.warning("upload %s: whether its drive pauses could not be asked: %s", self._held.id, error)
            return
        if pause is not None:
            raise pause

    def stay(self) -> None:
        """The same for a step that cannot be taken up again in the middle: the end of a slice does not end it."""
        self._stop_if_over()
        if self._is_shutting_down():
            raise ShuttingDown("the worker is shutting down")

    def _stop_if_over(self) -> None:
        if self._lost:
            raise LostClaim(f"upload {self._held.id} is in other hands")
        if self._cancelled:
            raise Cancelled("cancelled on request")

    def tell(self, sent: int) -> None:
        """Write down how far the transfer has come, for people, and hear of their wish to cancel it.

        What is short is over before that is worth a write.
        """
        if monotonic() - self._told_at < TELL_SECONDS:
            return
        self._told_at = monotonic()
        try:
            with session_scope() as session:
                self._hear(is_unwanted=uploads.tell(session, self._held, sent))
        except SQLAlchemyError as error:  # nobody's upload fails for a figure
            log.warning("upload %s: how far it has come could not be written down: %s", self._held.id, error)

    def checkpoint(self, session: Json | None, transferred: int) -> None:
        says_nothing = not session and self._held.drive_session is None
        # First: should the commit fail, the end of the attempt saves what would otherwise be lost.
        self._held.drive_session = session
        if says_nothing:
            return
        with session_scope() as transaction:
            uploads.checkpoint(transaction, self._held, self._seal(session), transferred)
