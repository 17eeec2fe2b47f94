"""Takes the body of a request into staging piece by piece; what does not come in completely leaves nothing behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio import CancelScope, fail_after
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import BadRequest, Incomplete
from app.staging import Draft
from app.web.forms import Form
from app.web.means import Means

PIECE_BYTES = 2**20  # what is handed to a thread at a time: smaller pieces would cost more than they carry
SILENCE_SECONDS = 60
MAX_DOCUMENT_BYTES = 16 * 2**10

Document = TypeVar("Document")


@asynccontextmanager
async def draft(means: Means) -> AsyncIterator[Draft]:
    """Open a draft in staging; what was not kept in the block is removed at its end, however it ends."""
    opened = await means.on_disk(means.staging.draft().__enter__)
    try:
        yield opened
    finally:
        with CancelScope(shield=True):
            await means.on_disk(opened.__exit__)


async def fill(means: Means, draft: Draft, chunks: AsyncIterator[bytes]) -> None:
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            await means.on_disk(draft.write, b"".join(waiting))
            waiting, size = [], 0
    await means.on_disk(draft.write, b"".join(waiting))


async def file_in(request: Request, form: Form | None) -> AsyncIterator[bytes]:
    """Yield the file's bytes; raises Incomplete if they do not all come, or if none come for a minute."""
    async for chunk in _arriving(request):
        yield chunk if form is None else form.feed(chunk)
    if form is not None:
        form.end()


async def document(request: Request, kind: TypeAdapter[Document]) -> Document:
    """Read a small JSON document of a known kind. The framework would read it before it asks who is there."""
    body = b""
    async for chunk in _arriving(request):
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise BadRequest(f"the document has more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error


def documented(kind: TypeAdapter[Document]) -> dict[str, Any]:
    content = {"application/json": {"schema": kind.json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def _arriving(request: Request) -> AsyncIterator[bytes]:
    stream = request.stream()
    while chunk := await _next(stream):
        yield chunk


async def _next(stream: AsyncIterator[bytes]) -> bytes:
    try:
        with fail_after(SILENCE_SECONDS):
            return await anext(stream)  # the last one is empty
    except ClientDisconnect as error:
        raise Incomplete("the connection ended before the body did") from error
    except TimeoutError as error:
        raise Incomplete(f"nothing more of the body came for {SILENCE_SECONDS} seconds") from error
