"""Notes what this process has asked of drives: Microsoft's limits are for all processes together, so somebody must add up."""

import logging
import os
import socket

from sqlalchemy.exc import SQLAlchemyError

from app import pauses
from app.database import session_scope
from app.drives.registry import Drives

log = logging.getLogger(__name__)


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
