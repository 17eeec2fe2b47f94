"""What people ask of uploads: cancel one, retry one, retry all that failed."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app import uploads
from app.errors import NotFound, NotPossible
from app.models import FINISHED, State, Upload

RETRIED_AT_A_TIME = 1000
HAS_BYTES = or_(
    Upload.staged_id.is_not(None), Upload.inbox_path.is_not(None)
)  # else there is nothing to retry

Change = Callable[[Session, int, UUID], Upload]


def cancel(session: Session, corp_index: int, upload_id: UUID) -> Upload:
    """Cancel an upload: at once where it waits, as a request to its holder where it is being transferred."""
    found = _locked(session, corp_index, upload_id)
    if found.state in FINISHED:
        raise NotPossible(f"the upload is {found.state} already")
    if found.state == State.TRANSFERRING:
        found.cancel_requested = True
        uploads.note(session, found, "cancel_requested")
    else:
        uploads.end(session, found, State.CANCELLED, *uploads.CANCELLED)
    return found


def retry(session: Session, corp_index: int, upload_id: UUID) -> Upload:
    """Queue a failed upload again, with all its attempts and a new deadline."""
    found = _locked(session, corp_index, upload_id)
    if found.state != State.FAILED:
        raise NotPossible(f"only a failed upload can be retried; this one is {found.state}")
    if found.token is not None:
        raise NotPossible("the upload is being cleaned up; try again in a minute")
    if found.staged_id is None and found.inbox_path is None:
        raise NotPossible("the upload's bytes are gone; send the file again")
    _queue_again(session, found)
    return found


def retry_failed(
    session: Session, corp_index: int, failed_before: datetime | None = None
) -> Sequence[Upload]:
    """Queue failed uploads again, those that failed first; return them, a thousand at most.

    Passes over those that `retry` refuses: what is being cleaned up, and what has lost its bytes. Whoever asks again for
    the next thousand gives the time at which it began: what is retried may fail again meanwhile.
    """
    failed = session.scalars(
        select(Upload)
        .where(*_retriable(corp_index, failed_before), Upload.token.is_(None))
        .order_by(Upload.finished_at)
        .limit(RETRIED_AT_A_TIME)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    for upload in failed:
        _queue_again(session, upload)
    return failed


def retriable(session: Session, corp_index: int, failed_before: datetime | None = None) -> int:
    """Return how many failed uploads still have their bytes."""
    return session.scalar(select(func.count()).where(*_retriable(corp_index, failed_before))) or 0


def _retriable(corp_index: int, failed_before: datetime | None) -> tuple[ColumnElement[bool], ...]:
    which = (Upload.corp_index == corp_index, Upload.state == State.FAILED, HAS_BYTES)
    return which if failed_before is None else (*which, Upload.finished_at < failed_before)


def _queue_again(session: Session, failed: Upload) -> None:
    failed.state, failed.attempts, failed.finished_at, failed.cleanup_due_at = State.QUEUED, 0, None, None
    failed.reason = failed.message = failed.woken_at = failed.deadline_at = None
    failed.cancel_requested = False
    failed.due_at = func.now()
    uploads.note(session, failed, "retried")


def _locked(session: Session, corp_index: int, upload_id: UUID) -> Upload:
    found = session.scalar(
        select(Upload)
        .where(Upload.corp_index == corp_index, Upload.id == upload_id)
        .with_for_update(key_share=True)
    )
    if found is None:
        raise NotFound(f"corporation {corp_index} has no upload with that id")
    return found
