"""One attempt at one upload: claim it, carry it into the drive, write what came of it. Knows no Celery."""

import hashlib
import logging
import os
from dataclasses import replace
from io import BufferedReader
from uuid import UUID

from sqlalchemy.orm import Session

from app import catalogue, deliveries, endings, folders, logs, names, places, start, transfer, uploads
from app.catalogue import NewItem
from app.database import session_scope
from app.drives.base import Delivery, Drive, DriveItem
from app.endings import Outcome
from app.errors import DriveFull, LostClaim, NameTaken, NotVerified, SessionLost, SourceDamaged
from app.means import Means
from app.models import Item, Json, OnConflict, Upload
from app.places import Place
from app.quickxor import QuickXor
from app.start import Start
from app.watch import Watch

_DAMAGED = "the staged bytes are no longer those that were received; send the file again"

log = logging.getLogger(__name__)


def make(upload_id: UUID, means: Means) -> tuple[Upload, Outcome] | None:
    """Make one attempt; return what it was made at and what it came to, or None if the upload was not to be had.

    What the attempt came to is written to the upload, whatever it was. Only what must end the process passes through
    (SystemExit, KeyboardInterrupt), after the attempt has been taken back.
    """
    begun = start.begin(upload_id, means)
    if begun is None:
        return None
    held = begun.held
    held.drive_session = means.vault.open(held.drive_session)
    with logs.about(upload=held.id, corporation=held.corp_index, request=held.request_id):
        return held, _see_through(begun, means)


def _see_through(begun: Start, means: Means) -> Outcome:
    held = begun.held
    try:
        with Watch(begun, means) as watch:
            _carry(begun, means, watch)
    except LostClaim:
        log.warning("upload %s: another attempt has taken over; this one ends", held.id)
        endings.note_fenced(held)
        return Outcome.LATER
    except BaseException as error:
        outcome = endings.write_down(held, means, error)
        if not isinstance(error, Exception):
            raise
        return outcome
    return Outcome.FINISHED


def _carry(begun: Start, means: Means, watch: Watch) -> None:
    held = begun.held
    if held.staged_id is None:
        _stage(held, means, watch)
    drive = means.drives.named(held.drive)
    parent_id = begun.parent_id or folders.make(drive, held)
    new = _place(held, means, watch, drive, parent_id, begun.place)
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
    file = means.staging.open(held.staged_id)
    if os.fstat(file.fileno()).st_size != held.size:
        file.close()
        raise SourceDamaged(_DAMAGED)
    return file


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


def _place(  # noqa: PLR0913, PLR0917
    held: Upload, means: Means, watch: Watch, drive: Drive, parent_id: str, place: Place | None
) -> NewItem:
    """Bring the file into the drive under the first name it may have; return the item to record.

    The name is reserved before the first byte is sent: a drive may bind what it is sent to a name.
    """
    number = places.first_number(held)
    while True:
        place = place or _take(held, parent_id, number)
        there = place.existing
        if there is not None and _stands(drive, there, held):
            if held.drive_session is not None:  # begun while the file was gone
                _drop_session(held, drive, watch)
            return NewItem(there.drive_item_id, parent_id, there.name, size=there.size, sha256=there.sha256)
        if there is not None:
            place = _take_over(held, parent_id, place, there)
        try:
            return _deliver(held, means, watch, drive, _delivery(held, means, parent_id, place))
        except NameTaken:  # by something that the catalogue does not know
            if held.on_conflict != OnConflict.RENAME:
                raise
            number, place = place.number + 1, None


def _stands(drive: Drive, there: Item, held: Upload) -> bool:
    """True unless the drive says that a file is gone, or has other bytes than the catalogue knows of.

    What SharePoint has altered once it may have altered again, though not to nothing; whoever asks to replace it is not
    kept from that.
    """
    try:
        is_same = drive.is_same(there.drive_item_id, there.drive_info)
    except FileNotFoundError:
        return False
    if is_same is not False:
        return True
    may_be_altered_again = (there.drive_info or {}).get("verified") == "altered"
    if not may_be_altered_again or held.on_conflict == OnConflict.REPLACE:
        return False
    return drive.size_now(there.drive_item_id) != 0


def _take_over(held: Upload, parent_id: str, place: Place, there: Item) -> Place:
    """Take the place of a file that the drive no longer has, in its spelling: the upload brings the same bytes again."""
    log.warning("upload %s: the drive no longer has what the catalogue has there", held.id)
    with session_scope() as session:
        uploads.reserve(session, held, parent_id, there.name)
    return replace(place, name=there.name, replaces=there.drive_item_id)


def _take(held: Upload, parent_id: str, number: int) -> Place:
    with session_scope() as session:
        return places.take(session, held, parent_id, number)


def _deliver(held: Upload, means: Means, watch: Watch, drive: Drive, delivery: Delivery) -> NewItem:
    try:
        session, last = transfer.send(
            drive, delivery, lambda: _source(held, means), held.drive_session, watch
        )
        made = _finish(held, watch, drive, delivery, session, last)
    except (NotVerified, SessionLost):
        if held.drive_session:
            # It says what is to be taken back: by the next attempt or the clean-up, should this one end here.
            watch.checkpoint(held.drive_session, 0)
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
        supersedes=delivery.replaces,
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
            raise SourceDamaged(_DAMAGED)


def _complete(session: Session, held: Upload, new: NewItem) -> None:
    """Write the outcome; the order of these statements is the promise (the fence first, the parent's lock last)."""
    uploads.complete(session, held, new.drive_item_id)
    may_replace = held.on_conflict == OnConflict.REPLACE
    item_id, is_new = catalogue.record(session, held.corp_index, new, replace=may_replace)
    if item_id != new.drive_item_id:
        uploads.adopt(session, held, item_id)
    uploads.note_stored(session, held, item_id, is_new=is_new)
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
