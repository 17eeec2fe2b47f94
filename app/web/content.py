"""The route of a file's bytes, whole or in part, straight from the drive."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar, TypeVarTuple
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app import asked, catalogue
from app.database import session_scope
from app.drives.base import Drive
from app.errors import DriveUnavailable, NotFound
from app.models import Item, Kind
from app.web import addresses, means, ranges
from app.web.access import Corporation
from app.web.means import Means
from app.web.problems import problem, responses
from app.web.ranges import Part, Unsatisfiable

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

router = APIRouter(tags=["items"])

_BYTES: dict[str, Any] = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
_PARAMETERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": meaning}
    for name, meaning in (
        ("If-None-Match", "The ETag that is known already"),
        ("Range", "One range of bytes, as in `bytes=0-99`; anything else is answered with the whole file"),
        ("If-Range", "The ETag that the range is to be a part of"),
    )
]
_IN_FULL: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file"} | _BYTES,
    304: {"description": "The file is still the one with the ETag that was given"},
}
_IN_PART = {206: {"description": "The part that was asked for"} | _BYTES}


@router.api_route(
    addresses.ITEM + "/content",
    methods=["GET"],
    response_class=StreamingResponse,
    responses=_IN_FULL | _IN_PART | responses(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
    openapi_extra={"parameters": _PARAMETERS},
)
async def send_content(
    request: Request, item_id: str, corp_index: Corporation, mine: means.Given
) -> Response:
    """Send a file as the drive has it, or the range of it that is asked for."""
    item, drive_name = await mine.in_database(_file, corp_index, item_id)
    drive = mine.drives.named(drive_name)
    size_now = await _fetched(mine, drive, item, drive.size_now, item_id)
    size = item.size if size_now is None else size_now
    headers = _headers(item, size)
    if _is_known(request, headers.get("ETag")):
        kept = {name: headers[name] for name in ("ETag", "Cache-Control")}
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)
    if request.method == "HEAD":  # a range is for GET alone (RFC 9110, section 14.2)
        return Response(headers=headers)
    try:
        part = None if size is None else _wanted(request, size, headers.get("ETag"))
    except Unsatisfiable:
        detail = f"the range lies beyond the end of the file, which has {size} bytes"
        beyond = {"Content-Range": f"bytes */{size}"}
        return problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail, beyond)
    status = HTTPStatus.OK
    if part is not None and size is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers |= {"Content-Range": part.as_header(size), "Content-Length": str(part.length)}
    chunks = drive.read(item_id, *((part.first, part.length) if part else ()))
    first = await _fetched(mine, drive, item, next, chunks, b"")
    return StreamingResponse(_stream(mine, drive, first, chunks), status, headers)


# Beside the route above rather than in it: two operations of a document must not share an id.
router.add_api_route(
    addresses.ITEM + "/content",
    send_content,
    methods=["HEAD"],
    response_class=Response,
    name="head_content",
    responses={
        status: {"description": told["description"]} for status, told in (_IN_FULL | responses()).items()
    },
    openapi_extra={"parameters": _PARAMETERS[:1]},
)


def _is_known(request: Request, etag: str | None) -> bool:
    known = request.headers.get("if-none-match", "")
    return etag is not None and not {etag, "*"}.isdisjoint(
        one.strip().removeprefix("W/") for one in known.split(",")
    )


def _wanted(request: Request, size: int, etag: str | None) -> Part | None:
    if request.headers.get("if-range", etag) != etag:
        return None
    return ranges.wanted(request.headers.get("range"), size)


def _file(corp_index: int, item_id: str) -> tuple[Item, str]:
    """Return the file's item, and the name of the drive that it is in. Raises DrivePauses."""
    with session_scope() as session:
        found = catalogue.item(session, corp_index, item_id)
        drive = catalogue.drive_name(session, corp_index)
        if found.kind != Kind.FILE:
            raise NotFound("a folder has no content")
        asked.heed(session, drive, is_look=True)
    return found, drive


async def _fetched(
    mine: Means, drive: Drive, item: Item, ask: Callable[[*Arguments], Result], *arguments: *Arguments
) -> Result:
    """Fetch from the drive while the answer can still be another one."""
    try:
        return await mine.on_drive(drive, ask, *arguments)
    except OSError as error:
        log.exception(
            "item %r of corporation %d: the drive does not give its bytes",
            item.drive_item_id,
            item.corp_index,
        )
        raise DriveUnavailable("the drive does not give this file's bytes at the moment") from error


async def _stream(mine: Means, drive: Drive, first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = await mine.on_drive(drive, next, chunks, b"")


def _headers(item: Item, size: int | None) -> dict[str, str]:
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": _attachment(item.name),
        "X-Content-Type-Options": "nosniff",  # nobody's file becomes a page of ours
        "Accept-Ranges": "none" if size is None else "bytes",
        "Cache-Control": "private, no-cache",  # kept by the asker's own cache alone, which asks whether it still holds
    }
    if size is not None:
        headers["Content-Length"] = str(size)
    is_altered = (item.drive_info or {}).get("verified") == "altered"
    if item.sha256 is not None and size == item.size and not is_altered:
        headers["ETag"] = f'"{item.sha256}"'
    return headers


def _attachment(name: str) -> str:
    """Name the file for everybody (RFC 6266): plain ASCII for old clients, and the name itself."""
    plain = "".join(one if one.isascii() and one.isprintable() and one not in '"\\%' else "_" for one in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
