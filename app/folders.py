"""Makes folders, in the drive and in the catalogue, each of them once."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app import catalogue, names
from app.catalogue import NewItem
from app.database import session_scope
from app.drives.base import Drive
from app.errors import NameTaken, NotAFolder
from app.models import Kind, OnConflict, Upload

MAX_NUMBERED = 100


def known(session: Session, held: Upload) -> str | None:
    """Return the drive's id of the folder that the upload goes into, or None if that is still to be made, or numbered."""
    parent_id = held.parent_id
    for name in held.folder:
        there = catalogue.child(session, held.corp_index, parent_id, name)
        if there is None or there.kind != Kind.FOLDER:
            return None
        parent_id = there.drive_item_id
    return parent_id


def make(drive: Drive, held: Upload) -> str:
    """Return the drive's id of the folder that the upload goes into; make what is missing of its path.

    Where a file stands in a folder's place raises NotAFolder, or, if the upload may be renamed, takes the next numbered
    name, the same one for every upload that comes this way.
    """
    many = MAX_NUMBERED if held.on_conflict == OnConflict.RENAME else 1
    return make_path(drive, held.corp_index, held.parent_id, held.folder, many)[0]


def make_path(
    drive: Drive, corp_index: int, parent_id: str, path: Sequence[str], many: int = 1
) -> tuple[str, bool]:
    """Return the drive's id of the folder at a path of names below `parent_id`, and whether it is new.

    Makes what is missing of the path; tries so `many` numbered names where a file stands in a folder's place, then raises
    NotAFolder.
    """
    is_new = False
    for name in path:
        parent_id, is_new = _step(drive, corp_index, parent_id, name, many)
    return parent_id, is_new


def _step(drive: Drive, corp_index: int, parent_id: str, name: str, many: int) -> tuple[str, bool]:
    is_known_elsewhere = False
    for candidate in (names.numbered(name, number) for number in range(many)):
        with session_scope() as session:
            existing = catalogue.child(session, corp_index, parent_id, candidate)
        if existing is None:
            try:
                return _make_one(drive, corp_index, parent_id, candidate)
            except NotAFolder:
                continue
            except NameTaken:
                is_known_elsewhere = True
                continue
        if existing.kind == Kind.FOLDER:
            return existing.drive_item_id, False
    if is_known_elsewhere:
        raise NameTaken(
            f"another item has the name of the folder {names.printable(name)}, or the one that it gets in the drive"
        )
    raise NotAFolder(f"a file stands where the folder {names.printable(name)} would be")


def _make_one(drive: Drive, corp_index: int, parent_id: str, name: str) -> tuple[str, bool]:
    made = drive.make_folder(parent_id, name)
    new = NewItem(made.id, parent_id, name, Kind.FOLDER, drive_info=made.info)
    try:
        with session_scope() as session:
            folder_id, is_new = catalogue.record_folder(session, corp_index, new)
    except NameTaken:
        drive.remove_empty_folder(made.id)
        raise
    if folder_id != made.id:  # a rival made the same folder in another spelling, and was first
        drive.remove_empty_folder(made.id)
    return folder_id, is_new
