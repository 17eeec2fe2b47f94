import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis
import trustme

from local import account, discovery, home, postgres, process, servers, state
from local.servers import Servers

ROOT = os.geteuid() == 0


@pytest.fixture(scope="module", autouse=True)
def programs() -> discovery.Found:
    try:
        return discovery.find()
    except discovery.NoServer as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def shared(programs: discovery.Found) -> Iterator[Servers]:
    with servers.throwaway() as running:
        yield running


@pytest.fixture
def empty() -> Iterator[Path]:
    """A home of its own; pytest's tmp_path would not do, since nobody but its owner may enter it."""
    path = home.temporary()
    yield path
    servers.stop(path)
    home.remove(path)


@pytest.fixture(scope="module")
def kept() -> Iterator[Path]:
    """One home for all tests that start and stop its servers, which saves an initdb each time."""
    path = home.temporary()
    yield path
    servers.stop(path)
    home.remove(path)


def query(url: str, statement: str) -> Any:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None


def client(url: str) -> "contextlib.closing[redis.Redis]":
    return closing(redis.Redis.from_url(url, decode_responses=True))


def eventually(claim: Callable[[], bool], seconds: float = 8) -> bool:
    deadline = time.monotonic() + seconds
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.05)
    return claim()


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("role", "name"),
    [("admin", "postgres"), ("owner", "haulage_owner"), ("web", "haulage_web"), ("worker", "haulage_worker")],
)
def test_every_role_speaks_tls(shared: Servers, role: str, name: str) -> None:
    url = getattr(shared, f"{role}_url")

    answer = query(
        url,
        "SELECT ssl, version >= 'TLSv1.2', current_user, current_database() FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )

    assert answer == (True, True, name, "haulage")


def test_the_owner_may_create_schemas_and_the_others_may_not(shared: Servers) -> None:
    query(shared.owner_url, "CREATE SCHEMA owned")

    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(shared.web_url, "CREATE SCHEMA mine")


def test_postgres_is_as_promised(shared: Servers) -> None:
    names = ("server_encoding", "fsync", "max_connections", "listen_addresses", "unix_socket_directories")

    settings = [query(shared.admin_url, f"SHOW {name}")[0] for name in names]

    assert settings == ["UTF8", "on", "100", "127.0.0.1", ""]


def test_sessions_can_be_counted_in_the_log(shared: Servers) -> None:
    query(f"{shared.web_url}&application_name=counted", "SELECT 1")

    assert eventually(lambda: "haulage_web counted" in shared.postgres_log.read_text())


def test_a_client_without_tls_is_refused(shared: Servers) -> None:
    plain = shared.web_url.replace("sslmode=verify-full", "sslmode=disable")

    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry .* no encryption"):
        psycopg2.connect(plain)


def test_a_server_signed_by_another_authority_is_refused(shared: Servers, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    distrustful = shared.web_url.replace(str(shared.ca_file), str(tmp_path / "other.pem"))

    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        psycopg2.connect(distrustful)


def test_redis_wants_its_password(shared: Servers) -> None:
    without = shared.redis_url.replace(
        shared.redis_url[len("redis://") : shared.redis_url.index("@") + 1], ""
    )

    with client(shared.redis_url) as known, client(without) as unknown:
        assert known.ping()
        with pytest.raises(redis.AuthenticationError):
            unknown.ping()


def test_redis_never_evicts_and_a_throwaway_writes_nothing(shared: Servers) -> None:
    with client(shared.redis_url) as connection:
        settings = connection.config_get("maxmemory-policy", "appendonly", "save")

    assert settings == {"maxmemory-policy": "noeviction", "appendonly": "no", "save": ""}


def test_no_password_is_on_a_command_line(shared: Servers) -> None:
    words = [
        word for pid in (shared.postgres_pid, shared.redis_pid) for word in psutil.Process(pid).cmdline()
    ]

    secrets = json.loads((shared.home / "state.json").read_text())["passwords"].values()
    assert not [secret for secret in secrets if any(secret in word for word in words)]
    assert (shared.home / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not ROOT, reason="only root has privileges to drop")
def test_the_servers_of_root_run_as_somebody_else(shared: Servers) -> None:
    assert psutil.Process(shared.postgres_pid).uids().effective != 0
    assert psutil.Process(shared.redis_pid).uids().effective != 0


def test_redis_restarts_on_its_port_and_a_throwaway_one_empty(shared: Servers) -> None:
    with client(shared.redis_url) as connection:
        connection.set("key", "value")

    again = servers.restart_redis(shared)

    assert (again.redis_url, again.postgres_pid) == (shared.redis_url, shared.postgres_pid)
    assert again.redis_pid != shared.redis_pid
    with client(again.redis_url) as connection:
        assert connection.get("key") is None


@pytest.mark.parametrize("immediate", [False, True])
def test_postgres_restarts_on_its_port_with_its_rows(shared: Servers, immediate: bool) -> None:
    query(shared.owner_url, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")
    before = servers.restart_postgres(shared)

    with closing(psycopg2.connect(shared.web_url)):  # an idle client holds nothing up
        after = servers.restart_postgres(before, immediate=immediate)

    assert after.owner_url == shared.owner_url
    assert after.postgres_pid != before.postgres_pid
    assert query(shared.owner_url, "SELECT answer FROM kept") == (42,)


def test_a_kept_home_survives_a_stop_and_a_second_start_changes_nothing(kept: Path) -> None:
    first = servers.start(kept)
    query(first.owner_url, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")
    with client(first.redis_url) as connection:
        connection.set("key", "value")
    assert servers.start(kept) == servers.status(kept) == first

    servers.stop(kept)
    stopped = servers.status(kept)
    second = servers.start(kept)

    assert stopped is None
    assert (second.owner_url, second.redis_url) == (first.owner_url, first.redis_url)
    assert query(second.owner_url, "SELECT answer FROM kept") == (42,)
    with client(second.redis_url) as connection:
        assert connection.get("key") == "value"


def test_killed_servers_come_back_with_their_rows(kept: Path) -> None:
    first = servers.start(kept)
    query(first.owner_url, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")

    with contextlib.suppress(psycopg2.Error), closing(psycopg2.connect(first.web_url)):
        os.kill(first.postgres_pid, signal.SIGKILL)
        os.kill(first.redis_pid, signal.SIGKILL)
        second = servers.start(kept)

    assert second.owner_url == first.owner_url
    assert query(second.owner_url, "SELECT answer FROM kept") == (42,)


def test_a_lock_file_that_names_a_foreign_process_is_overruled_and_the_process_lives(kept: Path) -> None:
    first = servers.start(kept)
    (data,) = kept.glob("postgres[0-9]*")
    lock = data / "postmaster.pid"
    content = lock.read_text().splitlines()
    servers.stop(kept)
    owner = account.for_directory(data)
    with subprocess.Popen(["sleep", "60"], **owner.switch()) as foreigner:
        lock.write_text("\n".join([str(foreigner.pid), *content[1:]]) + "\n")
        owner.give(lock)

        second = servers.start(kept)

        assert foreigner.poll() is None
        foreigner.kill()
    assert query(second.web_url, "SELECT 1") == (1,)
    assert second.owner_url == first.owner_url


def test_servers_that_no_record_names_are_replaced(kept: Path) -> None:
    first = servers.start(kept)
    record = state.load(kept)
    assert record is not None
    state.save(kept, state.State(record.kept, record.postgres_port, record.redis_port, record.passwords))

    second = servers.start(kept)

    assert is_gone(first.postgres_pid)
    assert is_gone(first.redis_pid)
    assert query(second.web_url, "SELECT 1") == (1,)


def test_a_recorded_pid_that_now_belongs_to_somebody_else_is_not_signalled(empty: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as foreigner:
        record = state.fresh(kept=True)
        stranger = process.Running(foreigner.pid, started=time.time() - 3600)
        state.save(empty, state.State(True, 1, 2, record.passwords, stranger, stranger))

        servers.stop(empty)

        assert foreigner.poll() is None
        foreigner.kill()


def test_two_starts_at_once_share_one_pair_of_servers(empty: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(servers.start, [empty, empty])

    assert one == other


def test_a_kept_port_that_somebody_took_is_exchanged() -> None:
    taken = state.free_port(state.REDIS_PORTS)
    with closing(socket.create_server(("127.0.0.1", taken))):
        assert state.free_port(state.REDIS_PORTS, taken) != taken

    assert state.free_port(state.REDIS_PORTS, taken) == taken


def is_guard(child: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # a child of an earlier test that nobody has waited for
        return "local.guard" in child.cmdline()
    return False


def test_a_throwaway_allows_plain_connections_when_asked_and_leaves_nothing() -> None:
    others = {child.pid for child in psutil.Process().children()}
    with servers.throwaway(plaintext=True) as running:
        guards = [one.pid for one in psutil.Process().children() if is_guard(one) and one.pid not in others]
        plain = running.web_url.replace("sslmode=verify-full", "sslmode=disable")
        statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        answers = [query(url, statement) for url in (plain, running.web_url)]

    assert answers == [(False,), (True,)]
    assert not running.home.exists()
    assert guards
    assert all(is_gone(pid) for pid in (running.postgres_pid, running.redis_pid, *guards))


LAUNCHER = """
from local import servers
with servers.throwaway() as running:
    print(running.home, running.postgres_pid, running.redis_pid, flush=True)
    input()
"""


def test_nothing_is_left_of_a_launcher_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        cwd=home.PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        path, *pids = launcher.stdout.readline().split()

        launcher.kill()

        assert eventually(lambda: not Path(path).exists())
        assert all(is_gone(int(pid)) for pid in pids)


def test_a_forked_child_that_unwinds_the_block_leaves_the_servers_alone() -> None:
    forks = """
import os, psycopg2
from local import servers
with servers.throwaway() as running:
    if os.fork() == 0:
        raise SystemExit(7)
    os.wait()
    psycopg2.connect(running.web_url).close()
"""

    done = subprocess.run(
        [sys.executable, "-c", forks], cwd=home.PROJECT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ourselves = account.Account("ourselves", os.geteuid(), os.getegid())
    running = process.spawn(["sh", "-c", "sleep 0.1; echo disk on fire"], log, ourselves)

    def refuse() -> None:
        raise ConnectionRefusedError("refused")

    with pytest.raises(process.NotStarted, match=r"(?s)refused.*disk on fire"):
        process.wait_until(refuse, (ConnectionError,), running, log)


def test_a_user_without_a_passwd_entry_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(account.NoAccount, match="12345 has no entry in the passwd database"):
        account.for_directory(tmp_path)


@pytest.mark.skipif(not ROOT, reason="only root has privileges to drop")
def test_a_home_below_a_closed_directory_is_refused_by_name(empty: Path) -> None:
    empty.chmod(0o700)

    with pytest.raises(account.NoAccount, match="cannot enter"):
        servers.start(empty / "below")

    empty.chmod(0o755)


@pytest.mark.skipif(not ROOT, reason="only root has privileges to drop")
def test_a_program_out_of_the_accounts_reach_is_copied(empty: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    program = tmp_path / "install/bin/server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho server 1.0\n")
    program.chmod(0o755)
    owner = account.for_directory(empty / "data")

    usable = account.reachable(owner, program, [program.parent], empty / "copy")

    assert usable == empty / "copy/bin/server"
    assert owner.can(usable, "--version")


UNPRIVILEGED = """
import os, pwd, sys
from pathlib import Path
import psycopg2
from local import discovery, servers

with servers.throwaway() as running:  # loads every module while the interpreter's files can still be read
    psycopg2.connect(running.web_url).close()
nobody, home = pwd.getpwnam("nobody"), Path(sys.argv[1])
os.chown(home, nobody.pw_uid, nobody.pw_gid)
os.environ["HOME"] = str(home)  # libpq looks there for a client certificate
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
try:
    discovery.find()
except discovery.NoServer:
    sys.exit(77)
running = servers.start(home)
psycopg2.connect(running.web_url).close()
servers.stop(home)
"""


@pytest.mark.skipif(not ROOT, reason="every other test of this file is this test for somebody else")
def test_an_ordinary_user_needs_no_privileges(empty: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, empty],
        cwd=home.PROJECT,
        # Nobody may not write where the coverage of this run is collected.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        check=False,
    )

    if done.returncode == 77:
        pytest.skip("nobody may run the server programs found here")
    assert (done.returncode, done.stderr) == (0, "")
    (data,) = empty.glob("postgres[0-9]*")
    assert data.owner() == "nobody"


def test_the_command_runs_another_beside_servers_and_returns_its_code() -> None:
    script = (
        "import os, psycopg2, redis\n"
        "psycopg2.connect(os.environ['DATABASE_URL']).close(); psycopg2.connect(os.environ['OWNER_DATABASE_URL']).close()\n"
        "redis.Redis.from_url(os.environ['REDIS_URL']).ping(); raise SystemExit(7)"
    )

    done = subprocess.run(
        [sys.executable, "-m", "local", "run", "--", sys.executable, "-c", script],
        cwd=home.PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (7, "")


def test_the_urls_survive_awkward_characters() -> None:
    awkward = state.State(True, 5432, 6379, {"postgres": "a/b@c:d%e ?", "redis": "a/b@c"})

    url = postgres.url(Path("/a home/100%"), awkward, "postgres")

    assert psycopg2.extensions.parse_dsn(url)["password"] == "a/b@c:d%e ?"
    assert psycopg2.extensions.parse_dsn(url)["sslrootcert"] == "/a home/100%/ca.pem"
