"""The release before this one beside it: on the same database, under load, while the schema moves on; and the way back."""

import json
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
from cryptography.fernet import Fernet

from local import servers as local_servers
from local.home import PROJECT
from local.system import BIN, System, environment, free_port
from tests.acceptance.conftest import KNOWN_FAULTS, wait_until
from tests.installation import CORP

ENQUEUE = "SELECT corporate.enqueue_upload(%s, %s)"
GIT = ("git", "-C", str(PROJECT))


V0_2_0 = "4b15a30125b955a8817e9689bed74b2d9e17d8e9"  # a checkout may have come without its tags


def release_before() -> str | None:
    """Return the newest release that is not this very commit, as far as this checkout knows; None without its history."""
    tags = subprocess.run(
        [*GIT, "tag", "--list", "v*", "--sort=-v:refname", "--no-contains", "HEAD"],
        capture_output=True,
        text=True,
    )
    known = subprocess.run([*GIT, "cat-file", "-e", V0_2_0], capture_output=True).returncode == 0
    return next(iter(tags.stdout.split()), V0_2_0 if known else None)


BEFORE = release_before()
pytestmark = [
    pytest.mark.prove,
    pytest.mark.timeout(300),
    pytest.mark.skipif(BEFORE is None, reason="this checkout knows of no release before this one"),
]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The sources of the release before."""
    unpacked = tmp_path / "before"
    unpacked.mkdir()
    packed = subprocess.run([*GIT, "archive", str(BEFORE)], capture_output=True, check=True)
    subprocess.run(["tar", "x", "-C", unpacked], input=packed.stdout, check=True)
    return unpacked


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """An installation with a database that is still empty; nothing runs."""
    data, logs = tmp_path / "data", tmp_path / "logs"
    for folder in (logs, data / "staging", data / "inbox", data / "drive"):
        folder.mkdir(parents=True)
    with local_servers.throwaway() as servers:
        keys = {"SESSION_KEYS": Fernet.generate_key().decode()}  # may be set before the old release has gone
        made = System(data, environment(servers, data) | keys, logs)
        try:
            yield made
        finally:
            made.stop()


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
                cursor.execute(ENQUEUE, (CORP, name))
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


def ask(system: System, statement: str, *parameters: object) -> list[tuple]:
    connection = psycopg2.connect(system.environment["OWNER_DATABASE_URL"])
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()
    finally:
        connection.close()


def stored(system: System) -> int:
    return int(ask(system, "SELECT count(*) FROM corporate.uploads WHERE state = 'stored'")[0][0])


def revision(sources: Path) -> str:
    """Return the schema's revision that these sources were written for."""
    return max(path.name[1:5] for path in (sources / "app" / "migrations" / "versions").glob("v*.py"))


def celery(sources: Path, *words: str, entry: str = "tasks.worker") -> tuple[str | Path, ...]:
    return (BIN / "celery", "--workdir", sources, "-A", entry, *words)


def start_worker(system: System, name: str, sources: Path, entry: str = "tasks.worker", **extra: str) -> None:
    command = celery(sources, "worker", "-c", "2", "-l", "info", "-n", f"{name}@%h", entry=entry)
    system.start(name, *command, PYTHONPATH=str(sources), **extra)
    wait_until(lambda: " ready." in log(system, name), f"{name} is ready")


def start_beat(system: System, sources: Path) -> None:
    system.start("beat", *celery(sources, "beat", "--pidfile="), PYTHONPATH=str(sources))


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


