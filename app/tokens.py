"""Bearer tokens: 256 random bits that name one corporation, kept as their SHA-256."""

import hashlib
import secrets
import zlib
from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.errors import Unauthorised
from app.models import ApiToken

PREFIX = "haulage_"  # so that secret scanners find a token that got loose


def create(session: Session, corp_index: int, label: str, valid_for: timedelta | None = None) -> str:
    """Make a token and return it: the only time that anybody sees it."""
    secret = secrets.token_urlsafe(32)
    token = f"{PREFIX}{secret}{_checksum(secret)}"
    expires_at = None if valid_for is None else func.now() + valid_for
    session.add(ApiToken(corp_index=corp_index, label=label, sha256=_digest(token), expires_at=expires_at))
    return token


def corporation_of(session: Session, token: str) -> int:
    """Return the corp_index of a valid token, or raise Unauthorised."""
    if not _is_well_formed(token):  # a mangled token is told without asking the database
        raise Unauthorised("the token is not one of ours, or was mangled")
    valid = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > func.now())
    found = session.scalar(
        select(ApiToken.corp_index).where(
            ApiToken.sha256 == _digest(token), ApiToken.revoked_at.is_(None), valid
        )
    )
    if found is None:
        raise Unauthorised("the token is unknown, expired or revoked")
    return found


def _is_well_formed(token: str) -> bool:
    secret, checksum = token.removeprefix(PREFIX)[:-8], token[-8:]
    return token.startswith(PREFIX) and token.isascii() and _checksum(secret) == checksum


def _checksum(secret: str) -> str:
    return f"{zlib.crc32(secret.encode()):08x}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
