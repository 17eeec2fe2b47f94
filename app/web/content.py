"""The route of a file's bytes, straight from the drive."""

import logging
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from app import catalogue
from app.database import session_scope
from app.errors import DriveUnavailable, NotFound
from app.models import Item, Kind
from app.web import addresses, means
from app.web.access import Corporation
from app.web.means import Means

log = logging.getLogger(__name__)

router = APIRouter(tags=["items"])


@router.get(addresses.ITEM + "/content", response_class=StreamingResponse)
async def send_content(item_id: str, corp_index: Corporation, mine: means.Given) -> Response:
    """Send a file as the drive has it."""
    item = await mine.in_database(_file, corp_index, item_id)
    chunks = mine.drive.read(item_id)
    first = await _first(mine, item, chunks)
    return StreamingResponse(_stream(mine, first, chunks), headers=_headers(item))


def _file(corp_index: int, item_id: str) -> Item:
    with session_scope() as session:
        found = catalogue.item(session, corp_index, item_id)
    if found.kind != Kind.FILE:
        raise NotFound("a folder has no content")
    return found


async def _first(mine: Means, item: Item, chunks: Iterator[bytes]) -> bytes:
    """Fetch the first bytes while the answer can still be another one."""
    try:
        return await mine.on_drive(next, chunks, b"")
    except OSError as error:
        log.exception(
            "item %r of corporation %d: the drive does not give its bytes",
            item.drive_item_id,
            item.corp_index,
        )
        raise DriveUnavailable("the drive does not give this file's bytes at the moment") from error


async def _stream(mine: Means, first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = await mine.on_drive(next, chunks, b"")


def _headers(item: Item) -> dict[str, str]:
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": _attachment(item.name),
        "X-Content-Type-Options": "nosniff",  # nobody's file becomes a page of ours
    }
    if item.size is not None:
        headers["Content-Length"] = str(item.size)
    if item.sha256 is not None:
        headers["ETag"] = f'"{item.sha256}"'
    return headers


def _attachment(name: str) -> str:
    """Name the file for everybody (RFC 6266): plain ASCII for old clients, and the name itself."""
    plain = "".join(one if one.isascii() and one.isprintable() and one not in '"\\%' else "_" for one in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
