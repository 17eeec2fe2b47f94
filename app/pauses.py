"""Which drives nobody is to ask for a while, and why: one process hears it, the whole fleet keeps to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import DriveFull, DriveMissing, DrivePauses, DriveRefuses, DriveThrottled
from app.graph.meter import Minute
from app.models import DriveRequests, DriveState, Json, State, Upload

SAME_TROUBLE = timedelta(minutes=15)  # told again so soon after the last pause, it has never been over
KEPT_MINUTES = timedelta(hours=1)
REASONS = tuple(one.code for one in (DriveThrottled, DriveFull, DriveRefuses, DriveMissing))


@dataclass(frozen=True)
class Asked:
    """What all processes asked of a drive in a minute, in requests and in Microsoft's resource units."""

    requests: int
    units: int


def is_over() -> ColumnElement[bool]:
    """True for an upload whose drive may be asked."""
    return ~exists().where(DriveState.name == Upload.drive, DriveState.paused_until > func.now())


def halt(session: Session, drive: str, reason: str, message: str, delay: timedelta) -> None:
    """Let nobody ask a drive before the delay is over; of several pauses the one that ends last counts, and is told."""
    new = {"paused_until": func.now() + delay, "reason": reason, "message": message, "since": func.now()}
    written = insert(DriveState).values(name=drive, **new)
    ends_later = DriveState.paused_until > func.now() + delay
    goes_on = (DriveState.reason == reason) & (DriveState.paused_until > func.now() - SAME_TROUBLE)
    changed = {
        "paused_until": func.greatest(DriveState.paused_until, func.now() + delay),
        "reason": case((ends_later, DriveState.reason), else_=reason),
        "message": case((ends_later, DriveState.message), else_=message),
        "since": case((ends_later | goes_on, DriveState.since), else_=func.now()),
    }
    session.execute(written.on_conflict_do_update(index_elements=[DriveState.name], set_=changed))


def found(session: Session, drive: str) -> DrivePauses | None:
    """Return what ends an attempt at a drive that pauses, as an error with the pause's own reason; None if it does not."""
    left: Any = DriveState.paused_until - func.now()
    paused = (DriveState.name == drive, DriveState.paused_until > func.now())
    row = session.execute(select(DriveState.message, left, DriveState.reason).where(*paused)).one_or_none()
    return None if row is None else DrivePauses(*row)


def put_off(session: Session, upload_id: UUID) -> None:
    """Queue an upload whose drive pauses until the pause is over, with the drive's reason."""
    pausing = (
        select(DriveState)
        .join(Upload, Upload.drive == DriveState.name)
        .where(Upload.id == upload_id, DriveState.paused_until > func.now())
    )
    # Shared, so that `lift` comes either before or after: between the two the upload would miss the end of its pause.
    drive = session.scalar(pausing.with_for_update(read=True, of=DriveState))
    if drive is None:
        return
    waiting = (Upload.id == upload_id, Upload.state == State.QUEUED, Upload.due_at <= func.now())
    why = {"reason": drive.reason, "message": drive.message}
    changed = update(Upload).where(*waiting).values(due_at=drive.paused_until, woken_at=None, **why)
    session.execute(changed.execution_options(synchronize_session=False))


def lift(session: Session, drive: str) -> bool:
    """Let a drive be asked at once, and what waits for it come forward; return False if it never paused."""
    over = update(DriveState).where(DriveState.name == drive).values(paused_until=func.now())
    paused = session.scalar(over.returning(DriveState.name)) is not None
    waiting = (Upload.drive == drive, Upload.state == State.QUEUED)
    # What was woken may just have been refused for the pause that is over by now, and be woken no more.
    held_up = or_(Upload.reason.in_(REASONS) & (Upload.due_at > func.now()), Upload.woken_at.is_not(None))
    values = {"due_at": func.least(Upload.due_at, func.now()), "woken_at": None}
    # Passing over what is just being claimed: that may wait for a name that one of these rows holds.
    free = select(Upload.id).where(*waiting, held_up).with_for_update(key_share=True, skip_locked=True)
    changed = update(Upload).where(Upload.id.in_(free)).values(values)
    session.execute(changed.execution_options(synchronize_session=False))
    return paused


# What was asked of drives, by the minute


def note_requests(session: Session, process: str, minutes: Iterable[Minute]) -> None:
    """Add what this process has asked for since it was last noted."""
    session.execute(text("SET LOCAL synchronous_commit = off"))  # a figure is worth no wait for the disk
    for one in minutes:
        values: dict[str, Any] = {
            "drive": one.drive,
            "minute": func.to_timestamp(one.starts_at),
            "process": process,
            "requests": one.requests,
            "units": one.units,
        }
        new = insert(DriveRequests).values(values)
        added = {
            "requests": DriveRequests.requests + new.excluded.requests,
            "units": DriveRequests.units + new.excluded.units,
        }
        keys = [DriveRequests.drive, DriveRequests.minute, DriveRequests.process]
        session.execute(new.on_conflict_do_update(index_elements=keys, set_=added))


def forget_requests(session: Session) -> None:
    old = DriveRequests.minute < func.now() - KEPT_MINUTES
    session.execute(delete(DriveRequests).where(old).execution_options(synchronize_session=False))


def requests(session: Session) -> dict[str, Asked]:
    """Return what was asked of each drive in the last minute that is over."""
    minute = func.date_trunc("minute", func.now()) - timedelta(minutes=1)
    rows = session.execute(
        select(DriveRequests.drive, func.sum(DriveRequests.requests), func.sum(DriveRequests.units))
        .where(DriveRequests.minute == minute)
        .group_by(DriveRequests.drive)
    )
    return {drive: Asked(int(asked), int(units)) for drive, asked, units in rows}


def now(session: Session) -> dict[str, DriveState]:
    """Return the drives that pause at the moment, by their names."""
    found = session.scalars(select(DriveState).where(DriveState.paused_until > func.now()))
    return {one.name: one for one in found}


def describe(pause: DriveState) -> Json:
    """Return a pause as programs are told it."""
    told = {"until": pause.paused_until, "since": pause.since}
    return told | {"reason": pause.reason, "message": pause.message}


def sentence(pause: DriveState) -> str:
    """Return a pause as people are told it, after the drive's name."""
    until, since = f"{pause.paused_until:%H:%M:%S %Z}", f"{pause.since:%Y-%m-%d %H:%M %Z}"
    return f"pauses until {until}, since {since}: {pause.reason}: {pause.message}"
