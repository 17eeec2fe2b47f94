"""Whether this process is alive, and whether it can do its work: each check has its own short time."""

import logging
from collections.abc import Callable
from http import HTTPStatus

from anyio import CapacityLimiter, create_task_group, move_on_after, to_thread
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from app import queue, readiness, schema
from app.errors import Unfit
from app.web import means
from app.web.problems import documented, problem

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

ANSWER_SECONDS = 1.5
_CHECKED = {name: {"type": "string"} for name in ("database", "staging", "redis")}
_threads = CapacityLimiter(6)  # of their own, so that a busy process can still be asked


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer while the process is alive; nothing else is asked."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: documented(HTTPStatus.SERVICE_UNAVAILABLE, **_CHECKED)})
async def readyz(mine: means.Given) -> Response:
    """Say whether uploads can be accepted. Redis need not be there for that: the sweep wakes them later."""
    found: dict[str, str] = {}
    async with create_task_group() as checks:
        checks.start_soon(_ask, found, "database", _database)
        checks.start_soon(_ask, found, "staging", lambda: _staging(mine))
        checks.start_soon(_ask, found, "redis", _redis)
    wrong = next((name for name in ("database", "staging") if found[name] != "ok"), None)
    if wrong is None:
        return JSONResponse({"status": "ready"} | found)
    code = f"{wrong}_unavailable" if found[wrong] == "unreachable" else found[wrong]
    detail, headers = "uploads cannot be accepted now", {"Retry-After": "5"}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers, **found)


async def _ask(found: dict[str, str], name: str, check: Callable[[], str]) -> None:
    found[name] = "unreachable"
    with move_on_after(ANSWER_SECONDS):
        found[name] = await to_thread.run_sync(check, limiter=_threads, abandon_on_cancel=True)


def _database() -> str:
    return _code_of(schema.check)


def _staging(mine: means.Means) -> str:
    return _code_of(lambda: readiness.check_staging(mine.staging))


def _code_of(check: Callable[[], None]) -> str:
    try:
        check()
    except Unfit as error:
        log.warning("not ready: %s", error)
        return error.code
    except (SQLAlchemyError, OSError) as error:
        log.warning("not ready: %s", error)
        return "unreachable"
    return "ok"


def _redis() -> str:
    try:
        queue.waiting()
    except queue.UNREACHABLE:
        return "unreachable"
    return "ok"
