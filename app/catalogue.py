"""The tree of items: what the drive holds, with an exact number of children for every folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app import names
from app.errors import CorporationUnknown, NameTaken, NotFound, NotPossible
from app.models import Corporation, Item, Json, Kind, Upload, table

log = logging.getLogger(__name__)

# For statements that every upload needs: see `table`.
_I = table(Item).c


@dataclass(frozen=True)
class NewItem:
    """An item that is in the drive and is to be in the catalogue. `size` in bytes; `sha256` in hexadecimal.

    `supersedes` is the drive's id, in the catalogue, of the file that had this place before it.
    """

    drive_item_id: str
    parent_id: str
    name: str
    kind: Kind = Kind.FILE
    size: int | None = None
    sha256: str | None = None
    drive_info: Json | None = None
    supersedes: str | None = None


def add_corporation(
    session: Session, corp_index: int, name: str, root_id: str, drive: str = "filesystem"
) -> Corporation:
    """Add a corporation and its root folder, which already exists under `root_id` in the drive of that name."""
    if session.get(Corporation, corp_index) is not None:
        raise NotPossible(f"corporation {corp_index} exists already")
    corporation = Corporation(corp_index=corp_index, name=name, drive=drive)
    session.add(corporation)
    session.flush()  # the root refers to its corporation
    root_name = str(corp_index)
    session.add(
        Item(
            corp_index=corp_index,
            drive_item_id=root_id,
            name=root_name,
            name_key=names.key(root_name),
            kind=Kind.FOLDER,
        )
    )
    return corporation


def root_id(session: Session, corp_index: int) -> str:
    """Return the drive's id of a corporation's root folder, or raise CorporationUnknown."""
    found = session.scalar(
        select(Item.drive_item_id).where(Item.corp_index == corp_index, Item.parent_id.is_(None))
    )
    if found is None:
        raise CorporationUnknown(f"there is no corporation {corp_index}")
    return found


def drive_name(session: Session, corp_index: int) -> str:
    """Return the name of a corporation's drive, which never changes; or raise CorporationUnknown."""
    found = session.scalar(select(Corporation.drive).where(Corporation.corp_index == corp_index))
    if found is None:
        raise CorporationUnknown(f"there is no corporation {corp_index}")
    return found


def item(session: Session, corp_index: int, drive_item_id: str) -> Item:
    found = None
    if _is_text(drive_item_id):
        found = session.scalar(
            select(Item).where(Item.corp_index == corp_index, Item.drive_item_id == drive_item_id)
        )
    if found is None:
        raise NotFound(f"corporation {corp_index} has no item with that id")
    return found


def _is_text(value: str) -> bool:
    """True if PostgreSQL can know it: no text there has a NUL, or half of a surrogate pair."""
    return "\0" not in value and value.encode(errors="replace").decode() == value


def has(session: Session, corp_index: int, drive_item_id: str) -> bool:
    which = (Item.corp_index == corp_index, Item.drive_item_id == drive_item_id)
    return session.scalar(select(Item.id).where(*which)) is not None


def counts(session: Session, folder: Item) -> tuple[int, int]:
    """Return a folder's child_count and the number of its children, both at one moment."""
    children = aliased(Item)
    number = select(func.count()).where(
        children.corp_index == folder.corp_index, children.parent_id == folder.drive_item_id
    )
    both = select(Item.child_count, number.scalar_subquery()).where(Item.id == folder.id)
    noted, counted = session.execute(both).one()
    return noted, counted


def folder(session: Session, corp_index: int, drive_item_id: str) -> Item:
    found = item(session, corp_index, drive_item_id)
    if found.kind != Kind.FOLDER:
        raise NotFound("that item is a file, not a folder")
    return found


_CHILD = select(Item).where(
    Item.corp_index == bindparam("corporation"),
    Item.parent_id == bindparam("parent"),
    Item.name_key == bindparam("key"),
)


def child(session: Session, corp_index: int, parent_id: str, name: str) -> Item | None:
    """Return the child that has this name or one that counts as the same, if there is one."""
    return session.scalar(_CHILD, {"corporation": corp_index, "parent": parent_id, "key": names.key(name)})


def folder_at(session: Session, corp_index: int, path: Sequence[str]) -> Item:
    """Return the folder at a path of names below the root, or raise NotFound."""
    found = folder(session, corp_index, root_id(session, corp_index))
    for name in path:
        below = child(session, corp_index, found.drive_item_id, name)
        if below is None or below.kind != Kind.FOLDER:
            raise NotFound(f"corporation {corp_index} has no folder at that path")
        found = below
    return found


def children(
    session: Session, corp_index: int, parent_id: str, after: int = 0, limit: int = 1000
) -> Sequence[Item]:
    """Return a folder's children in the order of their ids, at most `limit`, beginning behind the id `after`."""
    chosen = select(Item).where(Item.corp_index == corp_index, Item.parent_id == parent_id, Item.id > after)
    return session.scalars(chosen.order_by(Item.id).limit(limit)).all()


