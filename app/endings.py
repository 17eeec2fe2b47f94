"""Writes down what ended an attempt that did not store its upload."""

import logging
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import database, pauses, uploads
from app.database import session_scope
from app.errors import (
    Cancelled,
    DriveHalted,
    HaulageError,
    Hopeless,
    LostClaim,
    Postponed,
    Refused,
    ShuttingDown,
)
from app.means import Means
from app.models import Upload

log = logging.getLogger(__name__)


class Outcome(Enum):
    FINISHED = auto()  # stored, failed or cancelled
    LATER = auto()  # queued again, or in other hands
    GOES_ON = auto()  # queued again, and ready at once


def write_down(held: Upload, means: Means, error: BaseException) -> Outcome:
    """Write what ended the attempt. If even that fails, the lease runs out and the sweep writes `worker_lost`."""
    try:
        with session_scope() as session:
            return _end(session, held, means, error)
    except LostClaim:
        return _found_out(held, error)
    except Exception:  # the outermost frame of an attempt
        log.exception("upload %s: the end of an attempt could not be written; it was: %r", held.id, error)
    return Outcome.LATER


def _found_out(held: Upload, error: BaseException) -> Outcome:
    """Say what became of an upload whose end could not be written: its claim is gone.

    It may have been this attempt that stored it, and only the answer to its commit was lost.
    """
    try:
        with session_scope() as session:
            if uploads.has_stored(session, held):
                log.info("upload %s: stored; the answer to its commit was lost: %s", held.id, error)
                return Outcome.FINISHED
    except SQLAlchemyError:
        log.warning("upload %s: what became of it could not be asked", held.id, exc_info=True)
        return Outcome.LATER
    log.warning("upload %s: finished, or in other hands, after: %s", held.id, error)
    note_fenced(held)
    return Outcome.LATER


def _end(session: Session, held: Upload, means: Means, error: BaseException) -> Outcome:
    code, message = _told(error)
    kept = _kept(held, means)
    if isinstance(error, Postponed):
        log.info("upload %s: later: %s: %s", held.id, code, message)
        uploads.give_back(session, held, code, message, error.delay, **kept)
        if isinstance(error, DriveHalted):
            pauses.halt(session, held.drive, code, message, error.delay)
        return Outcome.LATER if error.delay else Outcome.GOES_ON
    if database.is_passing(error):
        log.warning("upload %s: PostgreSQL: %s", held.id, error)
        busy = "PostgreSQL was away, or busy with others"
        uploads.give_back(session, held, "database_busy", busy, uploads.RIVAL_DELAY, **kept)
        return Outcome.LATER
    if not isinstance(error, Exception):
        uploads.give_back(
            session, held, ShuttingDown.code, "the worker was told to end", timedelta(0), **kept
        )
        return Outcome.GOES_ON
    if not isinstance(error, Hopeless | Refused) and held.attempts < means.max_attempts:
        log.warning("upload %s: attempt %d failed: %s", held.id, held.attempts, message, exc_info=error)
        uploads.set_back(session, held, code, message, means.first_delay, **kept)
        return Outcome.LATER
    if isinstance(error, Cancelled):
        uploads.end_cancelled(session, held)
    elif isinstance(error, Hopeless | Refused):
        log.warning("upload %s: failed: %s: %s", held.id, code, message)
        uploads.fail(session, held, code, message)
    else:
        log.error("upload %s: failed in all its attempts: %s", held.id, message, exc_info=error)
        uploads.fail(session, held, "worn_out", f"{held.attempts} attempts failed, the last one: {message}")
    return Outcome.FINISHED


def _kept(held: Upload, means: Means) -> dict[str, Any]:
    """Return what the drive noted in the session, also since the last checkpoint: that something was cut, say."""
    return {"drive_session": means.seal(held, held.drive_session)} if held.drive_session else {}


def _told(error: BaseException) -> tuple[str, str]:
    """Return a code and a message that may be shown: a foreign error's own text may hold more than people should see."""
    if isinstance(error, HaulageError):
        return error.code, str(error)
    if isinstance(error, OSError) and error.strerror:
        return "input_output_error", error.strerror
    return "unexpected_error", type(error).__name__


def note_fenced(held: Upload) -> None:
    """Put on record that a write was refused; the record is all that it matters to."""
    try:
        with session_scope() as session:
            uploads.note(session, held, "fenced")
    except SQLAlchemyError:
        log.warning("upload %s: that it was fenced could not be noted", held.id, exc_info=True)
