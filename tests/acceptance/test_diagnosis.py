"""`haulage doctor` on a running installation: sound, and with faults planted into it one after the other."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from sqlalchemy import make_url

from app.diagnosis import workers
from app.diagnosis.examination import NAMES
from app.staging import Staging
from local.servers import Servers
from local.system import BIN, System, free_port
from tests.acceptance.conftest import Haulage, wait_until
from tests.installation import CORP, Installation, execute, fresh_installation, in_database, make_database
from tests.integration.test_diagnosis import ENDED_WITHIN, Doctor, Told, kept_by_snapshots, secrets_of

SOUND = {"LEASE_SECONDS": "60", "FLOWER_PORT": "1"}
ELSEWHERE = Path("/dev/shm")  # another file system than the one of temporary directories, as a rule


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haulage]:
    root = tmp_path_factory.mktemp("doctor")
    installation = fresh_installation(servers, make_database(servers), root)
    installation.environment.update(SOUND)
    logs = root / "logs"
    logs.mkdir()
    made = Haulage(installation, System(root, {**os.environ, **installation.environment}, logs))
    with kept_by_snapshots(servers), ExitStack() as undo:
        undo.callback(kill_all, made)
        made.start_worker()
        made.start_beat()
        wait_until(lambda: installation.query("SELECT task FROM corporate.upkeep_runs"), "a sweep ran")
        yield made


def kill_all(made: Haulage) -> None:
    for process in made.system.processes.values():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def doctor(running: Haulage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    for name, value in running.installation.environment.items():
        monkeypatch.setenv(name, value)
    running.installation.forget_process_state()
    yield Doctor(running.installation, secrets_of(running.installation.servers))
    running.installation.forget_process_state()


def answered(doctor: Doctor, **environment: str) -> Told:
    """Look until the worker was quick enough for all questions; nothing else is asked to be patient."""
    seen: list[Told] = []

    def worker_is_seen() -> bool:
        seen.append(doctor.look(**environment))
        return was_heard(seen[-1].lines)

    wait_until(worker_is_seen, "the worker answers", tell=lambda: seen[-1].lines["workers"])
    return seen[-1]


def was_heard(lines: dict[str, dict[str, str]]) -> bool:
    return lines["workers"]["level"] == "good" and not any(
        "in time" in one["found"] for one in lines.values()
    )


# Sound


def test_a_sound_installation_is_good_in_every_line(doctor: Doctor) -> None:
    told = answered(doctor)

    assert [one for one in told.lines.values() if one["level"] != "good"] == []
    assert told.code == 0


def keys(url: str) -> set[bytes]:
    with closing(redis.Redis.from_url(url)) as client:
        return {one for one in client.scan_iter() if not one.startswith((b"unacked", b"upkeep"))}


def everything(installation: Installation) -> list[Any]:
    names = [
        "corporations",
        "vmb_items",
        "uploads",
        "upload_events",
        "api_tokens",
        "staging_identity",
        "alembic_version",
    ]
    rows = [installation.query(f"SELECT * FROM corporate.{name} ORDER BY 1") for name in names]
    return [*rows, sorted(installation.root.glob("[!l]*/**/*"))]


def test_the_command_changes_nothing_and_says_so_in_text_too(doctor: Doctor) -> None:
    url, before = doctor.installation.environment["REDIS_URL"], everything(doctor.installation)
    keys_before = keys(url)

    ended = subprocess.run(
        [BIN / "haulage", "doctor"], env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert [
        line.split()[1] for line in ended.stdout.splitlines() if line.startswith(("good", "warning"))
    ] == [name for name in NAMES if not name.startswith("onedrive")]
    assert everything(doctor.installation) == before
    wait_until(lambda: keys(url) <= keys_before, "no key is left", tell=lambda: keys(url) - keys_before)


# Faults: of the doctor's own environment, and of the installation for the length of a block

Changed = Callable[[Installation], dict[str, str]]
Planted = Callable[[Installation], AbstractContextManager[object]]


@dataclass
class Fault:
    line: str
    level: str
    says: str
    do: str
    environment: Changed | None = None
    planted: Planted | None = None


def set_to(**environment: str) -> Changed:
    return lambda _: environment


def changed_url(name: str, role: str = "", **change: Any) -> Changed:
    """The URL in a variable, with another part, or of another role of the servers."""

    def changed(installation: Installation) -> dict[str, str]:
        url = make_url(installation.environment[name])
        if role:
            url = make_url(in_database(getattr(installation.servers, role), str(url.database)))
        return {name: url.set(**change).render_as_string(hide_password=False)}

    return changed


def another_staging(installation: Installation) -> dict[str, str]:
    other = installation.root / "other-staging"
    Staging(other, 1, 0).prepare()
    return {"STAGING_DIR": str(other)}


def staging_on_two_file_systems(installation: Installation) -> dict[str, str]:
    torn = installation.root / "torn-staging"
    shutil.copytree(installation.staging_dir, torn)
    (torn / "drafts").rmdir()
    (torn / "drafts").symlink_to(ELSEWHERE)
    return {"STAGING_DIR": str(torn)}


def nothing_mounted(name: str) -> Changed:
    def changed(installation: Installation) -> dict[str, str]:
        empty = installation.root / "not-mounted"
        empty.mkdir(exist_ok=True)
        return {name: str(empty)}

    return changed


def a_file(name: str) -> Changed:
    def changed(installation: Installation) -> dict[str, str]:
        (installation.root / "a-file").touch()
        return {name: str(installation.root / "a-file")}

    return changed


def rows(insert: str, delete: str) -> Planted:
    @contextmanager
    def planted(installation: Installation) -> Iterator[None]:
        installation.query(insert)
        try:
            yield
        finally:
            installation.query(delete)

    return planted


def an_upload(**columns: str) -> Planted:
    """An upload that no worker takes, since it is not due; each column is an SQL expression."""
    values = {
        "id": "gen_random_uuid()", "corp_index": f"{CORP}", "parent_id": f"'{CORP}'", "folder": "'{}'", "name": "'x'",
        "on_conflict": "'fail'", "inbox_path": "'x'", "due_at": "now() + interval '1 day'",
    } | columns  # fmt: skip
    insert = f"INSERT INTO corporate.uploads ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    return rows(insert, "DELETE FROM corporate.uploads")


def a_token(corp: str, ends: str) -> Planted:
    return rows(
        "INSERT INTO corporate.api_tokens (id, corp_index, label, sha256, expires_at)"
        f" VALUES (gen_random_uuid(), {corp}, 'the scanner', 'x', {ends})",
        "DELETE FROM corporate.api_tokens",
    )


def role_with(strength: str) -> Planted:
    @contextmanager
    def planted(installation: Installation) -> Iterator[None]:
        execute(installation.servers.admin_url, f"ALTER ROLE haulage_worker {strength}")
        try:
            yield
        finally:
            execute(installation.servers.admin_url, f"ALTER ROLE haulage_worker NO{strength}")

    return planted


def redis_with(**values: str) -> Planted:
    @contextmanager
    def planted(installation: Installation) -> Iterator[None]:
        with closing(redis.Redis.from_url(installation.servers.redis_url)) as client:
            before = {name: client.config_get(name)[name] for name in values}
            for name, value in values.items():
                client.config_set(name, value)
            try:
                yield
            finally:
                for name, value in before.items():
                    client.config_set(name, value)

    return planted


@contextmanager
def nearly_full(installation: Installation) -> Iterator[None]:
    with closing(redis.Redis.from_url(installation.servers.redis_url)) as client:
        used = client.info("memory")["used_memory"]
    with redis_with(maxmemory=str(int(used * 1.3)))(installation):
        yield


@contextmanager
def a_strange_key(installation: Installation) -> Iterator[None]:
    with closing(redis.Redis.from_url(installation.servers.redis_url)) as client:
        client.set("session:s3cret-canary", "x")
        try:
            yield
        finally:
            client.delete("session:s3cret-canary")


FAULTS = {
    "weak TLS": Fault(
        "postgresql-tls", "warning", "sslmode=require", "sslrootcert",
        changed_url("DATABASE_URL", query={"sslmode": "require"}),
    ),
    "no TLS": Fault(
        "postgresql-tls", "bad", "not encrypted", "ssl = on", changed_url("DATABASE_URL", query={"sslmode": "disable"})
    ),
    "a superuser": Fault(
        "roles", "bad", "postgres is a superuser", "docs/operating.md", changed_url("DATABASE_URL", "admin_url")
    ),
    "the owner's role for all": Fault(
        "roles", "warning", "owns the schema", "docs/operating.md", changed_url("DATABASE_URL", "owner_url")
    ),
    "a strong role": Fault(
        "roles", "warning", "may make roles", "NOCREATEROLE", planted=role_with("CREATEROLE")
    ),
    "the workers' role is a superuser": Fault(
        "roles", "bad", "haulage_worker is a superuser", "docs/operating.md",
        changed_url("DATABASE_URL", "web_url"), role_with("SUPERUSER"),
    ),
    "a superuser behind a lesser evil": Fault(
        "roles", "bad", "haulage_worker is a superuser", "docs/operating.md",
        changed_url("DATABASE_URL", "owner_url"), role_with("SUPERUSER"),
    ),
    "the owner's password": Fault(
        "owner", "bad", "authentication failed", "OWNER_DATABASE_URL",
        changed_url("OWNER_DATABASE_URL", password="s3cret-canary"),
    ),
    "an owner who owns nothing": Fault(
        "owner", "bad", "does not own", "OWNER_DATABASE_URL", changed_url("OWNER_DATABASE_URL", "web_url")
    ),
    "more sessions than there are": Fault(
        "connections", "bad", "of 97", "max_connections", set_to(DB_POOL_SIZE="60")
    ),
    "nearly as many": Fault("connections", "warning", "may take 84", "max_connections", set_to(DB_POOL_SIZE="42")),
    "no staging": Fault("staging", "bad", "is not there", "mount", set_to(STAGING_DIR="/nonexistent")),
    "staging not mounted": Fault("staging", "bad", "is not a staging", "Mount", nothing_mounted("STAGING_DIR")),
    "a torn staging": Fault("staging", "bad", "two file systems", "mount", staging_on_two_file_systems),
    "another one's staging": Fault("staging-identity", "bad", "another installation", "STAGING_DIR", another_staging),
    "no room for staging": Fault(
        "staging-space", "bad", "every upload is refused", "room", set_to(STAGING_RESERVE_BYTES=str(2**60))
    ),
    "no inbox": Fault("inbox", "bad", "INBOX_DIR (/nonexistent) is not there", "mount", set_to(INBOX_DIR="/nonexistent")),
    "inbox not mounted": Fault(
        "corporations", "warning", "no inbox for corporation 7", "inbox mounted", nothing_mounted("INBOX_DIR")
    ),
    "no drive": Fault("drive", "bad", "DRIVE_DIR (/nonexistent) is not there", "mount", set_to(DRIVE_DIR="/nonexistent")),
    "a file for a drive": Fault("drive", "bad", "no directory", "DRIVE_DIR", a_file("DRIVE_DIR")),
    "drive not mounted": Fault(
        "corporations", "bad", "no directory in the drive for corporation 7", "drive mounted", nothing_mounted("DRIVE_DIR")
    ),
    "a short lease": Fault("limits", "warning", "LEASE_SECONDS is 3", "60", set_to(LEASE_SECONDS="3")),
    "a rare sweep": Fault("limits", "warning", "SWEEP_SECONDS (100)", "2 is the default", set_to(SWEEP_SECONDS="100")),
    "workers with other limits": Fault(
        "worker-limits", "bad", "ends its tasks after 1260 s", "SLICE_SECONDS", set_to(SLICE_SECONDS="7200")
    ),
    "a misspelt setting": Fault(
        "settings", "warning", "MAX_ATTEMPT is none, MAX_ATTEMPTS is one", "Correct", set_to(MAX_ATTEMPT="s3cret-canary")
    ),
    "a short password for Flower": Fault(
        "flower", "warning", "fewer than 12", "long password", set_to(FLOWER_BASIC_AUTH="ann:s3cret")
    ),
    "Flower's commands open": Fault(
        "flower", "bad", "FLOWER_UNAUTHENTICATED_API", "Remove", set_to(FLOWER_UNAUTHENTICATED_API="true")
    ),
    "Redis evicts": Fault(
        "redis-eviction", "bad", "allkeys-lru", "noeviction", planted=redis_with(**{"maxmemory-policy": "allkeys-lru"})
    ),
    "Redis forgets": Fault("redis-persistence", "warning", "none: a restart", "appendonly yes", planted=redis_with(save="")),
    "Redis is nearly full": Fault("redis-memory", "warning", "of maxmemory's", "Raise maxmemory", planted=nearly_full),
    "Redis is shared": Fault(
        "redis-keys", "warning", "1 key(s) in this database are not Haulage's, beginning with session:", "of its own",
        planted=a_strange_key,
    ),
    "a failed upload": Fault(
        "failed", "warning", "most often because of worn_out (1)", "haulage retry --corp 7 --all",
        planted=an_upload(state="'failed'", reason="'worn_out'", finished_at="now()"),
    ),
    "an upload waits for long": Fault(
        "waiting", "warning", "the oldest for 20 minutes", "More workers",
        planted=an_upload(state="'queued'", deadline_at="now() + interval '23 hours 40 minutes'"),
    ),
    "an upload waits too long": Fault(
        "waiting", "bad", "the oldest for 2 hours, most often because of drive_unavailable", "drive",
        planted=an_upload(
            state="'queued'", deadline_at="now() + interval '22 hours'", reason="'drive_unavailable'"
        ),
    ),
    "clean-ups that fail": Fault(
        "clean-up", "warning", "for 1 upload(s) it does not work", "logs",
        planted=an_upload(
            state="'cancelled'", finished_at="now() - interval '2 hours'", cleanup_due_at="now() + interval '9 minutes'"
        ),
    ),
    "a token ends": Fault(
        "tokens", "warning", "1 end(s) within 14 days", "haulage token create",
        planted=a_token("7", "now() + interval '3 days'"),
    ),
}  # fmt: skip


_sound: dict[Path, Told] = {}


def sound(doctor: Doctor) -> Told:
    """What the doctor says of this installation while nothing is wrong; asked once."""
    root = doctor.installation.root
    if root not in _sound:
        _sound[root] = answered(doctor)
    return _sound[root]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(doctor: Doctor, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, installation = FAULTS[name], doctor.installation
    doctor.secrets |= {"s3cret"}
    monkeypatch.setattr(workers, "FIRST_SECONDS", 0.3)  # it answers in less; where it does not, look again
    assert sound(doctor).level(fault.line) == "good"
    environment = fault.environment(installation) if fault.environment else {}

    with fault.planted(installation) if fault.planted else nullcontext():
        told = answered(doctor, **environment)

    assert told.level(fault.line) == fault.level, told.lines[fault.line]
    assert fault.says in told.found(fault.line)
    assert fault.do in told.lines[fault.line]["do"]
    assert told.code == (1 if fault.level == "bad" else 0)
    if fault.planted:
        assert answered(doctor).level(fault.line) == "good"


def test_an_operators_token_without_an_end_is_a_note(doctor: Doctor) -> None:
    with a_token("NULL", "NULL")(doctor.installation):
        told = doctor.look()

    assert told.level("tokens") == "good"
    assert "note: 1 of an operator never end(s)" in told.found("tokens")


# Settings of drives


def test_a_worker_does_not_start_with_settings_that_are_called_bad(doctor: Doctor) -> None:
    named = {"DRIVES": "reports", "DRIVE_REPORTS_KIND": "ondrive"}
    told = doctor.look(**named)

    ended = subprocess.run(
        [BIN / "celery", "-A", "tasks.worker", "worker", "-c", "1", "-n", "third@%h"],
        env=os.environ | named, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert told.level("drives") == "bad"
    assert ended.returncode == 1
    assert (
        f"This worker cannot start: The settings of the drives have 1 problem(s):\n  {told.found('drives')}"
        in ended.stderr
    )


# Workers that do not answer


def stop_all(pid: int, how: signal.Signals) -> None:
    for process in (psutil.Process(pid), *psutil.Process(pid).children()):
        process.send_signal(how)


def worker_sessions(running: Haulage) -> int:
    pids = {one.pid for one in running.children("second")}
    names = running.installation.look(
        "SELECT application_name FROM pg_stat_activity WHERE application_name ~ ' worker@'"
    )
    return sum(1 for (name,) in names if int(name.split()[0]) in pids)


def test_a_worker_that_has_gone_deaf_is_told(running: Haulage, doctor: Doctor) -> None:
    running.start_worker("--without-mingle", name="second", children=1)

    def its_child_has_a_session() -> bool:
        running.hand_in(4, folder=f"{os.urandom(4).hex()}")
        return worker_sessions(running) > 0

    wait_until(its_child_has_a_session, "the second worker has worked")
    assert answered(doctor).level("worker-sessions") == "good"
    stop_all(running.pid("second"), signal.SIGSTOP)
    try:
        told = answered(doctor)
    finally:
        stop_all(running.pid("second"), signal.SIGCONT)
        running.system.stop("second")

    assert told.level("worker-sessions") == "warning"
    assert "of a worker that does not answer: process" in told.found("worker-sessions")
    assert "deaf" in told.lines["worker-sessions"]["do"]
    assert told.code == 0


def test_the_only_worker_that_does_not_answer_is_bad(running: Haulage, doctor: Doctor) -> None:
    stop_all(running.pid(), signal.SIGSTOP)
    try:
        told = doctor.look()
    finally:
        stop_all(running.pid(), signal.SIGCONT)

    assert told.level("workers") == "bad"
    assert "none answers" in told.found("workers")
    assert told.level("worker-queues") == "warning"
    assert told.level("redis") == told.level("postgresql") == "good"
    wait_until(lambda: doctor.look().code == 0, "it is well again")


# Frozen


def test_a_frozen_redis_is_told_by_the_command_within_seconds(running: Haulage, doctor: Doctor) -> None:
    pid = running.installation.servers.redis_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        ended = subprocess.run(
            [BIN / "haulage", "doctor", "--json"], env=os.environ, capture_output=True, text=True,
            timeout=ENDED_WITHIN, check=False,
        )  # fmt: skip
    finally:
        os.kill(pid, signal.SIGCONT)

    told = {one["name"]: one for one in json.loads(ended.stdout)}
    assert (ended.returncode, ended.stderr) == (1, "")
    assert told["redis"]["level"] == "bad"
    assert told["sweep"]["level"] != "warning"
    answered(doctor)


# Flower


def test_a_flower_that_lets_anybody_in_is_bad_and_a_guarded_one_good(
    running: Haulage, doctor: Doctor, tmp_path: Path
) -> None:
    (tmp_path / "bare.py").write_text("from celery import Celery\n\napp = Celery()\n")
    port, password = free_port(), "ann:a-long-canary-s3cret"
    doctor.secrets.add("a-long-canary")
    broker = running.installation.environment["REDIS_URL"]
    # The stock one: ours refuses to start without a password.
    command = (BIN / "celery", "-A", "bare", "-b", broker, "flower", "--address=127.0.0.1", f"--port={port}")
    running.system.start("flower", *command, PYTHONPATH=str(tmp_path))
    running.system.wait_for_answer("flower", f"http://127.0.0.1:{port}/healthcheck")
    unguarded = answered(doctor, FLOWER_PORT=str(port))
    running.system.stop("flower")
    running.system.start_flower(port, password)
    guarded = answered(doctor, FLOWER_PORT=str(port), FLOWER_BASIC_AUTH=password)
    running.system.stop("flower")

    assert unguarded.level("flower") == "bad"
    assert "lets everybody in" in unguarded.found("flower")
    assert "haulage flower" in unguarded.lines["flower"]["do"]
    assert unguarded.code == 1
    assert guarded.level("flower") == "good"
    assert "asks for a password" in guarded.found("flower")
    assert guarded.code == 0
