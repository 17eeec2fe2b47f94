"""Lists of uploads for people to look at, and how far each has come."""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.orm import Session

from app.errors import BadRequest
from app.models import DriveState, State, Upload

MOST_WAITS = 10


@dataclass(frozen=True)
class Cursor:
    """The place of an upload in a list: the next page begins behind it."""

    created_at: datetime
    upload_id: UUID

    def as_text(self) -> str:
        place = f"{self.created_at.astimezone(UTC).isoformat()} {self.upload_id}"
        return base64.urlsafe_b64encode(place.encode()).decode()

    @staticmethod
    def from_text(given: str) -> "Cursor":
        """Read what `as_text` gave; raises BadRequest for anything else."""
        try:
            created_at, upload_id = base64.urlsafe_b64decode(given.encode("ascii")).decode("ascii").split(" ")
            cursor = Cursor(datetime.fromisoformat(created_at), UUID(upload_id))
        except (ValueError, binascii.Error) as error:
            raise BadRequest("the cursor is not one that a list gave; begin without one") from error
        if cursor.created_at.utcoffset() != timedelta(0):  # PostgreSQL refuses some that Python reads
            raise BadRequest("the cursor is not one that a list gave; begin without one")
        return cursor


@dataclass(frozen=True)
class Progress:
    """How far an upload has come. Bytes and seconds; None for what is not known, or does not matter any more."""

    transferred: int
    bytes_per_second: float | None = None
    seconds_left: float | None = None


def page(
    session: Session, corp_index: int, states: Collection[State], behind: Cursor | None, limit: int
) -> Sequence[Upload]:
    """Return a corporation's uploads, the newest first, at most `limit`; of these states, or all if none is given."""
    which = [Upload.corp_index == corp_index]
    if states:
        which.append(Upload.state.in_(states))
    if states and State.STORED not in states:
        which.append(Upload.state != State.STORED)  # word for word what the index for these lists says
    if behind is not None:
        which.append(tuple_(Upload.created_at, Upload.id) < (behind.created_at, behind.upload_id))
    newest_first = (Upload.created_at.desc(), Upload.id.desc())
    return session.scalars(select(Upload).where(and_(*which)).order_by(*newest_first).limit(limit)).all()


def counts(session: Session, corp_index: int) -> dict[State, int]:
    """Return how many uploads are in which state; states that no upload is in are left out."""
    by_state = (
        select(Upload.state, func.count()).where(Upload.corp_index == corp_index).group_by(Upload.state)
    )
    return {State(state): number for state, number in session.execute(by_state)}


def waits(session: Session, corp_index: int) -> Sequence[tuple[int, str, str]]:
    """Return why uploads are queued again: how many, the reason, its message; the most frequent ones first."""
    which = (Upload.corp_index == corp_index, Upload.state == State.QUEUED, Upload.reason.is_not(None))
    by_reason = select(func.count(), Upload.reason, Upload.message).where(*which)
    by_reason = by_reason.group_by(Upload.reason, Upload.message)
    found = session.execute(by_reason.order_by(func.count().desc(), Upload.reason).limit(MOST_WAITS)).all()
    return [(number, str(reason), str(message)) for number, reason, message in found]


def progress(upload: Upload) -> Progress:
    """Work out the speed of the attempt that is at it, and the time that the rest would take at that speed."""
    if upload.state != State.TRANSFERRING or upload.sent is None:
        return Progress(upload.transferred)
    assert upload.began_at is not None and upload.sent_at is not None  # noqa: S101, PT018  they are written together
    seconds = (upload.sent_at - upload.began_at).total_seconds()
    moved = upload.sent - (upload.began_from or 0)
    if seconds <= 0 or moved <= 0:
        return Progress(upload.sent)
    speed = moved / seconds
    left = None if upload.size is None else max(upload.size - upload.sent, 0) / speed
    return Progress(upload.sent, speed, left)


def describe(upload: Upload, paused: Mapping[str, DriveState] | None = None) -> dict[str, Any]:
    """Tell everything of an upload that its sender may know, by the names that the interface has for it.

    One that waits for a drive of those that pause (see app/pauses.py) is told with that drive's reason, tried or not.
    """
    how_far = progress(upload)
    waits_for = (paused or {}).get(upload.drive) if upload.state == State.QUEUED else None
    why = waits_for or upload
    return {
        "id": upload.id,
        "state": State(upload.state),
        "name": upload.name,
        "folder": "/".join(upload.folder),
        "size": upload.size,
        "sha256": upload.sha256,
        "attempts": upload.attempts,
        "transferred": how_far.transferred,
        "bytes_per_second": how_far.bytes_per_second,
        "seconds_left": how_far.seconds_left,
        "reason": why.reason,
        "message": why.message,
        "item_id": upload.item_id,
        "request_id": upload.request_id,
        "created_at": upload.created_at,
        "finished_at": upload.finished_at,
    }
