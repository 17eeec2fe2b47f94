"""The life of an upload: every change of its state, each in the caller's transaction with the event that tells of it."""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    Interval,
    Text,
    bindparam,
    cast,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import names, pauses
from app.drive_settings import FILESYSTEM
from app.errors import KeyReused, LostClaim, NameBusy, NotFound
from app.graph.names import mapped
from app.models import UNFINISHED, Item, Json, OnConflict, State, Upload, UploadEvent, table
from app.staging import Staged

DEADLINE = timedelta(hours=24)  # from the first claim; bounds what takes its attempt back
MAX_RETRY_DELAY = timedelta(minutes=5)
RIVAL_DELAY = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=30)  # between two tries of what was put off, unless the reason asks for more
CANCELLED = ("cancelled", "cancelled on request")
NO_RESERVATION: dict[str, Any] = {"reserved_parent_id": None, "reserved_name": None, "reserved_key": None}
NOTHING_SENT: dict[str, Any] = {"sent": None, "sent_at": None}


@dataclass(frozen=True)
class Destination:
    """Where an upload goes: `name` in `folder`, a path of names below the folder with the drive's id `parent_id`."""

    corp_index: int
    parent_id: str
    folder: tuple[str, ...]
    name: str
    on_conflict: OnConflict = OnConflict.FAIL


def register(
    session: Session,
    to: Destination,
    staged: Staged,
    idempotency_key: str | None = None,
    request_id: str | None = None,
) -> Upload:
    """Insert a queued upload of staged bytes, or return the one that came with the same key before.

    Raises KeyReused if that one had other bytes or went elsewhere.
    """
    values = _row(to) | _measured(staged)
    values |= {"idempotency_key": idempotency_key, "request_id": request_id}
    new: Upload | None = session.scalar(_insert_unless_there(values))
    if new is not None:
        note(session, new, "queued", {"door": "bytes"})
        return new
    return _same_as_before(session, to, staged, idempotency_key)


def register_inbox(
    session: Session, to: Destination, inbox_path: str, upload_id: UUID, task_id: str
) -> Upload:
    """Insert a queued upload of a file in the inbox, once per `upload_id`."""
    values = _row(to) | {"id": upload_id, "inbox_path": inbox_path, "task_id": task_id}
    new: Upload | None = session.scalar(_insert_unless_there(values))
    if new is not None:
        note(session, new, "queued", {"door": "celery"})
        return new
    return session.get_one(Upload, upload_id)


def _measured(staged: Staged) -> dict[str, Any]:
    hashes = {"sha256": staged.sha256, "quick_xor": staged.quick_xor}
    return {"staged_id": staged.id, "size": staged.size} | hashes


def _row(to: Destination) -> dict[str, Any]:
    return {"id": uuid4(), **vars(to), "folder": list(to.folder), "state": State.QUEUED}


def _insert_unless_there(values: dict[str, Any]) -> Any:
    return insert(Upload).values(values).on_conflict_do_nothing().returning(Upload)


def _same_as_before(session: Session, to: Destination, staged: Staged, key: str | None) -> Upload:
    before = session.scalars(
        select(Upload).where(Upload.corp_index == to.corp_index, Upload.idempotency_key == key)
    ).one()
    known = Destination(
        before.corp_index, before.parent_id, tuple(before.folder), before.name, OnConflict(before.on_conflict)
    )
    if (known, before.sha256, before.size) != (to, staged.sha256, staged.size):
        raise KeyReused("this Idempotency-Key came before with another file or another place")
    return before


def get(session: Session, corp_index: int, upload_id: UUID) -> Upload:
    found = session.scalar(select(Upload).where(Upload.corp_index == corp_index, Upload.id == upload_id))
    if found is None:
        raise NotFound(f"corporation {corp_index} has no upload with that id")
    return found


