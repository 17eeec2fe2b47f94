"""The routes of uploads: receive a file, tell what has become of it, list, cancel and retry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response

from app import intake, listing, pauses, results, steering, uploads
from app.database import session_scope
from app.errors import BadRequest
from app.listing import Cursor
from app.models import DriveState, State, Upload
from app.web import addresses, means, receiving, wishes
from app.web.access import Corporation
from app.web.forms import FILE_FIELD, MAX_OVERHEAD_BYTES, Form, is_form
from app.web.problems import responses

router = APIRouter(tags=["uploads"], responses=responses())


@dataclass(frozen=True)
class UploadAnswer:
    """`folder` is a path of names; `reason` is a stable code, of the failure, of the last setback or of the drive's pause.

    `transferred` counts bytes; speed and time left are those of the transfer under way, as far as they are known.
    """

    id: UUID
    state: State
    name: str
    folder: str
    size: int | None
    sha256: str | None
    attempts: int
    transferred: int
    bytes_per_second: float | None
    seconds_left: float | None
    reason: str | None
    message: str | None
    item_id: str | None
    request_id: str | None
    created_at: datetime
    finished_at: datetime | None
    url: str
    content_url: str | None


@dataclass(frozen=True)
class UploadsAnswer:
    """Some of the uploads, the newest first; `next` is where to go on, None at the end."""

    uploads: list[UploadAnswer]
    next: str | None


@dataclass(frozen=True)
class RetriedAnswer:
    """`retried` are queued again, a thousand at a time at most; `left` are failed uploads that can still be retried."""

    retried: int
    left: int


@router.post(
    addresses.CORPORATION + "/uploads",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.INSUFFICIENT_STORAGE),
    openapi_extra=wishes.DOCUMENTED,
)
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
    upload = await mine.in_database(intake.accept, mine.staging, to, staged, key, request.scope["request_id"])
    mine.waker.add(upload.id)
    response.headers["Location"] = addresses.upload(corp_index, upload.id)
    return told(upload)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest("an Idempotency-Key has 1 to 255 printable ASCII characters")
    return key


def _announced_bytes(request: Request, form: Form | None) -> int:
    """Return how long the file is at least, as far as the request says so; 0 for a body of unknown length."""
    announced = int(request.headers.get("content-length", "0"))
    return announced if form is None else max(0, announced - MAX_OVERHEAD_BYTES)


@router.get(addresses.CORPORATION + "/uploads")
async def list_uploads(
    corp_index: Corporation,
    mine: means.Given,
    state: Annotated[list[State] | None, Query(description="Only these; all if none is given")] = None,
    cursor: Annotated[str | None, Query(description="Where the page before ended")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> UploadsAnswer:
    """List uploads, the newest first."""
    states = sorted(set(state or ()))
    behind = None if cursor is None else Cursor.from_text(cursor)
    one_more, paused = await mine.in_database(_list, corp_index, states, behind, limit + 1)
    found = one_more[:limit]
    following = None
    if len(one_more) > limit:
        last = Cursor(found[-1].created_at, found[-1].id).as_text()
        following = addresses.uploads(
            corp_index, state=[str(one) for one in states], cursor=last, limit=limit
        )
    return UploadsAnswer([told(upload, paused) for upload in found], following)


def _list(
    corp_index: int, states: list[State], behind: Cursor | None, limit: int
) -> tuple[Sequence[Upload], Mapping[str, DriveState]]:
    with session_scope() as session:
        return listing.page(session, corp_index, states, behind, limit), pauses.now(session)


@router.get(addresses.CORPORATION + "/uploads/{upload_id}")
async def show(upload_id: UUID, corp_index: Corporation, mine: means.Given) -> UploadAnswer:
    return told(*await mine.in_database(_find, corp_index, upload_id))


def _find(corp_index: int, upload_id: UUID) -> tuple[Upload, Mapping[str, DriveState]]:
    with session_scope() as session:
        return uploads.get(session, corp_index, upload_id), pauses.now(session)


@router.post(addresses.CORPORATION + "/uploads/{upload_id}/cancel", responses=responses(HTTPStatus.CONFLICT))
async def cancel(
    upload_id: UUID, corp_index: Corporation, mine: means.Given, afterwards: BackgroundTasks
) -> UploadAnswer:
    """Cancel an upload: at once where it waits; one that is being transferred ends at its next step."""
    changed = await mine.in_database(_change, steering.cancel, corp_index, upload_id)
    if changed.task_id is not None:
        afterwards.add_task(results.report, upload_id)  # it may wait for Redis, and the answer does not
    return told(changed)


@router.post(addresses.CORPORATION + "/uploads/{upload_id}/retry", responses=responses(HTTPStatus.CONFLICT))
async def retry(upload_id: UUID, corp_index: Corporation, mine: means.Given) -> UploadAnswer:
    """Queue a failed upload again, with all its attempts."""
    changed = await mine.in_database(_change, steering.retry, corp_index, upload_id)
    mine.waker.add(upload_id)
    return told(changed)


def _change(change: steering.Change, corp_index: int, upload_id: UUID) -> Upload:
    with session_scope() as session:
        changed = change(session, corp_index, upload_id)
        session.flush()
        session.refresh(changed)
        return changed


@router.post(addresses.CORPORATION + "/retry-failed")
async def retry_failed(corp_index: Corporation, mine: means.Given) -> RetriedAnswer:
    """Queue failed uploads again, those that failed first; ask again while `left` says that there are more."""
    retried, left = await mine.in_database(_retry_failed, corp_index)
    for upload_id in retried:
        mine.waker.add(upload_id)
    return RetriedAnswer(len(retried), left)


def _retry_failed(corp_index: int) -> tuple[list[UUID], int]:
    with session_scope() as session:
        retried = [upload.id for upload in steering.retry_failed(session, corp_index)]
        session.flush()
        return retried, steering.retriable(session, corp_index)


def told(upload: Upload, paused: Mapping[str, DriveState] | None = None) -> UploadAnswer:
    return UploadAnswer(
        **listing.describe(upload, paused),
        url=addresses.upload(upload.corp_index, upload.id),
        content_url=upload.item_id and addresses.content(upload.corp_index, upload.item_id),
    )
