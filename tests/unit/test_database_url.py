"""Every common form of DATABASE_URL, as app.database reads it."""

import logging
import traceback

import pytest

from app.database import engine_url, make_engine
from app.errors import DatabaseRefused

CANARY = "canary-3f1c"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_common_scheme_means_psycopg2(scheme: str) -> None:
    url = engine_url(f"{scheme}://user:secret@db:6432/haulage")

    assert url.drivername == "postgresql+psycopg2"
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "user", "secret", "db", 6432, "haulage",
    )  # fmt: skip


def test_a_percent_encoded_password_is_decoded_once() -> None:
    assert engine_url("postgres://u:p%40ss%2Fw%3Ard%25@db/x").password == "p@ss/w:rd%"


def test_an_ipv6_address_is_a_host() -> None:
    url = engine_url("postgresql://u@[2001:db8::1]:5433/x")

    assert (url.host, url.port, url.query["sslmode"]) == ("2001:db8::1", 5433, "verify-full")


@pytest.mark.parametrize(
    "url", ["postgresql:///x", "postgresql:///x?host=/var/run/postgresql", "postgres://u@/x"]
)
def test_a_local_socket_needs_no_tls(url: str) -> None:
    assert "sslmode" not in engine_url(url).query


@pytest.mark.parametrize("url", ["postgresql:///x?host=db", "postgresql://db/x", "postgresql://127.0.0.1/x"])
def test_tls_is_verified_unless_the_url_says_otherwise(url: str) -> None:
    assert engine_url(url).query["sslmode"] == "verify-full"


def test_several_hosts_are_all_verified() -> None:
    url = engine_url("postgresql://u:p@/x?host=db1:5432&host=db2:5433")

    _, options = make_engine(url.render_as_string(hide_password=False), 2).dialect.create_connect_args(url)

    assert (options["host"], options["port"], options["sslmode"]) == ("db1,db2", "5432,5433", "verify-full")


def test_several_hosts_of_which_some_are_remote_are_not_taken_for_a_local_socket() -> None:
    assert engine_url("postgresql://u@/x?host=/var/run&host=db2").query.get("sslmode") == "verify-full"


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_weaker_tls_is_kept_with_a_warning(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        url = engine_url(f"postgresql://u:{CANARY}@db/x?sslmode={mode}")

    assert url.query["sslmode"] == mode
    assert [f"sslmode={mode}" in one.message for one in caplog.records] == [True]
    assert CANARY not in caplog.text


def test_full_tls_is_kept_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    engine_url("postgresql://db/x?sslmode=verify-full&sslrootcert=/ca.crt")

    assert caplog.records == []


@pytest.mark.parametrize(
    "scheme",
    ["postgresql+asyncpg", "postgresql+psycopg", "postgresql+pg8000", "mysql", "mysql+pymysql", "sqlite"],
)
def test_another_driver_or_database_is_refused_by_name(scheme: str) -> None:
    with pytest.raises(DatabaseRefused, match="psycopg2") as caught:
        engine_url(f"{scheme}://user:{CANARY}@db/x")

    assert scheme in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "rubbish",
        f"user:{CANARY}@db",
        "://",
        "",
        f"postgresql://user:{CANARY}@db:port/x",
        f"postgresql://user:{CANARY}@db1:5432,db2:5432/x",
        f"postgresql:/user:{CANARY}@db/x",
    ],
)
def test_rubbish_is_refused_in_one_sentence_without_the_secret(url: str) -> None:
    with pytest.raises(DatabaseRefused) as caught:
        engine_url(url)

    assert "DATABASE_URL" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_engine_never_shows_its_password() -> None:
    engine = make_engine(f"postgresql://user:{CANARY}@db/x", 2)

    assert CANARY not in repr(engine) + str(engine.url)
    assert engine.hide_parameters
