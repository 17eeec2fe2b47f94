"""Database tasks: what other applications may ask of the catalogue."""

import re
from functools import partial

from app import asked, catalogue, names, queue
from app.catalogue import NewItem
from app.database import session_scope
from app.errors import BadRequest, DriveHalted, HaulageError
from app.models import Kind
from tasks.means import means
from tasks.patience import patiently


@queue.celery.task(name=queue.RECORD_ITEM, throws=(HaulageError,))
def record_item(  # noqa: PLR0913, PLR0917  the columns of an item
    corp_index: int,
    onedrive_item_id: str,
    parent_id: str,
    name: str,
    kind: str = "file",
    size: int | None = None,
    sha256: str | None = None,
) -> None:
    """Record an item that is in the drive already, and count it; the same item again changes nothing.

    Raises Refused for a name, kind or parent that cannot be, and NameTaken if another item has the name. While the drive
    cannot be asked whether it has the item, the message waits in its queue.
    """
    if (
        kind not in {*Kind}
        or not (size is None or size >= 0)
        or not re.fullmatch("([0-9a-f]{64})?", sha256 or "")
    ):
        raise BadRequest(
            "kind is file or folder, size not negative, sha256 64 hexadecimal digits in lower case"
        )
    if not patiently(lambda: _owned(corp_index, onedrive_item_id)):
        raise BadRequest(f"this cannot be the drive's id of an item of corporation {corp_index}")
    new = NewItem(onedrive_item_id, parent_id, names.check(name), Kind(kind), size, sha256)
    patiently(lambda: _record(corp_index, new))


def _owned(corp_index: int, onedrive_item_id: str) -> bool:
    with session_scope() as session:
        name = catalogue.drive_name(session, corp_index)
        asked.heed(session, name, is_look=True)
    try:
        return means().drives.named(name).owns(corp_index, onedrive_item_id)
    except DriveHalted as error:
        asked.tell(name, error)
        raise
    finally:
        asked.note_soon(means().drives)


def _record(corp_index: int, new: NewItem) -> None:
    with session_scope() as session:
        catalogue.folder(session, corp_index, new.parent_id)
        _, is_new = catalogue.record(session, corp_index, new)
        if is_new:
            catalogue.count_in(session, corp_index, new.parent_id)


@queue.celery.task(name=queue.RECOUNT, throws=(HaulageError,))
def recount(corp_index: int, parent_id: str | None = None) -> None:
    """Set child_count to the number of children, for one folder or, without `parent_id`, for all of a corporation."""
    folder_ids = [parent_id] if parent_id is not None else patiently(lambda: _folder_ids(corp_index))
    for folder_id in folder_ids:
        patiently(partial(_recount, corp_index, folder_id))


def _folder_ids(corp_index: int) -> list[str]:
    with session_scope() as session:
        return list(catalogue.folder_ids(session, corp_index))


def _recount(corp_index: int, folder_id: str) -> None:
    with session_scope() as session:  # one each: the parent's row is locked for as long as a count takes
        catalogue.recount(session, corp_index, folder_id)
