from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import BadSettings
from app.settings import Settings, settings

CANARY = "canary-3f1c"
GOOD = {
    "DATABASE_URL": f"postgresql://user:{CANARY}@db/haulage",
    "REDIS_URL": f"rediss://:{CANARY}@redis/0?ssl_cert_reqs=required",
    "STAGING_DIR": "/srv/staging",
    "INBOX_DIR": "/srv/inbox",
    "DRIVE_DIR": "/srv/drive",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


def refusal() -> str:
    with pytest.raises(BadSettings) as caught:
        settings()
    error: BaseException | None = caught.value
    assert error is not None
    assert error.__cause__ is None
    assert error.__suppress_context__
    return str(error)


def test_five_variables_are_enough(environment: pytest.MonkeyPatch) -> None:
    chosen = settings()

    assert (chosen.staging_dir, chosen.inbox_dir, chosen.drive_dir) == (
        Path("/srv/staging"),
        Path("/srv/inbox"),
        Path("/srv/drive"),
    )


def test_the_environment_is_read_once(environment: pytest.MonkeyPatch) -> None:
    before = settings()

    environment.setenv("DRIVE_DIR", "/srv/other")

    assert settings() is before


def test_settings_cannot_be_changed(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().lease_seconds = 1


def test_an_empty_environment_is_told_in_one_message_that_names_every_variable(
    environment: pytest.MonkeyPatch,
) -> None:
    for name in GOOD:
        environment.delenv(name)

    message = refusal()

    assert all(f"{name} is not set" in message for name in GOOD)
    assert "5 problem(s)" in message


def test_every_problem_is_in_the_one_message_and_no_secret_is(environment: pytest.MonkeyPatch) -> None:
    wrong = {
        "REDIS_URL": f"amqp://user:{CANARY}@redis",
        "STAGING_DIR": "staging",
        "LEASE_SECONDS": "0",
        "MAX_ATTEMPTS": f"{CANARY}",
        "DB_POOL_SIZE": "1",
        "DB_POOL_RESET_ON_RETURN": "maybe",
        "DB_ECHO_POOL": CANARY,
        "STAGING_RESERVE_BYTES": "-1",
    }
    for name, value in wrong.items():
        environment.setenv(name, value)

    message = refusal()

    assert [name for name in wrong if f"  {name}: " not in message] == []
    assert f"{len(wrong)} problem(s)" in message
    assert CANARY not in message


def test_no_secret_shows_in_the_settings_own_text(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OWNER_DATABASE_URL", f"postgresql://owner:{CANARY}@db/haulage")

    assert CANARY not in repr(settings()) + str(settings())


@pytest.mark.parametrize("value", ["none", "NONE", "CERT_NONE", "cert_none"])
def test_a_redis_url_that_asks_for_tls_without_checking_is_refused(
    environment: pytest.MonkeyPatch, value: str
) -> None:
    environment.setenv("REDIS_URL", f"rediss://:{CANARY}@redis/0?ssl_cert_reqs={value}")

    message = refusal()

    assert "without checking the certificate" in message
    assert CANARY not in message


@pytest.mark.parametrize("value", ["false", "False", "no", "0"])
def test_a_redis_url_that_takes_anybodys_certificate_is_refused(
    environment: pytest.MonkeyPatch, value: str
) -> None:
    environment.setenv(
        "REDIS_URL", f"rediss://:{CANARY}@redis/0?ssl_cert_reqs=required&ssl_check_hostname={value}"
    )

    assert "whose certificate" in refusal()


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0?ssl_cert_reqs=required"])
def test_other_redis_urls_are_taken(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("REDIS_URL", url)

    assert settings().redis_url == url


def test_an_empty_database_url_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "")

    assert "DATABASE_URL: " in refusal()


def test_a_url_with_tls_says_how_the_certificate_is_checked(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "rediss://h/0")

    with pytest.raises(BadSettings, match="ssl_cert_reqs=required"):
        settings()