def is_placing(session: Session, drive: str, folder: Item, name: str) -> bool:
    """True if an upload is just taking this name in a folder, or is to be cleaned out of it."""
    which = (Upload.corp_index == folder.corp_index, Upload.reserved_parent_id == folder.drive_item_id)
    return (
        session.scalar(select(Upload.id).where(*which, Upload.reserved_key == _place_key(drive, name)))
        is not None
    )


def _place_key(drive: str, name: str) -> str:
    """Return what stands for a place in a drive: two names that become one there must not take it at once."""
    key = names.key(name)  # of the one drive that a release before 0.3 knows, and reserves by this
    return key if drive == FILESYSTEM else names.key(mapped(key))


# Statements that every upload needs are built once, and on tables: building one, or preparing one on a class, takes longer
# than PostgreSQL takes to run it.
_U = table(Upload).c


def _as_stored() -> Any:
    """What the figures are made of: see app/tallies.py."""
    elapsed = (
        func.extract("epoch", func.clock_timestamp() - bindparam("began_at", type_=Upload.began_at.type))
        * 1000
    )
    detail = {
        "item": bindparam("item", type_=Text),
        "new": bindparam("is_new", type_=Boolean),
        "drive": bindparam("drive", type_=Text),
        "bytes": bindparam("bytes", type_=BigInteger),
        "milliseconds": cast(elapsed, BigInteger),
    }
    return func.jsonb_build_object(*(part for pair in detail.items() for part in pair))


# Who makes an attempt: the process, and the PostgreSQL session that served it.
_WHO = func.jsonb_build_object("process", bindparam("process", type_=Text), "session", func.pg_backend_pid())
_NOTE = insert(table(UploadEvent))
_NOTE_CLAIMED, _NOTE_STORED = _NOTE.values(detail=_WHO), _NOTE.values(detail=_as_stored())


def note(session: Session, upload: Upload, kind: str, detail: Any = None, attempt: int | None = None) -> None:
    """Write an event. `kind` says what happened: a state's name, or a word beside the states such as `worker_lost`.

    About the upload's present attempt, unless another one is given.
    """
    session.execute(_NOTE, _about(upload, kind, attempt) | {"detail": detail})


def _about(upload: Upload, kind: str, attempt: int | None = None) -> dict[str, Any]:
    number = upload.attempts if attempt is None else attempt
    return {"corp_index": upload.corp_index, "upload_id": upload.id, "kind": kind, "attempt": number}


def note_stored(session: Session, held: Upload, item_id: str, *, is_new: bool) -> None:
    """Write the event of a stored upload."""
    detail = {"item": item_id, "is_new": is_new, "drive": held.drive, "bytes": held.size}
    session.execute(_NOTE_STORED, _about(held, "stored") | detail | {"began_at": held.began_at})


# The claim


def _claim() -> Any:
    """The one statement of a claim: lock the row if it is free, and give it as it is then, with the state before."""
    free = (
        Upload.id == bindparam("wanted"),
        Upload.state.in_(UNFINISHED),
        Upload.due_at <= func.now(),
        Upload.attempts < bindparam("most_attempts"),
        or_(Upload.deadline_at.is_(None), Upload.deadline_at > func.now()),
        Upload.cancel_requested.is_(False),
        pauses.is_over(),
    )
    found = select(Upload.id, Upload.state).where(*free).with_for_update(key_share=True, skip_locked=True)
    locked = found.cte("locked")
    values = {
        "state": State.TRANSFERRING,
        "token": bindparam("new_token"),
        "drive_token": bindparam("new_token"),
        "attempts": Upload.attempts + 1,
        "due_at": func.now() + bindparam("lease", type_=Interval),
        "deadline_at": func.coalesce(Upload.deadline_at, func.now() + DEADLINE),
        "woken_at": None,  # if this attempt dies, its upload counts as never woken
        "began_at": func.now(),
        "began_from": Upload.transferred,
        **NOTHING_SENT,
    }
    write = update(Upload).where(Upload.id == locked.c.id).values(values).returning(Upload, locked.c.state)
    return write.execution_options(populate_existing=True, synchronize_session=False)


