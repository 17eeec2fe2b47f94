"""Finds the name under which an upload may enter its folder, by the policy it came with."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app import catalogue, names, uploads
from app.errors import NameTaken
from app.models import Item, Kind, OnConflict, Upload

MAX_NUMBERED = 1000


@dataclass(frozen=True)
class Place:
    """A name in a folder; `number` is what was added to the upload's own name, 0 for nothing."""

    name: str
    number: int
    existing: Item | None = None  # the same bytes are there already, says the catalogue
    replaces: str | None = None  # the drive's id of the item that is to get these bytes


def first_number(held: Upload) -> int:
    """Return the number under which an earlier attempt may have placed the file already; 0 without one."""
    if held.on_conflict != OnConflict.RENAME or held.reserved_name is None:
        return 0
    tried = (names.numbered(held.name, number) for number in range(MAX_NUMBERED + 1))
    return next((number for number, name in enumerate(tried) if name == held.reserved_name), 0)


def take(session: Session, held: Upload, parent_id: str, first: int, last: int | None = None) -> Place:
    """Reserve a place for this upload alone, under a number from `first` to `last`; by default all that its policy allows.

    Raises NameTaken, or NameBusy for a rival. Both are the end of the transaction.
    """
    existing = None
    if last is None:
        last = MAX_NUMBERED if held.on_conflict == OnConflict.RENAME else first
    for number in range(first, last + 1):
        name = names.numbered(held.name, number)
        uploads.reserve(
            session, held, parent_id, name
        )  # first: the look below sees what a rival has just committed
        existing = catalogue.child(session, held.corp_index, parent_id, name)
        if existing is None or _has_our_bytes(existing, held):
            return Place(name, number, existing)
        if held.on_conflict == OnConflict.REPLACE and existing.kind == Kind.FILE:
            uploads.reserve(session, held, parent_id, existing.name)
            return Place(
                existing.name, number, replaces=existing.drive_item_id
            )  # its own spelling, since it keeps its id
    if existing is None:
        raise NameTaken(
            f"{names.printable(held.name)} is there already, under every number that may be added"
        )
    what = "a folder" if existing.kind == Kind.FOLDER else "a file with other content"
    raise NameTaken(f"{names.printable(existing.name)} is there already, {what}")


def _has_our_bytes(existing: Item, held: Upload) -> bool:
    return existing.kind == Kind.FILE and (existing.sha256, existing.size) == (held.sha256, held.size)
