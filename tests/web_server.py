"""A real web server for the length of a block, and clients for it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app import catalogue, database, tokens
from app.drives.filesystem import FilesystemDrive
from tests.installation import CORP, Installation

OTHER_CORP = 8
PROJECT = Path(__file__).parent.parent
UPLOADS = f"/api/v1/corporations/{CORP}/uploads"


@dataclass(frozen=True)
class WebServer:
    installation: Installation
    process: subprocess.Popen[bytes]
    port: int
    token: str
    other_token: str
    log: Path

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        # What is wrong should be seen as it is: no retries, no proxies of the environment.
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20, trust_env=False
        )

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def staged_files(self) -> list[Path]:
        staging = self.installation.staging_dir
        return [*staging.glob("drafts/*"), *staging.glob("kept/??/*")]

    def upload_count(self) -> int:
        return int(self.installation.query("SELECT count(*) FROM corporate.uploads")[0][0])


def start(installation: Installation, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start the server as the web role, which proves its grants."""
    ours = installation.environment | {"DATABASE_URL": installation.environment["WEB_DATABASE_URL"]}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app.web.main:app", "--port", "0"],
            cwd=PROJECT,
            env=os.environ | ours | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def web_server(installation: Installation, **environment: str) -> Iterator[WebServer]:
    log = installation.root / "web.log"
    process = start(installation, log, **environment)
    try:
        port = _port(process, log)
        yield WebServer(installation, process, port, *make_tokens(installation), log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"running on http://127.0.0.1:(\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def make_tokens(installation: Installation) -> tuple[str, str]:
    """Make a token of each of two corporations, of which the second is made here if it is not there."""
    engine = database.short_lived_engine(installation.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        if session.get(catalogue.Corporation, OTHER_CORP) is None:
            root = FilesystemDrive(installation.drive_dir).make_root(OTHER_CORP)
            catalogue.add_corporation(session, OTHER_CORP, "Other", root.id)
            session.flush()
        return tokens.create(session, CORP, "test"), tokens.create(session, OTHER_CORP, "test")
