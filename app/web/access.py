"""Who is asking: a token names one corporation, and a path of any other does not exist for it; or it is an operator's."""

import logging
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError

from app import logs, tokens
from app.database import is_out_of_reach, session_scope
from app.errors import NotFound, Unauthorised
from app.web import means

log = logging.getLogger(__name__)

COOKIE = "haulage_token"
# Only a script of our own page can send it: a foreign page would have to ask first, and is not answered.
PAGE_HEADER = "X-Haulage-Page"
_READING = ("GET", "HEAD")

_bearer = HTTPBearer(auto_error=False, description="A token made with `haulage token`")
_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    description=f"The page's own way; a request that changes something needs the header {PAGE_HEADER} too",
)


def _token(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> str:
    if given is not None:
        return given.credentials
    if cookie and (request.method in _READING or PAGE_HEADER in request.headers):
        return cookie
    raise Unauthorised("a token is needed, as in `Authorization: Bearer haulage_...`")


Token = Annotated[str, Depends(_token)]


async def _corporation(corp_index: str, token: Token, mine: means.Given) -> int:
    known = await mine.in_database(owner, token)
    if known is None or corp_index != str(known):
        raise NotFound("there is no such corporation for this token")
    logs.note(corporation=known)
    return known


def owner(token: str) -> int | None:
    """Return the corp_index of a valid token, None if it is an operator's; or raise Unauthorised."""
    with session_scope() as session:
        return tokens.owner(session, token)


async def _operator(token: Token, mine: means.Given) -> None:
    if await mine.in_database(owner, token) is not None:
        raise Unauthorised("this needs an operator's token: `haulage token create --operator`")
    mine.operators.note(token)


async def _is_database_up(token: Token, mine: means.Given) -> bool:
    """Let an operator in, and return False if PostgreSQL was just found out of reach: there is no use in asking again."""
    try:
        await _operator(token, mine)
    except SQLAlchemyError as error:
        if not is_out_of_reach(error) or not mine.operators.knows(token):
            raise
        # Believed as long as the outage lasts, though it may have been revoked just before: all that it is told by then
        # is that PostgreSQL is away.
        mine.operators.note(token)
        log.warning("PostgreSQL is out of reach: %s", error)
        return False
    return True


Corporation = Annotated[int, Depends(_corporation)]
OPERATOR = Depends(_operator)
IsDatabaseUp = Annotated[bool, Depends(_is_database_up)]
