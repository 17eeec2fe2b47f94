"""The routes of uploads: receive a file, and tell what has become of it."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import intake, uploads
from app.database import session_scope
from app.errors import BadRequest
from app.models import State, Upload
from app.web import addresses, means, receiving, wishes
from app.web.access import Corporation
from app.web.forms import MAX_OVERHEAD_BYTES, Form, is_form
from app.web.means import Means

router = APIRouter(tags=["uploads"])


@dataclass(frozen=True)
class UploadAnswer:
    """`folder` is a path of names; `reason` is a stable code, of the failure or of the last setback."""

    id: UUID
    state: State
    name: str
    folder: str
    size: int | None
    sha256: str | None
    attempts: int
    transferred: int
    reason: str | None
    message: str | None
    item_id: str | None
    created_at: datetime
    finished_at: datetime | None
    url: str
    content_url: str | None


@router.post("/corporations/{corp_index}/uploads", status_code=HTTPStatus.ACCEPTED)
async def receive(
    request: Request, response: Response, corp_index: Corporation, mine: means.Given
) -> UploadAnswer:
    """Receive a file: the field `file` of a form, or the body itself with `?name=`.

    `folder`, `parent_id` and `on_conflict` (fail, rename, replace) may come in the query or in the form. Once this is
    answered, the file is safe. With the header Idempotency-Key the same request may be sent again.
    """
    key = _idempotency_key(request)
    wanted = wishes.in_query(request.scope["query_string"])
    content_type = request.headers.get("content-type", "")
    form = Form(content_type, wanted) if is_form(content_type) else None
    await mine.on_disk(mine.staging.make_room, _announced_bytes(request, form))
    if form is None:
        await mine.in_database(wishes.destination, corp_index, wanted)
    upload = await _take_in(mine, corp_index, wanted, key, receiving.file_in(request, form))
    mine.waker.add(upload.id)
    response.headers["Location"] = addresses.upload(corp_index, upload.id)
    return _told(upload, mine)
