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
from app.web.forms import FILE_FIELD, MAX_OVERHEAD_BYTES, Form, is_form

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


@router.post(addresses.CORPORATION + "/uploads", status_code=HTTPStatus.ACCEPTED)
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
    # A form names its file later; everything else is checked before the body is read.
    early = wanted if form is None else {"name": FILE_FIELD} | wanted
    to = await mine.in_database(wishes.destination, corp_index, early)
    async with receiving.draft(mine) as draft:
        await receiving.fill(mine, draft, receiving.file_in(request, form))
        if form is not None:
            to = await mine.in_database(wishes.destination, corp_index, wanted)
        staged = await mine.on_disk(draft.keep)
    upload = await mine.in_database(intake.accept, mine.staging, to, staged, key)
    mine.waker.add(upload.id)
    response.headers["Location"] = addresses.upload(corp_index, upload.id)
    return _told(upload)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest("an Idempotency-Key has 1 to 255 printable ASCII characters")
    return key


def _announced_bytes(request: Request, form: Form | None) -> int:
    """Return how long the file is at least, as far as the request says so; 0 for a body of unknown length."""
    announced = int(request.headers.get("content-length", "0"))
    return announced if form is None else max(0, announced - MAX_OVERHEAD_BYTES)


@router.get(addresses.CORPORATION + "/uploads/{upload_id}")
async def show(upload_id: UUID, corp_index: Corporation, mine: means.Given) -> UploadAnswer:
    return _told(await mine.in_database(_find, corp_index, upload_id))


def _find(corp_index: int, upload_id: UUID) -> Upload:
    with session_scope() as session:
        return uploads.get(session, corp_index, upload_id)


def _told(upload: Upload) -> UploadAnswer:
    return UploadAnswer(
        id=upload.id,
        state=State(upload.state),
        name=upload.name,
        folder="/".join(upload.folder),
        size=upload.size,
        sha256=upload.sha256,
        attempts=upload.attempts,
        transferred=upload.transferred,
        reason=upload.reason,
        message=upload.message,
        item_id=upload.item_id,
        created_at=upload.created_at,
        finished_at=upload.finished_at,
        url=addresses.upload(upload.corp_index, upload.id),
        content_url=upload.item_id and addresses.content(upload.corp_index, upload.item_id),
    )
