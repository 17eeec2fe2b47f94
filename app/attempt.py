"""One attempt at one upload: claim it, carry it into the drive, write what came of it. Knows no Celery."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from io import BufferedReader
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import catalogue, database, deliveries, folders, logs, names, pauses, places, transfer, uploads
from app.catalogue import NewItem
from app.database import session_scope
from app.drive_settings import FILESYSTEM
from app.drives.base import Delivery, Drive, DriveItem
from app.drives.registry import Drives
from app.errors import (
    Cancelled,
    DriveFull,
    DriveHalted,
    HaulageError,
    Hopeless,
    LostClaim,
    NameTaken,
    NotVerified,
    Postponed,
    Refused,
    SessionLost,
    ShuttingDown,
    SourceDamaged,
)
from app.inbox import Inbox
from app.models import Json, OnConflict, Upload
from app.places import Place
from app.quickxor import QuickXor
from app.staging import Staging
from app.vault import Vault
from app.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Means:
    """What an attempt works with, and its limits."""

    drives: Drives
    vault: Vault
    staging: Staging
    inbox: Inbox
    lease: timedelta
    slice: timedelta
    first_delay: timedelta
    max_attempts: int
    is_shutting_down: Callable[[], bool]
    at_each_beat: Callable[[], None] = lambda: (
        None
    )  # of an attempt's heart: a long one has things to note on its way


class Outcome(Enum):
    FINISHED = auto()  # stored, failed or cancelled
    LATER = auto()  # queued again, or in other hands
    GOES_ON = auto()  # queued again, and ready at once


def make(upload_id: UUID, means: Means) -> tuple[Upload, Outcome] | None:
    """Make one attempt; return what it was made at and what it came to, or None if the upload was not to be had.

    What the attempt came to is written to the upload, whatever it was. Only what must end the process passes through
    (SystemExit, KeyboardInterrupt), after the attempt has been taken back.
    """
    with session_scope() as session:
        held = uploads.claim(session, upload_id, means.lease, means.max_attempts)
        if held is None:  # finished, not due yet, in another worker's hands, or for a drive that pauses
            pauses.put_off(session, upload_id)
            return None
        into = folders.known(session, held)
    held.drive_session = means.vault.open(held.drive_session)
    with logs.about(upload=held.id, corporation=held.corp_index, request=held.request_id):
        return held, _see_through(held, means, into)


def _see_through(held: Upload, means: Means, into: str | None) -> Outcome:
    try:
        seal = partial(_sealed, held, means)
        with Watch(held, means.lease, means.slice, means.is_shutting_down, seal, means.at_each_beat) as watch:
            _carry(held, means, watch, into)
    except LostClaim:
        log.warning("upload %s: another attempt has taken over; this one ends", held.id)
        _note_fenced(held)
        return Outcome.LATER
    except BaseException as error:
        outcome = _write_down(held, means, error)
        if not isinstance(error, Exception):
            raise
        return outcome
    return Outcome.FINISHED


def _note_fenced(held: Upload) -> None:
    """Put on record that a write was refused; the record is all that it matters to."""
    try:
        with session_scope() as session:
            uploads.note(session, held, "fenced")
    except SQLAlchemyError:
        log.warning("upload %s: that it was fenced could not be noted", held.id, exc_info=True)


def _carry(held: Upload, means: Means, watch: Watch, into: str | None) -> None:
    if held.staged_id is None:
        _stage(held, means, watch)
    drive = means.drives.named(held.drive)
    parent_id = into or folders.make(drive, held)
    new = _place(held, means, watch, drive, parent_id)
    with session_scope() as session:
        _complete(session, held, new)
    log.info("upload %s: stored as %s", held.id, names.printable(new.drive_item_id))
    _release(held, means, drive)


def _stage(held: Upload, means: Means, watch: Watch) -> None:
    """Copy the file from the inbox, so that what is sent cannot change while it is sent."""
    assert held.inbox_path is not None  # noqa: S101  a constraint holds it
    with means.staging.draft() as draft:
        for chunk in means.inbox.read(held.corp_index, held.inbox_path):
            watch.stay()
            draft.write(chunk)
        staged = draft.keep()
    try:
        with session_scope() as session:
            uploads.save_staged(session, held, staged)
    except LostClaim:
        means.staging.remove(staged.id)
        raise
    held.staged_id, held.size = staged.id, staged.size
    held.sha256, held.quick_xor = staged.sha256, staged.quick_xor


def _source(held: Upload, means: Means) -> BufferedReader:
    assert held.staged_id is not None  # noqa: S101  staged by now
    return means.staging.open(held.staged_id)


def _delivery(held: Upload, means: Means, parent_id: str, place: Place) -> Delivery:
    if held.quick_xor is None:  # received by a release that did not compute it
        held.quick_xor = _quick_xor(held, means)
    return deliveries.of(held, parent_id, place.name, place.replaces)


def _quick_xor(held: Upload, means: Means) -> str:
    made = QuickXor()
    with _source(held, means) as file:
        while data := file.read(2**20):
            made.update(data)
    return made.digest()


def _place(held: Upload, means: Means, watch: Watch, drive: Drive, parent_id: str) -> NewItem:
    """Bring the file into the drive under the first name it may have; return the item to record.

    The name is reserved before the first byte is sent: a drive may bind what it is sent to a name.
    """
    number = places.first_number(held)
    while True:
        place = places.take(held, parent_id, number)
        if place.existing is not None:
            there = place.existing
            return NewItem(there.drive_item_id, parent_id, there.name, size=there.size, sha256=there.sha256)
        try:
            return _deliver(held, means, watch, drive, _delivery(held, means, parent_id, place))
        except NameTaken:  # by something that the catalogue does not know
            if held.on_conflict != OnConflict.RENAME:
                raise
            number = place.number + 1


def _deliver(held: Upload, means: Means, watch: Watch, drive: Drive, delivery: Delivery) -> NewItem:
    try:
        session, last = transfer.send(
            drive, delivery, lambda: _source(held, means), held.drive_session, watch
        )
        made = _finish(held, watch, drive, delivery, session, last)
    except (NotVerified, SessionLost):
        watch.fence()
        _drop_session(held, drive, watch)
        _check_source(held, means)
        raise
    return NewItem(
        made.id,
        delivery.parent_id,
        delivery.name,
        size=delivery.size,
        sha256=delivery.sha256,
        drive_info=made.info,
    )


def _finish(  # noqa: PLR0913, PLR0917
    held: Upload, watch: Watch, drive: Drive, delivery: Delivery, session: Json, last: bytes
) -> DriveItem:
    try:
        return drive.finish(delivery, session, last, watch.fence)
    except DriveFull:  # it has all bytes and would not make a file of them; nor will it later
        _drop_session(held, drive, watch)
        raise


def _drop_session(held: Upload, drive: Drive, watch: Watch) -> None:
    """Let the next attempt begin anew: what came of this session cannot be completed any more."""
    if held.drive_session is not None:
        drive.abort(held.drive_session, None)
    watch.checkpoint(None, 0)


def _check_source(held: Upload, means: Means) -> None:
    with _source(held, means) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != held.sha256:
            raise SourceDamaged(
                "the staged bytes are no longer those that were received; send the file again"
            )


def _complete(session: Session, held: Upload, new: NewItem) -> None:
    """Write the outcome; the order of these statements is the promise (the fence first, the parent's lock last)."""
    uploads.complete(session, held, new.drive_item_id)
    replace = held.on_conflict == OnConflict.REPLACE
    item, is_new = catalogue.record(session, held.corp_index, new, replace=replace)
    if item.drive_item_id != new.drive_item_id:
        uploads.adopt(session, held, item.drive_item_id)
    uploads.note_stored(session, held, item.drive_item_id, is_new=is_new)
    if is_new:
        catalogue.count_in(session, held.corp_index, new.parent_id)


def _release(held: Upload, means: Means, drive: Drive) -> None:
    try:
        if held.drive_session is not None:
            drive.release(held.drive_session)
        if held.staged_id is not None:
            means.staging.remove(held.staged_id)
    except OSError:  # the upload is stored all the same; the clean-up comes by again
        log.warning("upload %s: stored, but not tidied up", held.id, exc_info=True)


def _write_down(held: Upload, means: Means, error: BaseException) -> Outcome:
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
    _note_fenced(held)
    return Outcome.LATER


def _end(session: Session, held: Upload, means: Means, error: BaseException) -> Outcome:
    code, message = told(error)
    if isinstance(error, Postponed):
        log.info("upload %s: later: %s: %s", held.id, code, message)
        _keep_session(session, held, means)
        uploads.give_back(session, held, code, message, error.delay)
        if isinstance(error, DriveHalted):
            pauses.halt(session, held.drive, code, message, error.delay)
        return Outcome.LATER if error.delay else Outcome.GOES_ON
    if database.is_passing(error):
        log.warning("upload %s: PostgreSQL: %s", held.id, error)
        uploads.give_back(
            session, held, "database_busy", "PostgreSQL was away, or busy with others", uploads.RIVAL_DELAY
        )
        return Outcome.LATER
    if not isinstance(error, Exception):
        uploads.give_back(session, held, ShuttingDown.code, "the worker was told to end", timedelta(0))
        return Outcome.GOES_ON
    if not isinstance(error, Hopeless | Refused) and held.attempts < means.max_attempts:
        log.warning("upload %s: attempt %d failed: %s", held.id, held.attempts, message, exc_info=error)
        _keep_session(session, held, means)
        uploads.set_back(session, held, code, message, means.first_delay)
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


def _keep_session(session: Session, held: Upload, means: Means) -> None:
    """Save what the drive noted in the session since the last checkpoint: that something was cut, say."""
    if held.drive_session:
        uploads.keep_session(session, held, _sealed(held, means, held.drive_session))


def _sealed(held: Upload, means: Means, drive_session: Json | None) -> Json | None:
    """Seal a session that may hold a credential. Those of the one drive that every release knows are open to all of them."""
    return drive_session if held.drive == FILESYSTEM else means.vault.seal(drive_session)


def told(error: BaseException) -> tuple[str, str]:
    """Return a code and a message that may be shown: a foreign error's own text may hold more than people should see."""
    if isinstance(error, HaulageError):
        return error.code, str(error)
    if isinstance(error, OSError) and error.strerror:
        return "input_output_error", error.strerror
    return "unexpected_error", type(error).__name__
