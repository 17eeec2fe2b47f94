"""Real servers for the whole run, and one installation of Haulage for each test that asks for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local import servers as local_servers
from local.servers import Servers
from tests.installation import Installation, fresh_installation, make_template


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with local_servers.throwaway(plaintext=True) as running:
        yield running


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """The name of a migrated database that the tests' own are copied from."""
    return make_template(servers)


@pytest.fixture
def installation(
    servers: Servers, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    with fresh_installation(servers, template, tmp_path) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        made.forget_process_state()
        try:
            yield made
        finally:
            made.forget_process_state()


@pytest.fixture(autouse=True)
def _no_stray_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "OWNER_DATABASE_URL", "REDIS_URL", "STAGING_DIR", "INBOX_DIR", "DRIVE_DIR"):
        monkeypatch.delenv(name, raising=False)
    os.environ.setdefault("LC_ALL", "C.UTF-8")
