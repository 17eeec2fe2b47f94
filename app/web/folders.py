"""The route that makes folders."""

from dataclasses import dataclass
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from app import asked, catalogue, folders, names
from app.database import session_scope
from app.drives.base import Drive
from app.models import Item
from app.web import addresses, means, receiving
from app.web.access import Corporation
from app.web.items import ItemAnswer, told
from app.web.problems import responses

router = APIRouter(tags=["items"])


@dataclass(frozen=True)
class NewFolder:
    """`path` is a path of names, as in a/b, below the folder with the drive's id `parent_id`; or below the root."""

    path: str
    parent_id: str | None = None


_NEW_FOLDER = TypeAdapter(NewFolder)


@router.post(
    addresses.CORPORATION + "/folders",
    status_code=HTTPStatus.CREATED,
    responses=responses(HTTPStatus.CONFLICT)
    | {HTTPStatus.OK: {"description": "It was there already", "model": ItemAnswer}},
    openapi_extra=receiving.documented(_NEW_FOLDER),
)
async def make(
    request: Request, response: Response, corp_index: Corporation, mine: means.Given
) -> ItemAnswer:
    """Make a folder, and what is missing of the path to it; one that is there is the answer too (200)."""
    wanted = await receiving.document(request, _NEW_FOLDER)
    above, name = names.split(wanted.path)
    parent_id, drive_name = await mine.in_database(_parent, corp_index, wanted.parent_id)
    drive = mine.drives.named(drive_name)
    # Both wait: for the drive, and for the database in between.
    made, is_new = await mine.on_drive(drive, _make, drive, corp_index, parent_id, (*above, name))
    if not is_new:
        response.status_code = HTTPStatus.OK
    return told(made)


def _parent(corp_index: int, parent_id: str | None) -> tuple[str, str]:
    """Return the folder's id, and the name of the drive that it is in. Raises DrivePauses."""
    with session_scope() as session:
        parent = parent_id or catalogue.root_id(session, corp_index)
        folder_id = catalogue.folder(session, corp_index, parent).drive_item_id
        drive = catalogue.drive_name(session, corp_index)
        asked.heed(session, drive)
        return folder_id, drive


def _make(drive: Drive, corp_index: int, parent_id: str, path: tuple[str, ...]) -> tuple[Item, bool]:
    made, is_new = folders.make_path(drive, corp_index, parent_id, path)
    with session_scope() as session:
        return catalogue.item(session, corp_index, made), is_new