_CLAIM = _claim()


def claim(session: Session, upload_id: UUID, lease: timedelta, max_attempts: int) -> Upload | None:
    """Take the upload for the length of the lease, or return None if it is not to be had."""
    given = {"wanted": upload_id, "new_token": uuid4(), "lease": lease, "most_attempts": max_attempts}
    claimed = session.execute(_CLAIM, given).one_or_none()
    if claimed is None:
        return None
    held: Upload
    held, before = claimed
    if before == State.TRANSFERRING:
        note(session, held, "worker_lost", attempt=held.attempts - 1)
    process = {"process": f"{os.getpid()}@{socket.gethostname()}"}
    session.execute(_NOTE_CLAIMED, _about(held, "transferring") | process)
    return held


# The fence: every write of an attempt carries it.
_OURS = (
    _U.id == bindparam("held"),
    _U.token == bindparam("claim"),
    _U.state == State.TRANSFERRING,
)


def _by(held: Upload) -> dict[str, Any]:
    return {"held": held.id, "claim": held.token}


def _fenced(**values: Any) -> Any:
    return update(table(Upload)).where(*_OURS).values(**values).returning(_U.cancel_requested)


def _run(session: Session, held: Upload, fenced: Any, **given: Any) -> bool:
    """Write to an upload that this attempt holds, or raise LostClaim: the outcome belongs to who holds the claim.

    Returns True if somebody wants the upload cancelled.
    """
    wanted: bool | None = session.scalar(fenced, _by(held) | given)
    if wanted is None:
        raise LostClaim(f"upload {held.id} is in other hands")
    return wanted


def _write(session: Session, held: Upload, **values: Any) -> bool:
    return _run(session, held, _fenced(**values))


def extend(session: Session, held: Upload, lease: timedelta) -> bool:
    """Renew the lease; return True if somebody wants the upload cancelled."""
    return _write(session, held, due_at=func.now() + lease)


def ensure(session: Session, held: Upload, lease: timedelta) -> bool:
    """The same, but renew the lease only if less than half of it is left: a look costs PostgreSQL no flush of its log."""
    is_fresh = Upload.due_at > func.now() + lease / 2
    wanted = session.scalar(select(Upload.cancel_requested).where(*_OURS, is_fresh), _by(held))
    return extend(session, held, lease) if wanted is None else wanted


def save_staged(session: Session, held: Upload, staged: Staged) -> None:
    """Note where a file from the inbox has been staged, and that the transfer begins only now."""
    _write(session, held, **_measured(staged), began_at=func.clock_timestamp())


def checkpoint(session: Session, held: Upload, drive_session: Json | None, transferred: int) -> None:
    """Save how to go on: the drive's own session, and how many bytes the drive safely holds."""
    _write(session, held, drive_session=drive_session, transferred=transferred)


def tell(session: Session, held: Upload, sent: int) -> bool:
    """Note how many bytes were handed to the drive, for people to look at; return True if one of them wants it cancelled."""
    return _write(session, held, sent=sent, sent_at=func.clock_timestamp())


_RESERVE = _fenced(
    reserved_parent_id=bindparam("folder_id"),
    reserved_name=bindparam("spelling"),
    reserved_key=bindparam("key"),
)


def reserve(session: Session, held: Upload, parent_id: str, name: str) -> None:
    """Make this upload the only one that may take a place in the drive; raise NameBusy while another one is at it.

    Held until the upload is stored, or until what it placed is cleaned up. NameBusy is the end of the transaction:
    PostgreSQL takes nothing more in it.
    """
    try:
        _run(session, held, _RESERVE, folder_id=parent_id, spelling=name, key=_place_key(held.drive, name))
    except IntegrityError as error:
        raise NameBusy("another upload is just taking this name", RIVAL_DELAY) from error


# How it ends


