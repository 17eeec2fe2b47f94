"""What time sets off: the sweep, the clean-up, the purge. Any number of them may run at once."""

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from app import asked, deliveries, logs, overdue, pauses, queue, readiness, tallies, wake
from app.database import session_scope
from app.drives.base import Delivery
from app.errors import DriveHalted, DrivePauses, LostClaim
from app.models import Json, State, Upload
from app.results import report
from app.settings import settings
from app.staging import Staging
from app.upkeep import is_due
from tasks.means import means

log = logging.getLogger(__name__)

CLEANUPS_AT_A_TIME = 50  # few enough for their lease of ten minutes
CLEANUP_ROUNDS = 20
FOLDS = 20  # after a long pause; the next run goes on
PURGED_AT_A_TIME = 1000
LITTER_SECONDS = 24 * 3600  # far beyond any clock's error, and any pause between two bytes


@queue.celery.task(name=queue.SWEEP, send_events=False)  # Flower would show little else
def sweep() -> None:
    """Take uploads back from lost workers, give up on what is worn out or late, wake what is due."""
    with session_scope() as session:
        if not is_due(session, queue.SWEEP, timedelta(seconds=settings().sweep_seconds)):
            return
        ended = [*overdue.take_back_lost(session, means().max_attempts), *overdue.give_up(session)]
    for upload in ended:
        with logs.about(upload=upload.id, corporation=upload.corp_index, request=upload.request_id):
            log.error("upload %s: %s: %s: %s", upload.id, upload.state, upload.reason, upload.message)
            report(upload.id)
    wake.due_uploads(settings().wake_window)


@queue.celery.task(name=queue.CLEAN_UP, send_events=False)
def clean_up() -> None:
    """Remove what finished uploads left in drive and staging, and fold what happened into the tallies."""
    _remove_traces()
    asked.note(means().drives)
    with session_scope() as session:
        pauses.forget_requests(session)
    for _ in range(FOLDS):
        with session_scope() as session:
            if not tallies.fold(session):
                return


def _remove_traces() -> None:
    for _ in range(CLEANUP_ROUNDS):
        with session_scope() as session:
            due = overdue.claim_cleanups(session, CLEANUPS_AT_A_TIME)
        done = [upload for upload in due if _tidied(upload)]
        with session_scope() as session:
            overdue.cleaned(session, done)
            overdue.put_off_cleanups(session, [upload for upload in due if upload not in done])
        if len(due) < CLEANUPS_AT_A_TIME:
            return


def _tidied(upload: Upload) -> bool:
    try:
        _tidy(upload)
    except (DrivePauses, LostClaim):  # since this batch was claimed: it comes again, or has come already
        return False
    except DriveHalted as error:
        asked.tell(upload.drive, error)
        return False
    except Exception:  # one that cannot be tidied now must not hold up the others; it comes again
        with logs.about(upload=upload.id, corporation=upload.corp_index, request=upload.request_id):
            log.warning("upload %s: its traces could not be removed yet", upload.id, exc_info=True)
        return False
    return True


def _tidy(upload: Upload) -> None:
    left, placed = means().vault.open(upload.drive_session), _may_have_placed(upload)
    if left is not None or placed is not None:
        _tidy_drive(upload, left, placed)
    if upload.staged_id is not None and upload.state != State.FAILED:  # a failed one may be retried
        means().staging.remove(upload.staged_id)


def _tidy_drive(upload: Upload, left: Json | None, placed: Delivery | None) -> None:
    drive = means().drives.named(upload.drive)
    if upload.state == State.STORED:
        if left is not None:
            drive.release(left)
    elif left is not None or drive.finish_brings_last:
        with session_scope() as session:
            asked.heed(session, upload.drive)
            if not overdue.keep_cleanup(session, upload):
                raise LostClaim(f"upload {upload.id} was cleaned up by others, or is tried again")
        drive.abort(left or {}, placed)


def _may_have_placed(upload: Upload) -> Delivery | None:
    if upload.reserved_parent_id is None or upload.reserved_name is None:
        return None
    return deliveries.of(upload, upload.reserved_parent_id, upload.reserved_name)


@queue.celery.task(name=queue.PURGE)
def purge() -> None:
    """Let go of the bytes of uploads that failed long ago, and of staged files that no upload knows."""
    chosen, staging = settings(), means().staging
    readiness.check_staging(staging)  # another one's bytes would all look like litter
    kept_for = timedelta(seconds=chosen.keep_failed_seconds)
    while old := _forget(kept_for):
        for staged_id in old:
            staging.remove(staged_id)
    litter = list(staging.older_than(time.time() - LITTER_SECONDS))
    staged_ids = [one for one in litter if isinstance(one, UUID)]
    for first in range(0, len(staged_ids), PURGED_AT_A_TIME):
        _remove_unknown(staging, staged_ids[first : first + PURGED_AT_A_TIME])
    _remove_drafts(one for one in litter if isinstance(one, Path))


def _forget(kept_for: timedelta) -> Sequence[UUID]:
    with session_scope() as session:
        return overdue.forget_staged(session, kept_for, PURGED_AT_A_TIME)


def _remove_unknown(staging: Staging, staged_ids: list[UUID]) -> None:
    with session_scope() as session:
        unknown = overdue.unknown_staged(session, staged_ids)
    for staged_id in unknown:
        log.warning("staged bytes %s belong to no upload; removed", staged_id)
        staging.remove(staged_id)


def _remove_drafts(drafts: Iterable[Path]) -> None:
    for draft in drafts:
        log.warning("draft %s was never finished; removed", draft.name)
        draft.unlink(missing_ok=True)
