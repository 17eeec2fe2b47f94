"""Notes what this process has asked of drives: Microsoft's limits are for all processes together, so somebody must add up."""

import logging
import os
import socket
import threading

from sqlalchemy.exc import SQLAlchemyError

from app import pauses
from app.database import session_scope
from app.drives.registry import Drives

NOTE_SECONDS = (
    10  # how long it may stay unwritten: a transaction for each small file would be a tenth of its cost
)

log = logging.getLogger(__name__)

_waiting: list[threading.Timer] = []


def note_soon(drives: Drives) -> None:
    """See to it that what was asked is noted before long, whether or not this process does anything more."""
    if not _waiting:
        timer = threading.Timer(NOTE_SECONDS, _note_waiting, [drives])
        timer.daemon = True
        _waiting.append(timer)
        timer.start()


def _note_waiting(drives: Drives) -> None:
    _waiting.clear()  # first: what is asked meanwhile gets a timer of its own
    note(drives)


def note_at_end() -> None:
    """Note what has waited; this process ends."""
    for timer in _waiting:
        timer.cancel()
        note(*timer.args)


def note(drives: Drives) -> None:
    """Add what was asked since the last time to its minute's sum. Never fails: nobody's upload waits for a figure."""
    minutes = drives.requests()
    if not minutes:
        return
    try:
        with session_scope() as session:
            pauses.note_requests(session, f"{os.getpid()}@{socket.gethostname()}", minutes)
    except SQLAlchemyError as error:
        log.warning("what was asked of the drives could not be noted: %s", error)
