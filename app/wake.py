"""Tells the workers of uploads that may be ready, as far as Redis can be reached, and notes that they were told."""

import logging
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app import overdue, queue
from app.database import session_scope

log = logging.getLogger(__name__)


def new_uploads(upload_ids: Sequence[UUID], window: int) -> None:
    """Wake uploads that have just been committed, as far as the queue has room for them.

    Never fails: they are safe already, and what is not woken here is woken by the sweep.
    """
    if not upload_ids:
        return
    try:
        woken = upload_ids[: max(window - queue.waiting(), 0)]
        queue.wake(woken)
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); the sweep will wake %d upload(s)", error, len(upload_ids))
        return
    _mark(woken)


def _mark(upload_ids: Sequence[UUID]) -> None:
    """Note that these were woken. If it cannot be noted they are woken twice, which harms nobody."""
    try:
        with session_scope() as session:
            overdue.mark_woken(session, upload_ids)
    except SQLAlchemyError as error:
        log.warning("it could not be noted that %d upload(s) were woken: %s", len(upload_ids), error)


def due_uploads(window: int) -> int:
    """Wake what is due and has not been woken, a bounded number at a time; return how many. Never fails for Redis."""
    try:
        waiting = queue.waiting()
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); nothing was woken", error)
        return 0
    with session_scope() as session:
        chosen = overdue.pick(session, waiting, window)
    try:
        queue.wake((one.id for one in chosen if one.drive_session is not None), queue.Queue.RESUME)
        queue.wake(one.id for one in chosen if one.drive_session is None)
    except queue.UNREACHABLE as error:
        log.warning("Redis is out of reach (%s); the next sweep wakes %d upload(s) again", error, len(chosen))
        with session_scope() as session:
            overdue.mark_not_woken(session, [one.id for one in chosen])
    return len(chosen)


def going_on(upload_id: UUID) -> None:
    """Wake a transfer for its next slice. Never fails for Redis."""
    try:
        queue.wake([upload_id], queue.Queue.RESUME)
    except queue.UNREACHABLE as error:
        log.warning("upload %s: Redis is out of reach (%s); the sweep will wake it", upload_id, error)
        return
    _mark([upload_id])
