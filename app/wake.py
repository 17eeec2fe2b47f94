"""Tells the workers of uploads that may be ready, as far as Redis can be reached, and notes that they were told."""

import logging
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app import overdue, queue, tallies
from app.database import session_scope

log = logging.getLogger(__name__)


def new_uploads(upload_ids: Sequence[UUID], window: int) -> None:
    """Wake uploads that have just been committed, as far as the queue has room for them.

    Never fails: they are safe already, and what is not woken here is woken by the sweep.
    """
    try:
        room = max(window - queue.waiting(), 0) if upload_ids else 0
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); the sweep will wake %d upload(s)", error, len(upload_ids))
        return
    _wake(upload_ids[:room], queue.Queue.UPLOADS)


def going_on(upload_id: UUID) -> None:
    """Wake a transfer for its next slice. Never fails."""
    _wake([upload_id], queue.Queue.RESUME)


def _wake(upload_ids: Sequence[UUID], to: queue.Queue) -> None:
    if not upload_ids:
        return
    try:
        # Before it is sent: a worker that is quick would find the row locked by the note, and pass over it.
        with session_scope() as session:
            overdue.mark_woken(session, upload_ids)
        queue.wake(upload_ids, to)
        _count(len(upload_ids))
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); the sweep will wake %d upload(s)", error, len(upload_ids))
        _take_back(upload_ids)
    except SQLAlchemyError as error:
        log.warning(
            "PostgreSQL is out of reach (%s); the sweep will wake %d upload(s)", error, len(upload_ids)
        )


def _count(number: int) -> None:
    """Count what was sent, once it is: what Redis did not take is none. Never fails."""
    try:
        with session_scope() as session:
            tallies.add_wake_ups(session, number)
    except SQLAlchemyError as error:  # nobody is woken twice for a figure
        log.warning("%d wake-up(s) were sent and could not be counted: %s", number, error)


def _take_back(upload_ids: Sequence[UUID]) -> None:
    try:
        with session_scope() as session:
            overdue.mark_not_woken(session, upload_ids)
    except SQLAlchemyError as error:  # then they wait for ten minutes, or for an empty queue
        log.warning("it could not be noted that %d upload(s) were not woken: %s", len(upload_ids), error)


def due_uploads(window: int) -> None:
    """Wake what is due and has not been woken, a bounded number at a time. Never fails for Redis."""
    try:
        waiting = queue.waiting() + queue.waiting(queue.Queue.RESUME)
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); nothing was woken", error)
        return
    with session_scope() as session:
        chosen = overdue.pick(session, waiting, window)
    if not chosen:
        return
    try:
        queue.wake((one.id for one in chosen if one.drive_session is not None), queue.Queue.RESUME)
        queue.wake(one.id for one in chosen if one.drive_session is None)
        _count(len(chosen))
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); the next sweep wakes %d upload(s) again", error, len(chosen))
        _take_back([one.id for one in chosen])
