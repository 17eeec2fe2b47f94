"""Real servers for the whole run, and one installation of Haulage for each test that asks for it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import servers as local_servers
from local.servers import Servers
from tests.installation import Installation, fresh_installation, make_database


def pytest_configure() -> None:
    """Let Ctrl-C end what tests start, and the tests: a shell has its background jobs ignore it, and theirs inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with local_servers.throwaway(plaintext=True) as running:
        yield running


@pytest.fixture(scope="session")
def database_name(servers: Servers) -> str:
    return make_database(servers)


@pytest.fixture
def installation(
    servers: Servers, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    made = fresh_installation(servers, database_name, tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    made.forget_process_state()
    yield made
    made.forget_process_state()


@pytest.fixture(autouse=True)
def _no_stray_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "OWNER_DATABASE_URL", "REDIS_URL", "STAGING_DIR", "INBOX_DIR", "DRIVE_DIR"):
        monkeypatch.delenv(name, raising=False)
    os.environ.setdefault("LC_ALL", "C.UTF-8")
