"""Bearer tokens: 256 random bits that name one corporation, or an operator; kept as their SHA-256."""

import hashlib
import secrets
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.errors import NotFound, Unauthorised
from app.models import ApiToken

PREFIX = "haulage_"  # so that secret scanners find a token that got loose


def create(session: Session, corp_index: int | None, label: str, valid_for: timedelta | None = None) -> str:
    """Make a token and return it: the only time that anybody sees it. None makes an operator's."""
    secret = secrets.token_urlsafe(32)
    token = f"{PREFIX}{secret}{_checksum(secret)}"
    expires_at = None if valid_for is None else func.now() + valid_for
    session.add(ApiToken(corp_index=corp_index, label=label, sha256=digest(token), expires_at=expires_at))
    return token


def owner(session: Session, token: str) -> int | None:
    """Return the corp_index of a valid token, None if it is an operator's; or raise Unauthorised."""
    if not _is_well_formed(token):  # a mangled token is told without asking the database
        raise Unauthorised("the token is not one of ours, or was mangled")
    valid = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > func.now())
    found = session.execute(
        select(ApiToken.corp_index).where(
            ApiToken.sha256 == digest(token), ApiToken.revoked_at.is_(None), valid
        )
    ).one_or_none()
    if found is None:
        raise Unauthorised("the token is unknown, expired or revoked")
    corp_index: int | None = found.corp_index
    return corp_index


@dataclass(frozen=True)
class Known:
    """What may be told of a token."""

    id: UUID
    corp_index: int | None
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def all_of_them(session: Session) -> list[Known]:
    """Return what may be told of every token, the oldest first."""
    return [
        Known(one.id, one.corp_index, one.label, one.created_at, one.expires_at, one.revoked_at)
        for one in session.scalars(select(ApiToken).order_by(ApiToken.created_at))
    ]


def revoke(session: Session, token_id: UUID) -> None:
    """Revoke a token for good; one that is revoked already stays as it is. Raises NotFound."""
    found = session.get(ApiToken, token_id)
    if found is None:
        raise NotFound("there is no token with that id; `haulage token list` shows them")
    if found.revoked_at is None:
        found.revoked_at = func.now()


def _is_well_formed(token: str) -> bool:
    secret, checksum = token.removeprefix(PREFIX)[:-8], token[-8:]
    return token.startswith(PREFIX) and token.isascii() and _checksum(secret) == checksum


def _checksum(secret: str) -> str:
    return f"{zlib.crc32(secret.encode()):08x}"


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
