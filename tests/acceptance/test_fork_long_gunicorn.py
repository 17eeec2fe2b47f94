"""gunicorn with --preload, in an environment of its own: one copied file keeps its workers apart; without it they break."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from local.servers import Servers
from local.system import free_port
from tests import environments
from tests.acceptance.conftest import KNOWN_FAULTS, wait_until
from tests.acceptance.evidence import crossing, port_of, used_by_several

pytestmark = pytest.mark.prove

SAMPLE = Path(__file__).parent / "samples" / "long_gunicorn.py"
REQUESTS = 200
ANSWERED = (urllib.error.URLError, ConnectionError, TimeoutError)


class Site:
    """A running gunicorn, its folder and its log."""

    def __init__(self, servers: Servers, folder: Path, **extra: str) -> None:
        self.servers, self.folder, port = servers, folder, free_port()
        self.address = f"http://127.0.0.1:{port}/"
        self.server_log_began = servers.postgres_log.stat().st_size
        shutil.copy(SAMPLE, folder / "site_of_tests.py")
        shutil.copy(environments.ROOT / "app" / "forksafe.py", folder)
        url = make_url(servers.worker_url).set(drivername="postgresql+psycopg2")
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "PYTHONDONTWRITEBYTECODE": "1",
            **extra,
        }
        options = ["--preload", "--workers", "3", "--max-requests", "20", "--bind", f"127.0.0.1:{port}"]
        command = [environments.interpreter("gunicorn"), "-m", "gunicorn", *options]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--config", "python:site_of_tests", "site_of_tests:application"],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask(self, _: object = None) -> dict[str, Any]:
        """Ask with a marker; say what came back and whether it was the answer to this question."""
        marker = uuid4().hex
        with urllib.request.urlopen(f"{self.address}?{marker}", timeout=20) as response:
            said = json.load(response)
        return {**said, "right": said["answer"] == marker}

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        with suppress(*ANSWERED):
            return self.ask()["right"]
        return False

    def parents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "parent").read_text().splitlines()]

    def log(self) -> str:
        with self.servers.postgres_log.open("rb") as file:
            file.seek(self.server_log_began)
            of_the_server = file.read().decode(errors="replace")
        return (self.folder / "log").read_text(errors="replace") + of_the_server


@pytest.fixture
def start(servers: Servers, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    started = []

    def begin(**extra: str) -> Site:
        started.append(Site(servers, tmp_path, **extra))
        return started[0]

    yield begin
    for site in started:
        with suppress(ProcessLookupError):
            os.killpg(site.process.pid, signal.SIGKILL)
        site.process.wait()


def test_preloaded_workers_share_nothing(start: Callable[..., Site]) -> None:
    site = start(FORKSAFE="1")
    wait_until(site.answers, "it answers")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(site.ask, range(REQUESTS)))
    port = port_of(site.servers.worker_url)
    wait_until(lambda: crossing(site.process.pid, port) == {}, "no socket towards PostgreSQL has two owners")
    site.process.terminate()
    assert site.process.wait(60) == 0

    assert all(one["right"] for one in answers)
    parents = site.parents()
    assert {one["process"] for one in parents} == {site.process.pid}
    assert len({one["process"] for one in answers}) > 3, "workers were replaced"
    assert used_by_several((one["session"], str(one["process"])) for one in [*answers, *parents]) == {}
    assert KNOWN_FAULTS.findall(site.log()) == []
    assert (site.folder / "kept").exists(), "the transaction that was open all the time must commit"


def test_the_same_workers_without_the_file_fail_by_name(start: Callable[..., Site]) -> None:
    site = start()

    def broken() -> bool:
        with suppress(*ANSWERED):
            site.ask()
        return re.search("bad record mac|EOF detected", site.log()) is not None

    wait_until(broken, "the classic fault shows itself")