def page(session: Session, corp_index: int, after: int, limit: int = 1000) -> Sequence[Item]:
    """Return a corporation's items in the order of their ids, at most `limit`, beginning behind the id `after`."""
    chosen = select(Item).where(Item.corp_index == corp_index, Item.id > after)
    return session.scalars(chosen.order_by(Item.id).limit(limit)).all()


_ELSEWHERE = "the drive's id of this item belongs to an item at another place"
_RECORD = insert(table(Item)).on_conflict_do_nothing().returning(_I.onedrive_item_id)


def record(session: Session, corp_index: int, new: NewItem, *, replace: bool = False) -> tuple[str, bool]:
    """Write an item; return the drive's id of the one that is there then, and whether it is new.

    A new one has yet to be counted: see `count_in`.

    The same item again, or the same bytes under a name that counts as the same, is the existing one. Anything else at
    that place is replaced, keeping its id, where `replace` is true; otherwise raises NameTaken. A file that the new one
    supersedes takes its id over: the drive has made another item of it. The parent must be a folder of this corporation: see
    `folder`.
    """
    values = dict(vars(new), corp_index=corp_index, name_key=names.key(new.name))
    del values["supersedes"]
    values["onedrive_item_id"] = values.pop("drive_item_id")
    if session.scalar(_RECORD, values) is not None:
        return new.drive_item_id, True
    existing = child(session, corp_index, new.parent_id, new.name)
    if existing is None:
        raise NameTaken(_ELSEWHERE)
    if existing.kind == new.kind == Kind.FILE and existing.drive_item_id == new.supersedes:
        _supersede(session, existing, new)
        return new.drive_item_id, False
    if is_same(existing, new):
        return existing.drive_item_id, False
    if replace and existing.kind == new.kind == Kind.FILE and existing.drive_item_id == new.drive_item_id:
        _replace(existing, new)
        return existing.drive_item_id, False
    raise NameTaken(f"another {existing.kind} has this name already")


def record_folder(session: Session, corp_index: int, new: NewItem) -> tuple[str, bool]:
    """Write and count a folder; return the drive's id of the one that is there then, and whether it is new.

    Raises NameTaken if something else stands there. The database's own function does it: the web may call that, and
    write no other item.
    """
    recorded = func.corporate.record_folder(
        corp_index,
        new.drive_item_id,
        new.parent_id,
        new.name,
        names.key(new.name),
        cast(new.drive_info, JSONB),
    ).table_valued("folder_id", "is_new")
    try:
        folder_id, is_new = session.execute(select(recorded.c.folder_id, recorded.c.is_new)).one()
    except IntegrityError as error:
        raise NameTaken("something else has this name already") from error
    return folder_id, is_new


def is_same(existing: Item, new: NewItem) -> bool:
    if existing.kind != new.kind:
        return False
    if existing.kind == Kind.FOLDER:
        return True
    if (existing.sha256, existing.size) != (new.sha256, new.size):
        return False
    return existing.sha256 is not None or existing.drive_item_id == new.drive_item_id


def _replace(existing: Item, new: NewItem) -> None:
    existing.size, existing.sha256, existing.drive_info = new.size, new.sha256, new.drive_info
    existing.changed_at = func.now()


def _supersede(session: Session, existing: Item, new: NewItem) -> None:
    """Let a row follow its file, which the drive has under another id since somebody took the old one away."""
    before = existing.drive_item_id
    if new.drive_item_id != before:
        if has(session, existing.corp_index, new.drive_item_id):
            raise NameTaken(_ELSEWHERE)
        existing.drive_item_id = new.drive_item_id
        those = (Upload.corp_index == existing.corp_index, Upload.item_id == before)
        session.execute(update(table(Upload)).where(*those).values(item_id=new.drive_item_id))
    _replace(existing, new)


_COUNT_IN = (
    update(table(Item))
    .where(_I.corp_index == bindparam("corporation"), _I.onedrive_item_id == bindparam("folder"))
    .values(child_count=_I.child_count + 1)
)


def count_in(session: Session, corp_index: int, parent_id: str) -> None:
    """Add one to a parent's child_count. The last statement of its transaction: it holds the parent's row lock."""
    session.execute(_COUNT_IN, {"corporation": corp_index, "folder": parent_id})


def folder_ids(session: Session, corp_index: int) -> Sequence[str]:
    chosen = select(Item.drive_item_id).where(Item.corp_index == corp_index, Item.kind == Kind.FOLDER)
    return session.scalars(chosen.order_by(Item.id)).all()


def recount(session: Session, corp_index: int, parent_id: str) -> int:
    """Set one folder's child_count to the number of its children; return the correction.

    The lock comes first and the count in a statement of its own: a count taken in the same statement does not see a
    sibling that commits meanwhile.
    """
    parent = session.scalar(
        select(Item)
        .where(Item.corp_index == corp_index, Item.drive_item_id == parent_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if parent is None:
        raise NotFound(f"corporation {corp_index} has no item with that id")
    counted = session.scalar(
        select(func.count()).where(Item.corp_index == corp_index, Item.parent_id == parent_id)
    )
    correction = (counted or 0) - parent.child_count
    if correction:
        log.warning("child_count of folder %s was off by %d; set to %d", parent_id, -correction, counted)
        parent.child_count = counted or 0
    return correction
