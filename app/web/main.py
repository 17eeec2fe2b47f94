"""Entry point of `uvicorn app.web.main:app`: the application, and what its process does at its start and its end."""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import asked, database, logs, readiness
from app.errors import DatabaseRefused, Unfit
from app.settings import Settings, settings
from app.web import (
    addresses,
    content,
    folders,
    health,
    items,
    means,
    metrics,
    operations,
    pages,
    problems,
    uploads,
)
from app.web.means import Means
from app.web.page_answers import Pages
from app.web.problems import Problems
from app.web.request_ids import RequestIds
from app.web.unread import Unread


class State(TypedDict):
    means: Means


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    chosen = settings()
    logs.configure(chosen.log_format, logging.INFO)
    for name in ("uvicorn", "uvicorn.access"):  # the server's own loggers have handlers of their own
        logs.adorn(logging.getLogger(name), chosen.log_format)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it speaks whenever somebody asks for /readyz
    database.play("web", pool_size=chosen.web_pool_size)
    await to_thread.run_sync(_check, chosen)
    mine = means.make(chosen)
    mine.waker.start()
    try:
        yield {"means": mine}
    finally:
        await to_thread.run_sync(mine.waker.stop)
        await to_thread.run_sync(asked.note_at_end)
        database.dispose()


def _check(chosen: Settings) -> None:
    try:
        readiness.check(chosen, chosen.web_pool_size)
    except SQLAlchemyError as error:
        if database.is_out_of_reach(error):
            raise DatabaseRefused(f"PostgreSQL is out of reach: {str(error).splitlines()[0]}") from error
        raise


class OneSentence:
    """Has the server say in one sentence why a process must not run; the framework would hand it a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            reason = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(reason, Unfit):
                message = {**message, "message": str(reason)}
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "lifespan" else send)


app = FastAPI(
    title="Haulage",
    lifespan=lifespan,
    docs_url=None,  # both pages would load their scripts from somebody else's server
    redoc_url=None,
    redirect_slashes=False,
    exception_handlers={HTTPException: problems.answer, RequestValidationError: problems.answer},
)
app.include_router(uploads.router, prefix=addresses.API)
app.include_router(items.router, prefix=addresses.API)
app.include_router(folders.router, prefix=addresses.API)
app.include_router(content.router, prefix=addresses.API)
app.include_router(health.router)
app.include_router(metrics.router)
app.include_router(pages.router)
app.include_router(operations.router)
app.add_middleware(Problems)  # the last one added is the outermost
app.add_middleware(Pages)
app.add_middleware(Unread)
app.add_middleware(RequestIds)
app.add_middleware(OneSentence)