def send(url: str, token: str, name: str) -> None:
    request = urllib.request.Request(
        f"{url}/api/v1/corporations/{CORP}/uploads?name={name}",
        data=name.encode() * 1000,
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


def refuses_to_start(system: System, sources: Path, says: str) -> bool:
    command = celery(sources, "worker", "-c", "1", "-n", "early@%h")
    system.start("early", *command, PYTHONPATH=str(sources))
    ended = system.processes.pop("early").wait(60)
    return ended != 0 and says in log(system, "early")


def log(system: System, name: str) -> str:
    assert system.logs is not None
    return (system.logs / f"{name}.log").read_text()


def haulage(system: System, sources: Path, *words: str) -> str:
    """Run a command of these sources as the owner; return what it prints."""
    program = "from app.cli.main import main; import app, sys; print(app.__path__, file=sys.stderr); main()"
    ended = subprocess.run(
        [BIN / "python", "-c", program, *words],
        cwd=sources,
        env={
            **system.environment,
            "PYTHONPATH": str(sources),
            "DATABASE_URL": system.environment["OWNER_DATABASE_URL"],
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(sources) in ended.stderr, "the sources are the ones that were meant"
    return ended.stdout


def install(system: System, sources: Path) -> None:
    """Make schema, corporation and inbox with a release."""
    assert revision(sources) in haulage(system, sources, "migrate")
    haulage(system, sources, "corp", "add", str(CORP), "Example")


def stores(system: System, *names: str) -> None:
    """Wait until each of these workers stores something more."""
    before = {name: log(system, name).count("stored as") for name in names}
    for name, number in before.items():
        wait_until(lambda: log(system, name).count("stored as") > number, f"{name} stores")  # noqa: B023


def test_workers_of_two_releases_share_a_database_while_it_is_migrated(system: System, before: Path) -> None:
    older = revision(before) != revision(PROJECT)
    install(system, before)
    token = json.loads(haulage(system, before, "token", "create", "--corp", str(CORP), "--json"))["token"]
    if older:
        assert refuses_to_start(system, PROJECT, f"this release needs {revision(PROJECT)}")
    start_worker(system, "before", before)
    start_beat(system, before)
    load = Load(system)
    with load.flowing():
        stores(system, "before")
        web = start_web(system, before)
        assert status(f"{web}/readyz") == 200
        assert revision(PROJECT) in haulage(system, PROJECT, "migrate")
        assert status(f"{web}/readyz") == 200
        send(web, token, "old-web")
        system.stop("web")
        stores(system, "before")
        start_worker(system, "again", before)
        assert older == ("newer than this release" in log(system, "again"))
        start_worker(system, "after", PROJECT)
        send(start_web(system, PROJECT), token, "new-web")
        stores(system, "before", "again", "after")
        system.stop("before", "again", "beat")
        start_beat(system, PROJECT)
        stores(system, "after")
        start_worker(system, "back", before)
        system.stop("after", "beat")
        start_beat(system, before)
        stores(system, "back")
    wait_until(lambda: stored(system) == load.queued + 2, "everything is stored")
    assert "0 differences" in haulage(system, PROJECT, "verify", "--corp", str(CORP))
    assert "0 differences" in haulage(system, before, "verify", "--corp", str(CORP))
    twice = "SELECT count(*) - count(DISTINCT upload_id) FROM corporate.upload_events WHERE kind = 'stored'"
    assert ask(system, twice) == [(0,)]
    set_back = (
        "SELECT kind, detail FROM corporate.upload_events WHERE kind IN ('set_back', 'worker_lost', 'failed')"
    )
    assert ask(system, set_back) == []
    logs = "".join(log(system, name) for name in ("before", "again", "after", "back", "web", "beat"))
    assert not KNOWN_FAULTS.search(logs)
    assert "Traceback" not in logs


@pytest.mark.parametrize("order", ["the old one begins", "the new one begins"])
def test_a_transfer_goes_on_in_the_other_release_where_it_stopped(
    system: System, before: Path, order: str
) -> None:
    begins, goes_on = (before, PROJECT) if order == "the old one begins" else (PROJECT, before)
    entry = "tests.acceptance.samples.slow"
    install(system, PROJECT)
    content = os.urandom(200 * 64 * 1024)  # 200 chunks of that sample
    (Path(system.environment["INBOX_DIR"]) / str(CORP) / "x").write_bytes(content)
    ask(system, ENQUEUE, CORP, "x")
    start_beat(system, PROJECT)

    start_worker(system, "begins", begins, entry, PUT_SECONDS="0.2")
    wait_until(lambda: ask(system, "SELECT sent > 0 FROM corporate.uploads") == [(True,)], "it is under way")
    system.stop("begins")
    how = "SELECT state, transferred, drive_session ? 'draft' FROM corporate.uploads"
    [(state, transferred, is_plain)] = ask(system, how)
    assert (state, is_plain) == ("queued", True)
    assert 0 < transferred < len(content)

    start_worker(system, "goes on", goes_on, entry, PUT_SECONDS="0")
    wait_until(lambda: stored(system) == 1, "it is stored")

    assert ask(system, "SELECT began_from, attempts FROM corporate.uploads") == [(transferred, 1)]
    assert (Path(system.environment["DRIVE_DIR"]) / str(CORP) / "x").read_bytes() == content
    assert "Traceback" not in log(system, "begins") + log(system, "goes on")
