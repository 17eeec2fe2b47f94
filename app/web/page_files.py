"""What the page of files shows, read in one transaction: a folder, and the uploads that are on their way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app import catalogue, listing, names, pauses
from app.errors import BadRequest, NotFound
from app.models import Corporation, DriveState, Item, Kind, State, Upload
from app.web import addresses

ROWS = 200
COUNTED = 10_000  # a page that is asked for every other second counts no further
MOVING_SHOWN, WAITING_SHOWN, FAILED_SHOWN = 8, 4, 20
NOBODYS_CONCERN = (State.CANCELLED, State.EXPIRED)  # counted in, they would push out older ones that failed


@dataclass(frozen=True)
class Entry:
    """An item as a row of its folder."""

    item: Item
    href: str
    is_folder: bool


@dataclass(frozen=True)
class Folder:
    """A folder, the way to it from the root, and some of its children in the order of their names."""

    here: Item
    path: str
    crumbs: Sequence[tuple[str, str]]  # name and address of each folder above
    entries: Sequence[Entry]
    is_first: bool
    next_href: str | None


@dataclass(frozen=True)
class Counts:
    """How many uploads are in which state, of the newest `COUNTED`."""

    by_state: Mapping[State, int]
    is_all: bool

    def of(self, *states: State) -> int:
        return sum(self.by_state.get(state, 0) for state in states)

    @property
    def total(self) -> int:
        return sum(self.by_state.values())


@dataclass(frozen=True)
class Uploads:
    """Uploads that wait, move or failed, and what became of those since a moment, if one was asked for."""

    unfinished: Counts
    since: Counts | None
    moving: Sequence[Mapping[str, Any]]
    waiting: Sequence[Mapping[str, Any]]
    failed: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Shown:
    corporation: Corporation
    folder: Folder
    uploads: Uploads
    pause: DriveState | None  # of the corporation's drive


def read(session: Session, corp_index: int, path: str, after: str, since: datetime | None) -> Shown:
    """Read it all. `after` is the name key that the page before ended with. Raises BadName, BadRequest or NotFound."""
    if "\0" in after:
        raise BadRequest("the name key after which to go on cannot contain a NUL character")
    corporation = session.get_one(Corporation, corp_index)
    paused = pauses.now(session)
    return Shown(
        corporation,
        _folder(session, corp_index, path, after),
        _uploads(session, corp_index, since, paused),
        paused.get(corporation.drive),
    )


def address(path: Sequence[str], after: str = "") -> str:
    wanted = {"path": "/".join(path), "after": after}
    given = urlencode({name: value for name, value in wanted.items() if value})
    return f"/files?{given}" if given else "/files"


def _folder(session: Session, corp_index: int, path: str, after: str) -> Folder:
    way = _way(session, corp_index, path)
    below = [folder.name for folder in way[1:]]
    one_more = _children(session, way[-1], after, ROWS + 1)
    found = one_more[:ROWS]
    return Folder(
        here=way[-1],
        path="/".join(below),
        crumbs=[(folder.name, address(below[:depth])) for depth, folder in enumerate(way[:-1])],
        entries=[_entry(item, below) for item in found],
        is_first=not after,
        next_href=address(below, found[-1].name_key) if len(one_more) > len(found) else None,
    )


def _way(session: Session, corp_index: int, path: str) -> list[Item]:
    """Return the folders on the way, the root first; raises BadName or NotFound."""
    way = [catalogue.folder(session, corp_index, catalogue.root_id(session, corp_index))]
    for name in names.parts(path):
        below = catalogue.child(session, corp_index, way[-1].drive_item_id, name)
        if below is None or below.kind != Kind.FOLDER:
            raise NotFound("there is no folder at this path")
        way.append(below)
    return way


def _children(session: Session, folder: Item, after: str, limit: int) -> Sequence[Item]:
    which = (
        Item.corp_index == folder.corp_index,
        Item.parent_id == folder.drive_item_id,
        Item.name_key > after,
    )
    return session.scalars(select(Item).where(*which).order_by(Item.name_key).limit(limit)).all()


def _entry(item: Item, below: list[str]) -> Entry:
    if item.kind == Kind.FOLDER:
        return Entry(item, address([*below, item.name]), is_folder=True)
    return Entry(item, addresses.content(item.corp_index, item.drive_item_id), is_folder=False)


def _uploads(
    session: Session, corp_index: int, since: datetime | None, paused: Mapping[str, DriveState]
) -> Uploads:
    root = catalogue.root_id(session, corp_index)

    def told(state: State, order: ColumnElement[Any], limit: int) -> list[Mapping[str, Any]]:
        which = (Upload.corp_index == corp_index, Upload.state == state, Upload.state != State.STORED)
        found = session.scalars(select(Upload).where(*which).order_by(order).limit(limit))
        return [_told(upload, root, paused) for upload in found]

    return Uploads(
        unfinished=_counts(
            session, corp_index, Upload.state != State.STORED, Upload.state.not_in(NOBODYS_CONCERN)
        ),
        since=None if since is None else _counts(session, corp_index, Upload.created_at >= since),
        moving=told(State.TRANSFERRING, Upload.began_at.asc(), MOVING_SHOWN),
        waiting=told(State.QUEUED, Upload.created_at.asc(), WAITING_SHOWN),
        failed=told(State.FAILED, Upload.finished_at.desc(), FAILED_SHOWN),
    )


def _told(upload: Upload, root: str, paused: Mapping[str, DriveState]) -> Mapping[str, Any]:
    above = () if upload.parent_id == root else ("…",)
    return listing.describe(upload, paused) | {
        "path": "/".join((*above, *upload.folder, upload.name)),
        "url": addresses.upload(upload.corp_index, upload.id),
        "is_ending": upload.cancel_requested,
        "can_be_retried": upload.token is None and (upload.staged_id or upload.inbox_path) is not None,
    }


def _counts(session: Session, corp_index: int, *which: ColumnElement[bool]) -> Counts:
    newest = (
        select(Upload.state)
        .where(Upload.corp_index == corp_index, *which)
        .order_by(Upload.created_at.desc(), Upload.id.desc())
        .limit(COUNTED + 1)
        .subquery()
    )
    rows = session.execute(select(newest.c.state, func.count()).group_by(newest.c.state)).all()
    by_state = {State(state): number for state, number in rows}
    return Counts(by_state, is_all=sum(by_state.values()) <= COUNTED)
