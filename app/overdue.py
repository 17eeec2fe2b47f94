"""Finds what time has overtaken: lost attempts, worn-out uploads, uploads that nobody was told of, what is left over."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from app import uploads
from app.models import UNFINISHED, State, Upload
from app.uploads import NO_RESERVATION

WAKE_AGAIN = timedelta(seconds=5)  # when the queue is empty, whatever was sent is gone
WAKE_ANYWAY = timedelta(minutes=10)
CLEANUP_LEASE = timedelta(minutes=10)


def take_back_lost(session: Session, max_attempts: int, limit: int = 1000) -> Sequence[Upload]:
    """Take uploads from attempts that died without a word; return those that failed with it, worn out."""
    lost = session.scalars(
        _locked(Upload.state == State.TRANSFERRING, Upload.due_at < func.now()).limit(limit)
    ).all()
    for upload in lost:
        uploads.note(session, upload, "worker_lost")
        upload.token = None  # after the note, which flushes: a transferring upload has its token
        if upload.cancel_requested:
            _end(session, upload, State.CANCELLED, "cancelled", "cancelled on request")
        elif upload.attempts >= max_attempts:
            _end(
                session,
                upload,
                State.FAILED,
                "worn_out",
                f"{upload.attempts} attempts, the last worker was lost",
            )
        else:
            upload.state, upload.woken_at = State.QUEUED, None
            upload.reason, upload.message = "worker_lost", "the worker ended without a word"
    return [upload for upload in lost if upload.state == State.FAILED]


def give_up(session: Session, limit: int = 1000) -> Sequence[Upload]:
    """End the uploads that are queued beyond their deadline, or that nobody will take; return those that failed.

    Nobody takes an upload that was to be cancelled while it was transferred, and whose attempt ended otherwise.
    """
    over = or_(Upload.deadline_at < func.now(), Upload.cancel_requested)
    late = session.scalars(_locked(Upload.state == State.QUEUED, over).limit(limit)).all()
    for upload in late:
        if upload.cancel_requested:
            _end(session, upload, State.CANCELLED, "cancelled", "cancelled on request")
            continue
        last = f"; the last reason to wait: {upload.message}" if upload.message else ""
        _end(session, upload, State.FAILED, "deadline_exceeded", f"not stored within its deadline{last}")
    return [upload for upload in late if upload.state == State.FAILED]


def _end(session: Session, upload: Upload, state: State, reason: str, message: str) -> None:
    upload.state, upload.reason, upload.message = state, reason, message
    upload.finished_at = upload.cleanup_due_at = func.now()
    uploads.note(session, upload, state, {"reason": reason, "message": message})


def pick(session: Session, waiting: int, window: int) -> Sequence[Upload]:
    """Choose what to wake, oldest first, and note that it was woken; `waiting` is the length of the queue.

    A queue that is not empty holds wake-ups for whatever was woken before, so only what never was is added to it.
    """
    overdue_wake_up = Upload.woken_at < func.now() - WAKE_ANYWAY
    if waiting == 0:
        overdue_wake_up = Upload.woken_at < func.now() - WAKE_AGAIN
    due = _locked(
        Upload.state.in_(UNFINISHED),
        Upload.due_at <= func.now(),
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


def _locked(*which: ColumnElement[bool]) -> Select[Upload]:
    return select(Upload).where(*which).with_for_update(key_share=True, skip_locked=True)


# What is left over


def claim_cleanups(session: Session, limit: int) -> Sequence[Upload]:
    """Take finished uploads whose traces in drive and staging are due to go, for ten minutes."""
    due = session.scalars(_locked(Upload.cleanup_due_at < func.now()).limit(limit)).all()
    for upload in due:
        upload.token, upload.cleanup_due_at = uuid4(), func.now() + CLEANUP_LEASE
    session.flush()
    return due


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
        ours = (Upload.id == upload.id, Upload.token == upload.token, Upload.state == upload.state)
        session.execute(
            update(Upload).where(*ours).values(**values).execution_options(synchronize_session=False)
        )


def forget_staged(session: Session, kept_for: timedelta, limit: int = 1000) -> Sequence[UUID]:
    """Let go of the bytes of uploads that failed longer ago than `kept_for`; return their ids in staging."""
    old = session.scalars(
        _locked(
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
