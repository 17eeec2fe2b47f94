"""Who is asking: a token names one corporation, and a path of any other does not exist for it; or it is an operator's."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError

from app import logs, tokens
from app.database import is_out_of_reach, session_scope
from app.errors import NotFound, Unauthorised
from app.web import means

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
    try:
        whose = await mine.in_database(owner, token)
    except SQLAlchemyError as error:
        if is_out_of_reach(error) and mine.operators.knows(token):
            return  # that PostgreSQL is away is just what an operator wants to be told
        raise
    if whose is not None:
        raise Unauthorised("this needs an operator's token: `haulage token create --operator`")
    mine.operators.note(token)


Corporation = Annotated[int, Depends(_corporation)]
OPERATOR = Depends(_operator)
