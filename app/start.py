"""Begins an attempt: claims its upload, and takes a place for it in the same transaction where it can."""

import logging
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import database, folders, pauses, places, uploads
from app.database import session_scope
from app.errors import HaulageError
from app.means import Means
from app.models import Upload
from app.places import Place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What is known when an attempt begins.

    `parent_id` is the drive's id of the folder, None if that is still to be made. `asked_at` is when PostgreSQL was asked for
    the claim, in seconds of this process's monotonic clock: the lease has run since.
    """

    held: Upload
    parent_id: str | None
    place: Place | None  # None if it is still to be taken
    asked_at: float


def begin(upload_id: UUID, means: Means) -> Start | None:
    """Claim an upload; return None if it is not to be had: finished, not due, in other hands, for a drive that pauses.

    One transaction takes its place as well, since a small file's cost is its transactions; not where the file must be staged
    or a folder made first. Where the place is not to be had there is a claim alone: the attempt will find out why, and tell.
    """
    try:
        return _begin(upload_id, means, is_placing=True)
    except (HaulageError, SQLAlchemyError) as error:
        if database.is_out_of_reach(error):
            raise
        if not isinstance(error, HaulageError) and not database.is_passing(error):
            log.warning("upload %s: its claim could not take a place as well", upload_id, exc_info=True)
        return _begin(upload_id, means, is_placing=False)


def _begin(upload_id: UUID, means: Means, *, is_placing: bool) -> Start | None:
    asked_at = monotonic()
    with session_scope() as session:
        held = uploads.claim(session, upload_id, means.lease, means.max_attempts)
        if held is None:
            pauses.put_off(session, upload_id)
            return None
        parent_id = folders.known(session, held)
        if parent_id is None or not is_placing:
            return Start(held, parent_id, None, asked_at)
        return Start(held, parent_id, _place(session, held, parent_id, means), asked_at)


def _place(session: Session, held: Upload, parent_id: str, means: Means) -> Place | None:
    if held.staged_id is None:
        return None
    means.drives.named(held.drive)  # first: what no drive has seen can be cleaned up without one
    # One name alone: a walk over many is not to hold the claim's row, and the lease runs.
    first = places.first_number(held)
    return places.take(session, held, parent_id, first, last=first)
