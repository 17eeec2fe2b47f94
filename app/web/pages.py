"""The routes of the page: its door, and a corporation's files."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import AwareDatetime

from app.database import session_scope
from app.errors import BadRequest, Unauthorised
from app.web import access, addresses, means, page_files, page_shell, receiving
from app.web.page_answers import beyond_the_door
from app.web.page_files import Shown

router = APIRouter(include_in_schema=False)
router.add_api_route(page_shell.STATIC, page_shell.static, methods=["GET"])

MAX_FORM_BYTES = 4096
MAX_FORM_FIELDS = 10
ENDED = "Your token has expired or was revoked, so you have been signed out. Sign in with another one."
REFUSED = "This is no token that is good now: it is unknown, expired or revoked, or a part of it is missing."
NOTHING = "Paste your token first: it begins with haulage_."
ELSEWHERE = "That form was sent from another site, so nothing was done. Open Haulage's own page and use the form there."


@router.get("/")
async def door(request: Request, mine: means.Given, then: str = "") -> Response:
    """Let those in who have a token already, and show the others where to put one."""
    token = request.cookies.get(access.COOKIE)
    if token is None:
        return page_shell.render("sign_in.html", told=None, then=then)
    try:
        return _in(await mine.in_database(access.owner, token), then)
    except Unauthorised:
        page = page_shell.render("sign_in.html", HTTPStatus.UNAUTHORIZED, told=ENDED, then=then)
        _forget(request, page)
        return page


@router.post("/sign-in")
async def sign_in(request: Request, mine: means.Given) -> Response:
    """Keep a good token in a cookie that no script can read and no other site can use."""
    if not _is_ours(request):
        return _sent_from_elsewhere()
    fields = await _fields(request)
    token, then = fields.get("token", "").strip(), fields.get("then", "")
    if not token:
        return page_shell.render("sign_in.html", HTTPStatus.BAD_REQUEST, told=NOTHING, then=then)
    try:
        whose = await mine.in_database(access.owner, token)
    except Unauthorised:
        return page_shell.render("sign_in.html", HTTPStatus.UNAUTHORIZED, told=REFUSED, then=then)
    let_in = _in(whose, then)
    let_in.set_cookie(access.COOKIE, token, httponly=True, samesite="strict", secure=_is_secure(request))
    return let_in


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    if not _is_ours(request):
        return _sent_from_elsewhere()
    left = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    _forget(request, left)
    return left


def _in(whose: int | None, then: str) -> Response:
    house = "/operations" if whose is None else "/files"
    wanted = beyond_the_door(then)
    return RedirectResponse(
        wanted if wanted is not None and wanted.startswith(house) else house, HTTPStatus.SEE_OTHER
    )


def _forget(request: Request, answer: Response) -> None:
    answer.delete_cookie(access.COOKIE, httponly=True, samesite="strict", secure=_is_secure(request))


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _is_ours(request: Request) -> bool:
    """True if a form was sent by a page of ours. Browsers say so in one of two headers, which no page can forge."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    # Sent by older browsers, and by all without TLS. A proxy may have ended the TLS, so the scheme may differ.
    return urlsplit(request.headers.get("origin", "")).netloc == request.headers.get("host")


def _sent_from_elsewhere() -> Response:
    return page_shell.render("sign_in.html", HTTPStatus.FORBIDDEN, told=ELSEWHERE, then="")


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in receiving.file_in(request, None):
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise BadRequest(f"the form has more than {MAX_FORM_BYTES} bytes")
    try:
        found = parse_qs(body.decode("ascii", errors="replace"), max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise BadRequest(f"the form has more than {MAX_FORM_FIELDS} fields") from error
    return {name: values[-1] for name, values in found.items()}


async def _corporation(token: access.Token, mine: means.Given) -> int:
    """Return whose files are shown; an operator has none, and is sent to the door like a stranger."""
    whose = await mine.in_database(access.owner, token)
    if whose is None:
        raise Unauthorised("this needs a corporation's token")
    return whose


@router.get("/files")
async def files(
    corp_index: Annotated[int, Depends(_corporation)],
    mine: means.Given,
    path: str = "",
    after: str = "",
    since: Annotated[AwareDatetime | None, Query()] = None,
) -> Response:
    """Show a folder, and the uploads on their way; `since` counts what became of those that came later."""
    shown = await mine.in_database(_read, corp_index, path, after, since and _in_utc(since))
    return page_shell.render(
        "files.html",
        corporation=shown.corporation,
        folder=shown.folder,
        uploads=shown.uploads,
        pause=shown.pause,
        api=f"{addresses.API}{addresses.CORPORATION.format(corp_index=corp_index)}",
        page_header=access.PAGE_HEADER,
    )


def _in_utc(moment: datetime) -> datetime:
    """Say it without an offset: PostgreSQL takes fewer of them than Python does."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise BadRequest("since is a moment that no clock shows") from error


def _read(corp_index: int, path: str, after: str, since: datetime | None) -> Shown:
    with session_scope() as session:
        return page_files.read(session, corp_index, path, after, since)
