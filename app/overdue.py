"""Finds what time has overtaken: lost attempts, worn-out uploads, uploads that nobody was told of, what is left over."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnExpressionArgument, Select, func, or_, select, update
from sqlalchemy.orm import Session

from app import pauses, uploads
from app.models import UNFINISHED, State, Upload
from app.uploads import NO_RESERVATION

WAKE_AGAIN = timedelta(seconds=5)  # when the queue is empty, whatever was sent is gone
WAKE_ANYWAY = timedelta(minutes=10)
CLEANUP_LEASE = timedelta(minutes=10)


def take_back_lost(session: Session, max_attempts: int, limit: int = 1000) -> Sequence[Upload]:
    """Take uploads from attempts that died without a word; return those that ended with it."""
    lost = session.scalars(
        _free(Upload.state == State.TRANSFERRING, Upload.due_at < func.now()).limit(limit)
    ).all()
    for upload in lost:
        uploads.note(session, upload, "worker_lost")
        if upload.cancel_requested:
            uploads.end(session, upload, State.CANCELLED, *uploads.CANCELLED)
        elif upload.attempts >= max_attempts:
            message = f"{upload.attempts} attempts, the last worker was lost"
            uploads.end(session, upload, State.FAILED, "worn_out", message)
        else:
            upload.state, upload.token, upload.woken_at = State.QUEUED, None, None
            upload.sent = upload.sent_at = None
            upload.reason, upload.message = "worker_lost", "the worker ended without a word"
    return [upload for upload in lost if upload.state != State.QUEUED]


def give_up(session: Session, limit: int = 1000) -> Sequence[Upload]:
    """End the uploads that are queued beyond their deadline, or that nobody will take; return them."""
    late = session.scalars(
        _free(Upload.state == State.QUEUED, Upload.deadline_at < func.now()).limit(limit)
    ).all()
    for upload in late:
        last = f"; the last reason to wait: {upload.message}" if upload.message else ""
        message = f"not stored within its deadline{last}"
        uploads.end(session, upload, State.FAILED, "deadline_exceeded", message)
    # Asked for while an attempt held it, which then ended in another way: nobody claims it any more.
    unwanted = session.scalars(
        _free(Upload.state == State.QUEUED, Upload.cancel_requested).limit(limit)
    ).all()
    for upload in unwanted:
        uploads.end(session, upload, State.CANCELLED, *uploads.CANCELLED)
    return [*late, *unwanted]


def pick(session: Session, waiting: int, window: int) -> Sequence[Upload]:
    """Choose what to wake, oldest first, and note that it was woken; `waiting` is the length of the queue.

    A queue that is not empty holds wake-ups for whatever was woken before, so only what never was is added to it.
    """
    overdue_wake_up = Upload.woken_at < func.now() - WAKE_ANYWAY
    if waiting == 0:
        overdue_wake_up = Upload.woken_at < func.now() - WAKE_AGAIN
    due = _free(
        Upload.state.in_(UNFINISHED),
        Upload.due_at <= func.now(),
        pauses.is_over(),
        or_(Upload.woken_at.is_(None), overdue_wake_up),
    )
    chosen = session.scalars(due.order_by(Upload.due_at).limit(max(window - waiting, 0))).all()
    mark_woken(session, [upload.id for upload in chosen])
    return chosen


def mark_woken(session: Session, upload_ids: Sequence[UUID]) -> None:
    _mark(session, upload_ids, func.now())


def mark_not_woken(session: Session, upload_ids: Sequence[UUID]) -> None:
    _mark(session, upload_ids, None)


def _mark(session: Session, upload_ids: Sequence[UUID], woken_at: Any) -> None:
    # What an attempt has set back meanwhile is not due: it stays unwoken until it is.
    waiting = (Upload.id.in_(upload_ids), Upload.state.in_(UNFINISHED), Upload.due_at <= func.now())
    session.execute(
        update(Upload).where(*waiting).values(woken_at=woken_at).execution_options(synchronize_session=False)
    )


def _free(*which: ColumnExpressionArgument[bool]) -> Select[Upload]:
    """Lock rows for this transaction, passing over those that somebody else is at."""
    return select(Upload).where(*which).with_for_update(key_share=True, skip_locked=True)


# What is left over


def claim_cleanups(session: Session, limit: int) -> Sequence[Upload]:
    """Take finished uploads whose traces in drive and staging are due to go, for ten minutes."""
    due = session.scalars(_free(Upload.cleanup_due_at < func.now(), pauses.is_over()).limit(limit)).all()
    for upload in due:
        upload.token = upload.drive_token = uuid4()
        upload.cleanup_due_at = func.now() + CLEANUP_LEASE
    session.flush()
    return due


def keep_cleanup(session: Session, claimed: Upload) -> bool:
    """Renew a clean-up's ten minutes; return False if another one has taken over, or somebody has retried the upload."""
    return _write(session, claimed, cleanup_due_at=func.now() + CLEANUP_LEASE)


def cleaned(session: Session, done: Sequence[Upload]) -> None:
    """Note that nothing is left of these uploads but their rows, and for failed ones the bytes that a retry needs."""
    for upload in done:
        values: dict[str, Any] = {
            "cleanup_due_at": None,
            "token": None,
            "drive_session": None,
            **NO_RESERVATION,
        }
        if upload.state != State.FAILED:
            values["staged_id"] = None
        else:
            values["transferred"] = 0
        _write(session, upload, **values)


def put_off_cleanups(session: Session, undone: Sequence[Upload]) -> None:
    """Let go of clean-ups that did not work; they come again when their ten minutes are over."""
    for upload in undone:
        _write(session, upload, token=None)


def _write(session: Session, claimed: Upload, **values: Any) -> bool:
    """Write to an upload while its clean-up is still ours; return whether it was."""
    ours = (Upload.id == claimed.id, Upload.token == claimed.token, Upload.state == claimed.state)
    written = update(Upload).where(*ours).values(**values).returning(Upload.id)
    return session.scalar(written.execution_options(synchronize_session=False)) is not None


def forget_staged(session: Session, kept_for: timedelta, limit: int = 1000) -> Sequence[UUID]:
    """Let go of the bytes of uploads that failed longer ago than `kept_for`; return their ids in staging."""
    old = session.scalars(
        _free(
            Upload.state == State.FAILED,
            Upload.staged_id.is_not(None),
            Upload.cleanup_due_at.is_(None),
            Upload.finished_at < func.now() - kept_for,
        ).limit(limit)
    ).all()
    gone = [upload.staged_id for upload in old if upload.staged_id is not None]
    for upload in old:
        upload.staged_id = None
    return gone


def unknown_staged(session: Session, staged_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the ids that no upload refers to."""
    known = session.scalars(select(Upload.staged_id).where(Upload.staged_id.in_(staged_ids))).all()
    return set(staged_ids) - set(known)
