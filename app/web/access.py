"""Who is asking: a bearer token names one corporation, and a path of any other does not exist for it."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app import tokens
from app.database import session_scope
from app.errors import NotFound, Unauthorised
from app.web import means

_bearer = HTTPBearer(auto_error=False, description="A token made with `haulage token`")


async def _corporation(
    corp_index: str,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    mine: means.Given,
) -> int:
    if given is None:
        raise Unauthorised("a token is needed, as in `Authorization: Bearer haulage_...`")
    known = await mine.in_database(_corporation_of, given.credentials)
    if corp_index != str(known):
        raise NotFound("there is no such corporation for this token")
    return known


def _corporation_of(token: str) -> int:
    with session_scope() as session:
        return tokens.corporation_of(session, token)


Corporation = Annotated[int, Depends(_corporation)]
