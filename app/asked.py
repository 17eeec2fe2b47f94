"""What a process that asks drives owes to all others: it keeps to a pause, tells one that it hears of, notes what it asked.

Microsoft's limits are for all processes together, so somebody must add up.
"""

import logging
import os
import socket
import threading

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import pauses
from app.database import session_scope
from app.drives.registry import Drives
from app.errors import DriveFull, DriveHalted, Unfit

# How long it may stay unwritten: a transaction for each small file would be a tenth of its cost.
NOTE_SECONDS = 10

log = logging.getLogger(__name__)

_waiting: list[threading.Timer] = []


def heed(session: Session, drive: str, *, is_look: bool = False) -> None:
    """Raise DrivePauses if nobody is to ask the drive; whoever only looks may ask one that is full."""
    pause = pauses.found(session, drive)
    if pause is not None and not (is_look and pause.code == DriveFull.code):
        raise pause


def tell(drive: str, error: DriveHalted) -> None:
    """Let the others hear what a drive said to this process. Never fails: they will hear it themselves."""
    try:
        with session_scope() as session:
            pauses.halt(session, drive, error.code, str(error), error.delay)
    except SQLAlchemyError as failure:
        log.warning("drive %s: its pause could not be told to the others: %s", drive, failure)


# What was asked


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
    except (SQLAlchemyError, Unfit) as error:  # `haulage drive test` needs no database, and may have none
        log.warning("what was asked of the drives could not be noted: %s", error)
