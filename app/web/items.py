"""The routes of folders: what they hold, a page at a time."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from app import catalogue, names
from app.database import session_scope
from app.models import Item, Kind
from app.web import addresses, means
from app.web.access import Corporation
from app.web.problems import responses

router = APIRouter(tags=["items"], responses=responses())

After = Annotated[int, Query(ge=0, lt=2**63, description="Where the page before ended")]
Limit = Annotated[int, Query(ge=1, le=1000)]


@dataclass(frozen=True)
class ItemAnswer:
    """`id` is the drive's own id of the item; `size` in bytes."""

    id: str
    name: str
    kind: Kind
    size: int | None
    sha256: str | None
    child_count: int
    content_url: str | None
    children_url: str | None


@dataclass(frozen=True)
class PageAnswer:
    """A folder and some of what it holds; `next` is where to go on, None at the end."""

    folder: ItemAnswer
    items: list[ItemAnswer]
    next: str | None


@router.get(addresses.CORPORATION + "/children")
async def list_by_path(
    corp_index: Corporation, mine: means.Given, path: str = "", after: After = 0, limit: Limit = 100
) -> PageAnswer:
    """List a folder by its path of names ("a/b"); the root without one."""
    return await mine.in_database(_page_by_path, corp_index, path, after, limit)


@router.get(addresses.ITEM + "/children")
async def list_by_id(
    item_id: str, corp_index: Corporation, mine: means.Given, after: After = 0, limit: Limit = 100
) -> PageAnswer:
    return await mine.in_database(_page_by_id, corp_index, item_id, after, limit)


def _page_by_path(corp_index: int, path: str, after: int, limit: int) -> PageAnswer:
    with session_scope() as session:
        return _page(session, catalogue.folder_at(session, corp_index, names.parts(path)), after, limit)


def _page_by_id(corp_index: int, item_id: str, after: int, limit: int) -> PageAnswer:
    with session_scope() as session:
        return _page(session, catalogue.folder(session, corp_index, item_id), after, limit)


def _page(session: Session, folder: Item, after: int, limit: int) -> PageAnswer:
    one_more = catalogue.children(session, folder.corp_index, folder.drive_item_id, after, limit + 1)
    found = one_more[:limit]
    is_last = len(one_more) == len(found)
    return PageAnswer(
        folder=told(folder),
        items=[told(item) for item in found],
        next=None
        if is_last
        else addresses.children(folder.corp_index, folder.drive_item_id, after=found[-1].id, limit=limit),
    )


def told(item: Item) -> ItemAnswer:
    is_file = item.kind == Kind.FILE
    return ItemAnswer(
        id=item.drive_item_id,
        name=item.name,
        kind=Kind(item.kind),
        size=item.size,
        sha256=item.sha256,
        child_count=item.child_count,
        content_url=addresses.content(item.corp_index, item.drive_item_id) if is_file else None,
        children_url=None if is_file else addresses.children(item.corp_index, item.drive_item_id),
    )