_COMPLETE = _fenced(
    state=State.STORED,
    item_id=bindparam("item"),
    token=None,
    transferred=_U.size,
    **NO_RESERVATION,
    reason=None,
    message=None,
    finished_at=func.now(),
    cleanup_due_at=func.now() + timedelta(minutes=10),
)


def complete(session: Session, held: Upload, item_id: str) -> None:
    """Mark the upload stored. The first statement of its transaction: everything after it stands on this fence."""
    _run(session, held, _COMPLETE, item=item_id)


def has_stored(session: Session, held: Upload) -> bool:
    """True if it was this very attempt that stored the upload.

    Later attempts have higher numbers, until a retry begins anew: then with another deadline.
    """
    ours = (Upload.attempts == held.attempts, Upload.deadline_at == held.deadline_at)
    stored = select(Upload.id).where(Upload.id == held.id, Upload.state == State.STORED, *ours)
    return session.scalar(stored) is not None


def adopt(session: Session, held: Upload, item_id: str) -> None:
    """Point a completed upload at the item that was there already."""
    session.execute(update(Upload).where(Upload.id == held.id).values(item_id=item_id))


def fail(session: Session, held: Upload, reason: str, message: str) -> None:
    _write(session, held, **_ended(State.FAILED, reason, message))
    note(session, held, State.FAILED, {"reason": reason, "message": message})


def end_cancelled(session: Session, held: Upload) -> None:
    """Honour the request to cancel an upload that this attempt holds."""
    _write(session, held, **_ended(State.CANCELLED, *CANCELLED))
    note(session, held, State.CANCELLED)


def end(session: Session, upload: Upload, state: State, reason: str, message: str) -> None:
    """End an upload that no attempt holds, and whose row the caller has locked."""
    for column, value in _ended(state, reason, message).items():
        setattr(upload, column, value)
    note(session, upload, state, {"reason": reason, "message": message})


def _ended(state: State, reason: str, message: str) -> dict[str, Any]:
    ended = {"state": state, "reason": reason, "message": message, "token": None}
    return ended | {"finished_at": func.now(), "cleanup_due_at": func.now()}


def set_back(
    session: Session, held: Upload, reason: str, message: str, first_delay: timedelta, **kept: Any
) -> None:
    """Queue the upload for another attempt; each wait is twice the one before, five minutes at most.

    `kept` is what else is to be written, by column: the drive's session, say.
    """
    doublings = min(held.attempts - 1, 16)  # by then any first delay is beyond the maximum
    delay = min(first_delay * 2**doublings, MAX_RETRY_DELAY)
    _write(session, held, **_queued_again(delay), **kept, reason=reason, message=message)
    note(session, held, "set_back", {"reason": reason, "message": message, "seconds": delay.total_seconds()})


def give_back(
    session: Session, held: Upload, reason: str, message: str, delay: timedelta, **kept: Any
) -> None:
    """Queue the upload again and take the attempt back: nothing failed. What has waited long is tried less often.

    `kept` as for `set_back`.
    """
    again = _queued_again(_patient(delay) if delay else delay) | {"attempts": Upload.attempts - 1}
    _write(session, held, **again, **kept, reason=reason, message=message)
    if reason != held.reason:  # one that waits for long would fill the record with it
        note(session, held, "given_back", {"reason": reason, "message": message})


def _patient(delay: timedelta) -> Any:
    """Return at least the delay, and a quarter of the time since the first claim up to LONGEST_WAIT."""
    tried_for = func.extract("epoch", func.now() - (Upload.deadline_at - DEADLINE))
    quarter = func.make_interval(0, 0, 0, 0, 0, 0, cast(tried_for, Float) / 4)
    return func.greatest(delay, func.least(quarter, LONGEST_WAIT))


def _queued_again(delay: Any) -> dict[str, Any]:
    due = {"due_at": func.now() + delay, "woken_at": None}
    return {"state": State.QUEUED, "token": None, **due, **NOTHING_SENT}
