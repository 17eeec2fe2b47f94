from datetime import timedelta

import pytest

from app import database, tokens
from app.database import Session, session_scope
from app.errors import Unauthorised
from tests.installation import CORP, Installation


def create(installation: Installation, valid_for: timedelta | None = None) -> str:
    engine = database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
    with Session(engine) as session, session.begin():
        return tokens.create(session, CORP, "test", valid_for)


@pytest.fixture(autouse=True)
def _as_web(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", installation.environment["WEB_DATABASE_URL"])
    installation.forget_process_state()


def owner(token: str) -> int:
    with session_scope() as session:
        return tokens.owner(session, token)


def test_a_token_names_its_corporation(installation: Installation) -> None:
    assert owner(create(installation)) == CORP


def test_no_token_is_like_another(installation: Installation) -> None:
    assert create(installation) != create(installation)


def test_the_database_never_holds_a_token(installation: Installation) -> None:
    token = create(installation)

    ((kept,),) = installation.query("SELECT t::text FROM corporate.api_tokens t")

    assert token not in kept
    assert token.removeprefix(tokens.PREFIX)[:20] not in kept


@pytest.mark.parametrize("column", ["expires_at", "revoked_at"])
def test_an_expired_or_revoked_token_opens_nothing(installation: Installation, column: str) -> None:
    token = create(installation, timedelta(hours=1))
    assert owner(token) == CORP
    installation.query(f"UPDATE corporate.api_tokens SET {column} = now() - interval '1 second'")

    with pytest.raises(Unauthorised):
        owner(token)


MANGLED = [
    lambda _: "",
    lambda token: token[:-1],
    lambda token: token + "x",
    lambda token: token.upper(),
    lambda token: token[len(tokens.PREFIX) :],
    lambda _: f"{tokens.PREFIX}{'x' * 43}{tokens._checksum('x' * 43)}",
    lambda token: "\u00e9" + token,
    lambda token: token[:-1] + "\u0661",
    lambda token: "\ud800" + token,
    lambda token: token + "\0",
]


def test_a_mangled_or_made_up_token_opens_nothing(installation: Installation) -> None:
    token = create(installation)

    for mangle in MANGLED:
        with pytest.raises(Unauthorised) as caught:
            owner(mangle(token))

        assert token not in str(caught.value)


def test_a_mangled_token_is_told_without_asking_the_database(installation: Installation) -> None:
    with pytest.raises(Unauthorised):
        tokens.owner(None, "haulage_mangled")  # type: ignore[arg-type]
