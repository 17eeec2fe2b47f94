"""The release before this one beside it: on the same database, under load, while the schema moves on."""

import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from local import servers as local_servers
from local.home import PROJECT
from local.system import BIN, System, free_port
from tests.acceptance.conftest import KNOWN_FAULTS, wait_until
from tests.installation import CORP

GIT = ("git", "-C", str(PROJECT))


def release_before() -> str | None:
    """Return the tag of the newest release that is not this very commit, as far as this checkout knows."""
    tags = subprocess.run(
        [*GIT, "tag", "--list", "v*", "--sort=-v:refname", "--no-contains", "HEAD"],
        capture_output=True,
        text=True,
    )
    return next(iter(tags.stdout.split()), None)


TAG = release_before()
pytestmark = [
    pytest.mark.prove,
    pytest.mark.timeout(300),
    pytest.mark.skipif(TAG is None, reason="this checkout knows of no release before this one"),
]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The sources of the release before."""
    unpacked = tmp_path / "before"
    unpacked.mkdir()
    packed = subprocess.run([*GIT, "archive", str(TAG)], capture_output=True, check=True)
    subprocess.run(["tar", "x", "-C", unpacked], input=packed.stdout, check=True)
    return unpacked


class Load:
    """Files that another application queues all the time through SQL; the door is the same in both releases."""

    def __init__(self, system: System) -> None:
        self._system, self._over = system, threading.Event()
        self.queued = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        connection = psycopg2.connect(self._system.environment["WEB_DATABASE_URL"])
        inbox = Path(self._system.environment["INBOX_DIR"]) / str(CORP)
        while not self._over.is_set():
            name = f"file {self.queued}"
            (inbox / name).write_text(f"{name}\n" * 100)
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT corporate.enqueue_upload(%s, %s)", (CORP, name))
            self.queued += 1
            time.sleep(0.01)
        connection.close()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def ask(system: System, statement: str) -> list[tuple]:
    connection = psycopg2.connect(system.environment["OWNER_DATABASE_URL"])
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def stored(system: System) -> int:
    return int(ask(system, "SELECT count(*) FROM corporate.uploads WHERE state = 'stored'")[0][0])


def start_worker(system: System, name: str, sources: Path) -> None:
    command = (BIN / "celery", "--workdir", sources, "-A", "tasks.worker", "worker", "-c", "2", "-l", "info")
    system.start(name, *command, "-n", f"{name}@%h", PYTHONPATH=str(sources))
    wait_until(lambda: " ready." in log(system, name), f"{name} is ready")


def start_web(system: System, sources: Path) -> str:
    port = free_port()
    serve = (
        BIN / "uvicorn",
        "app.web.main:app",
        "--app-dir",
        sources,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    )
    system.start("web", *serve, role="WEB_DATABASE_URL", PYTHONPATH=str(sources))
    url = f"http://127.0.0.1:{port}"
    system.wait_for_answer("web", f"{url}/healthz")
    return url


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def refuses_to_start(system: System, sources: Path, says: str) -> bool:
    command = (
        BIN / "celery",
        "--workdir",
        sources,
        "-A",
        "tasks.worker",
        "worker",
        "-c",
        "1",
        "-n",
        "again@%h",
    )
    system.start("again", *command, PYTHONPATH=str(sources))
    ended = system.processes.pop("again").wait(60)
    return ended != 0 and says in log(system, "again")


def log(system: System, name: str) -> str:
    assert system.logs is not None
    return (system.logs / f"{name}.log").read_text()


def migrate(system: System, sources: Path) -> str:
    program = "from app.cli.main import main; import app, sys; print(app.__path__, file=sys.stderr); main()"
    ended = subprocess.run(
        [BIN / "python", "-c", program, "migrate"],
        cwd=sources,
        env={**system.environment, "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(sources) in ended.stderr, "the sources are the ones that were meant"
    return ended.stdout


def corp_add(system: System) -> None:
    system.run("corp", "add", str(CORP), "Example", role="OWNER_DATABASE_URL")


def test_workers_of_two_releases_share_a_database_while_it_is_migrated(tmp_path: Path, before: Path) -> None:
    data, logs = tmp_path / "data", tmp_path / "logs"
    logs.mkdir()
    for folder in ("staging", "inbox", "drive"):
        (data / folder).mkdir(parents=True)
    with local_servers.throwaway() as servers:
        environment = os.environ | {
            "DATABASE_URL": servers.worker_url,
            "WEB_DATABASE_URL": servers.web_url,
            "OWNER_DATABASE_URL": servers.owner_url,
            "REDIS_URL": servers.redis_url,
            "STAGING_DIR": str(data / "staging"),
            "INBOX_DIR": str(data / "inbox"),
            "DRIVE_DIR": str(data / "drive"),
            "PYTHONUNBUFFERED": "1",
        }
        system = System(data, environment, logs)
        try:
            assert "0001" in migrate(system, before)
            corp_add(system)
            start_worker(system, "before", before)
            system.start(
                "beat",
                BIN / "celery",
                "--workdir",
                before,
                "-A",
                "tasks.worker",
                "beat",
                "--pidfile=",
                PYTHONPATH=str(before),
            )
            load = Load(system)
            with load.flowing():
                wait_until(lambda: stored(system) > 50, "the release before is at work")
                web = start_web(system, before)
                assert (status(f"{web}/healthz"), status(f"{web}/readyz")) == (200, 200)
                assert "0001" not in migrate(system, PROJECT)
                migrated_at = stored(system)
                if TAG == "v0.1.0":  # it demands the very schema that it was written for
                    assert (status(f"{web}/healthz"), status(f"{web}/readyz")) == (200, 503)
                    assert refuses_to_start(system, before, "this release needs 0001")
                else:
                    assert status(f"{web}/readyz") == 200
                    start_worker(system, "again", before)
                system.stop("web")
                wait_until(lambda: stored(system) > migrated_at + 50, "it goes on after the migration")
                start_worker(system, "after", PROJECT)
                wait_until(lambda: "stored as" in log(system, "after"), "both are at work")
                system.stop("before")
                alone_at = stored(system)
                wait_until(lambda: stored(system) > alone_at + 50, "this release goes on alone")
            wait_until(lambda: stored(system) == load.queued, "everything is stored")
            assert "0 differences" in system.run("verify", "--corp", str(CORP))
            twice = "SELECT count(*) - count(DISTINCT upload_id) FROM corporate.upload_events WHERE kind = 'stored'"
            assert ask(system, twice) == [(0,)]
            assert not KNOWN_FAULTS.search(log(system, "before") + log(system, "after"))
            assert "Traceback" not in log(system, "before") + log(system, "after")
        finally:
            system.stop()
