"""Makes the folders that an upload goes into, in the drive and in the catalogue, each of them once."""

from collections.abc import Iterator

from app import catalogue, names
from app.catalogue import NewItem
from app.database import session_scope
from app.drives.base import Drive
from app.errors import NameTaken, NotAFolder
from app.models import Kind, OnConflict, Upload

MAX_NUMBERED = 100


def make(drive: Drive, held: Upload) -> str:
    """Return the drive's id of the folder that the upload goes into; make what is missing of its path.

    Where a file stands in a folder's place raises NotAFolder, or, if the upload may be renamed, takes the next numbered
    name, the same one for every upload that comes this way.
    """
    parent_id = held.parent_id
    for name in held.folder:
        parent_id = _step(drive, held, parent_id, name)
    return parent_id


def _step(drive: Drive, held: Upload, parent_id: str, name: str) -> str:
    for candidate in _candidates(held, name):
        with session_scope() as session:
            existing = catalogue.child(session, held.corp_index, parent_id, candidate)
        if existing is None:
            try:
                return _make_one(drive, held.corp_index, parent_id, candidate)
            except (NotAFolder, NameTaken):
                continue
        if existing.kind == Kind.FOLDER:
            return existing.drive_item_id
    raise NotAFolder(f"a file stands where the folder {names.printable(name)} would be")


def _candidates(held: Upload, name: str) -> Iterator[str]:
    many = MAX_NUMBERED if held.on_conflict == OnConflict.RENAME else 1
    return (names.numbered(name, number) for number in range(many))


def _make_one(drive: Drive, corp_index: int, parent_id: str, name: str) -> str:
    made = drive.make_folder(parent_id, name)
    new = NewItem(made.id, parent_id, name, Kind.FOLDER, drive_info=made.info)
    try:
        with session_scope() as session:
            folder, is_new = catalogue.record(session, corp_index, new)
            if is_new:
                catalogue.count_in(session, corp_index, parent_id)
    except NameTaken:
        drive.remove_empty_folder(made.id)
        raise
    if folder.drive_item_id != made.id:  # a rival made the same folder in another spelling, and was first
        drive.remove_empty_folder(made.id)
    return folder.drive_item_id
