"""Turns errors into answers: one shape (RFC 9457), and one table from a class of errors to a status."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors
from app.database import is_out_of_reach, is_passing
from app.errors import HaulageError, Postponed, Unauthorised

log = logging.getLogger(__name__)

# Looked up along the ancestors of an error's class.
STATUSES: Mapping[type, HTTPStatus] = {
    errors.HaulageError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.Refused: HTTPStatus.BAD_REQUEST,
    errors.Unauthorised: HTTPStatus.UNAUTHORIZED,
    errors.CorporationUnknown: HTTPStatus.NOT_FOUND,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotPossible: HTTPStatus.CONFLICT,
    errors.NameTaken: HTTPStatus.CONFLICT,
    errors.NotAFolder: HTTPStatus.CONFLICT,
    errors.FolderGone: HTTPStatus.CONFLICT,
    errors.DrivePathTooLong: HTTPStatus.BAD_REQUEST,
    errors.NameRefused: HTTPStatus.BAD_REQUEST,
    errors.Postponed: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DriveFault: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FileForbidden: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StagingFull: HTTPStatus.INSUFFICIENT_STORAGE,
}


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MEDIA_TYPE = "application/problem+json"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {
            "type": "string",
            "description": "Stable, for programs: docs/problems.md says what each one means",
        },
        "detail": {"type": "string", "description": "For people"},
    },
}
# Any route may be asked without a token, for what is not there, in a wrong way, or while PostgreSQL is away.
_EVERYWHERE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def responses(*also: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Document the problems that a route may answer with: those of every route, and `also`."""
    return {int(status): documented(status) for status in (*_EVERYWHERE, *also)}


def documented(status: HTTPStatus, **extra: object) -> dict[str, Any]:
    """Document one problem; `extra` has the schemas of the members that it has beyond those of every other."""
    schema = {**_SCHEMA, "properties": {**_SCHEMA["properties"], **extra}}
    return {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}}


def problem(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **extra: object
) -> Response:
    """Make an answer that tells of a problem; `code` is stable for programs, `detail` is for people."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return JSONResponse(content | extra, status, headers, MEDIA_TYPE)


def told(error: Exception) -> Response:
    """Say what may be said of an error. What nobody foresaw is logged, and told without any of it."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return problem(status, status.name.lower(), str(error.detail), error.headers)
    if isinstance(error, RequestValidationError):
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_parameter", _wrong_parameters(error))
    if is_passing(error):
        return _database_unavailable(error)
    status = _status(type(error))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("A request ended in an error that nobody foresaw", exc_info=error)
        return problem(status, HaulageError.code, "something went wrong here; it has been logged")
    return problem(status, getattr(error, "code", HaulageError.code), str(error), _headers(error))


def _database_unavailable(error: Exception) -> Response:
    why = "out of reach" if is_out_of_reach(error) else "busy with the same thing"
    log.warning("PostgreSQL is %s: %s", why, error)
    detail = f"the database is {why}; try again in a moment"
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", detail, {"Retry-After": "5"})


def _status(kind: type) -> HTTPStatus:
    known = (STATUSES[ancestor] for ancestor in kind.__mro__ if ancestor in STATUSES)
    return next(known, HTTPStatus.INTERNAL_SERVER_ERROR)


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, Unauthorised):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Postponed):
        return {"Retry-After": str(max(1, round(error.delay.total_seconds())))}
    return {}


def _wrong_parameters(error: RequestValidationError) -> str:
    return "; ".join(f"{(one['loc'] or ('body',))[-1]}: {one['msg']}" for one in error.errors())


async def answer(request: Request, error: Exception) -> Response:
    """Stand in for the framework's own answers."""
    response = told(error)
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """Ask every route: the framework's own answer knows only the first one of the path."""
    routes = request.app.router.routes
    return [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for route in routes)
    ]


class Problems:
    """The outermost frame of every request, except for the server's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise  # the server cuts the connection, so that nobody takes half an answer for a whole one
            await told(error)(scope, receive, send)
