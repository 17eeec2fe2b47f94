"""`haulage doctor` against servers that are away, frozen, in disguise, or show the wrong certificate.

No worker runs here; what a running installation's lines say is in the acceptance tests.
"""

import json
import os
import re
import secrets
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import trustme
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import make_url

from app.cli.main import haulage
from app.diagnosis import clocks, flower, workers
from app.diagnosis.examination import NAMES, kind_of
from app.staging import IDENTITY_FILE
from local import state
from local.servers import Servers
from tests.installation import Installation, execute, in_database

ENDED_WITHIN = 40.0  # seconds, whatever hangs; on an idle machine it is under ten
OF_WORKERS = {
    "workers",
    "worker-sessions",
    "worker-queues",
    "worker-tasks",
    "worker-versions",
    "worker-limits",
}


@dataclass
class Told:
    """What the doctor said, by the names of its lines."""

    code: int
    lines: dict[str, dict[str, str]]
    output: str

    def level(self, name: str) -> str:
        return self.lines[name]["level"]

    def found(self, name: str) -> str:
        return self.lines[name]["found"]

    def bad(self, *, but: set[str] = frozenset()) -> list[dict[str, str]]:
        return [one for name, one in self.lines.items() if one["level"] == "bad" and name not in but]


@dataclass
class Doctor:
    """Runs the command in this process; knows every password that it must not show."""

    installation: Installation
    secrets: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=lambda: {"onedrive", "onedrive-files"})  # of no such drive

    def look(self, **environment: str) -> Told:
        self.installation.forget_process_state()
        ended = CliRunner(env=environment).invoke(haulage, ["doctor", "--json"])
        self.installation.forget_process_state()
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.output
        told = Told(ended.exit_code, {one["name"]: one for one in json.loads(ended.stdout)}, ended.output)
        self._check(told)
        return told

    def _check(self, told: Told) -> None:
        """What holds of every output: all lines, nothing secret, something to do, and the exit code that fits."""
        kinds = [*dict.fromkeys(map(kind_of, told.lines))]
        assert kinds == [one for one in NAMES if one not in self.missing]
        assert [secret for secret in self.secrets if secret in told.output] == []
        assert all((one["level"] == "good") == (one["do"] == "") for one in told.lines.values())
        assert told.code == (1 if told.bad() else 0)


def secrets_of(servers: Servers) -> set[str]:
    known = state.load(servers.home)
    return set(known.passwords.values()) if known else set()


@contextmanager
def redis_of(servers: Servers) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(servers.redis_url)) as client:
        yield client


@contextmanager
def kept_by_snapshots(servers: Servers) -> Iterator[None]:
    """Let Redis keep what it has, as an installation's should; the tests' own does not."""
    with closing(redis.Redis.from_url(servers.redis_url)) as client:
        before = client.config_get("save")["save"]
        client.config_set("save", "3600 1")
        try:
            yield
        finally:
            client.config_set("save", before)


@pytest.fixture
def doctor(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    """A sound installation, as far as one is without workers and beat."""
    monkeypatch.setenv("LEASE_SECONDS", "60")
    monkeypatch.setenv("FLOWER_PORT", "1")
    monkeypatch.setattr(workers, "FIRST_SECONDS", 0.1)  # nobody is there to answer
    installation.query("INSERT INTO corporate.upkeep_runs VALUES ('tasks.upkeep.sweep', now())")
    with kept_by_snapshots(installation.servers):
        yield Doctor(installation, secrets_of(installation.servers))


def assert_told(told: Told, name: str, level: str, says: str, do: str) -> None:
    assert told.level(name) == level, told.lines[name]
    assert says in told.found(name)
    assert do in told.lines[name]["do"]


# Sound


def test_everything_but_the_workers_is_good_where_everything_but_they_is_there(doctor: Doctor) -> None:
    told = doctor.look()

    assert {name for name in told.lines if told.level(name) != "good"} == OF_WORKERS - {"worker-sessions"}
    assert_told(told, "workers", "bad", "none answers", "celery -A tasks.worker worker")
    assert told.found("worker-queues") == "not examined: it depends on workers"


def test_the_webs_role_is_as_good(doctor: Doctor) -> None:
    told = doctor.look(DATABASE_URL=doctor.installation.environment["WEB_DATABASE_URL"])

    assert told.bad(but={"workers"}) == []
    assert told.found("grants") == "haulage_web may do the web's work"


def test_a_workers_machine_without_the_owners_url_is_told_that_tokens_are_not_seen(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OWNER_DATABASE_URL", raising=False)

    told = doctor.look()

    assert told.level("owner") == "good"
    assert_told(told, "tokens", "warning", "permission denied", "web process or the owner")


# PostgreSQL away


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve every connection in a thread of its own; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve_quietly, args=(server.accept()[0],), daemon=True).start()

        def serve_quietly(client: socket.socket) -> None:
            with client, suppress(OSError, ssl.SSLError):
                serve(client)

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()


def at(url: str, port: int, **query: str) -> str:
    changed = make_url(url).set(host="127.0.0.1", port=port).update_query_dict(query)
    return changed.render_as_string(hide_password=False)


def never_answers(client: socket.socket) -> None:
    while client.recv(1024):
        pass


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def assert_only_what_needs_postgresql_is_not_examined(told: Told) -> None:
    unseen = {name for name in told.lines if told.found(name) == "not examined: it depends on postgresql"}
    assert unseen == {
        "postgresql-session", "postgresql-tls", "clock-postgresql", "roles", "owner", "schema", "grants", "connections",
        "staging-identity", "drive-pauses", "corporations", "sweep", "clean-up", "waiting", "failed", "tokens", "worker-sessions",
    }  # fmt: skip
    assert all(told.level(name) == "warning" for name in unseen)
    for name in ("redis", "redis-eviction", "staging", "drive", "inbox", "limits", "flower"):
        assert told.level(name) == "good"


def test_where_postgresql_is_away_the_rest_is_still_looked_at(doctor: Doctor) -> None:
    told = doctor.look(DATABASE_URL=at(os.environ["DATABASE_URL"], closed_port()))

    assert_told(told, "postgresql", "bad", "refused", "Start PostgreSQL")
    assert_told(told, "postgresql-certificate", "bad", "refused", "running")
    assert_only_what_needs_postgresql_is_not_examined(told)


def test_a_postgresql_that_never_answers_is_told_within_seconds(doctor: Doctor) -> None:
    began = time.monotonic()

    with listener(never_answers) as port:
        told = doctor.look(DATABASE_URL=at(os.environ["DATABASE_URL"], port))

    assert time.monotonic() - began < ENDED_WITHIN
    assert_told(told, "postgresql", "bad", "timeout", "Start PostgreSQL")
    assert_told(told, "postgresql-certificate", "bad", "showed none", "running")
    assert_only_what_needs_postgresql_is_not_examined(told)


@pytest.mark.parametrize(
    ("change", "says", "do"),
    [
        ({"password": "wrong-s3cret"}, "password authentication failed", "Correct user and password"),
        (
            {"username": "nobody-s3cret", "password": "x"},
            "authentication failed",
            "Correct user and password",
        ),
        ({"database": "nowhere"}, 'database "nowhere" does not exist', "haulage migrate"),
        ({"host": "nowhere.invalid"}, "no machine has the name", "%40"),
        ({"drivername": "mysql"}, "begins with mysql://", "Correct DATABASE_URL"),
        ({"query": {"sslmode": "verify-full"}}, "root certificate file", "sslrootcert="),
    ],
)
def test_a_url_that_leads_nowhere_is_told(
    doctor: Doctor, change: dict[str, Any], says: str, do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    doctor.secrets.add("wrong-s3cret")

    told = doctor.look(
        DATABASE_URL=make_url(os.environ["DATABASE_URL"]).set(**change).render_as_string(hide_password=False)
    )

    assert_told(told, "postgresql", "bad", says, do)


def test_the_end_of_a_password_that_is_taken_for_the_host_is_not_shown(doctor: Doctor) -> None:
    doctor.secrets |= {"beginning", "ending"}

    told = doctor.look(
        DATABASE_URL="postgresql://haulage_worker:beginning@ending/x@127.0.0.1/db?sslmode=require",
        REDIS_URL="redis://:beginning/ending@127.0.0.1/0",
    )

    assert told.level("postgresql") == told.level("redis") == "bad"
    assert all("%40" in told.lines[name]["do"] for name in ("postgresql", "redis"))


# In disguise: relays to the real server, without TLS


def pump(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(change(data))
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def disguised(
    url: str, startup: Callable[[bytes], bytes] = bytes, answer: Callable[[bytes], bytes] = bytes
) -> Iterator[str]:
    """A relay that changes the startup message, or what the server answers; an empty startup message is refused."""
    parsed = make_url(url)

    def relay(client: socket.socket) -> None:
        message = startup(client.recv(65536))
        if not message:
            text = b"SERROR\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(b"E" + (len(text) + 4).to_bytes(4) + text)
            return
        with socket.create_connection(("127.0.0.1", parsed.port)) as server:
            server.sendall(message)
            back = threading.Thread(target=pump, args=(server, client, answer), daemon=True)
            back.start()
            pump(client, server, bytes)
            back.join(5)

    with listener(relay) as port:
        yield parsed.set(host="127.0.0.1", port=port, query={"sslmode": "disable"}).render_as_string(
            hide_password=False
        )


def without_options(message: bytes) -> bytes:
    kept = re.sub(rb"options\0[^\0]*\0", b"", message)
    return len(kept).to_bytes(4) + kept[4:]


def refused_with_options(message: bytes) -> bytes:
    return b"" if b"options\0" in message else message


def test_a_relay_that_changes_nothing_is_no_fault(doctor: Doctor) -> None:
    with disguised(os.environ["DATABASE_URL"]) as url:
        told = doctor.look(DATABASE_URL=url)

    assert told.level("postgresql") == told.level("postgresql-session") == "good"


@pytest.mark.parametrize("startup", [without_options, refused_with_options])
def test_a_pgbouncer_in_the_way_is_told_and_hides_nothing(
    doctor: Doctor, startup: Callable[[bytes], bytes]
) -> None:
    with disguised(os.environ["DATABASE_URL"], startup) as url:
        told = doctor.look(DATABASE_URL=url)

    assert_told(told, "postgresql-session", "bad", "PgBouncer", "PostgreSQL itself")
    assert told.level("postgresql") == told.level("schema") == told.level("sweep") == "good"


def test_an_old_postgresql_is_told(doctor: Doctor) -> None:
    def older(data: bytes) -> bytes:
        return re.sub(rb"server_version\0\d\d", b"server_version\x0013", data)

    with disguised(os.environ["DATABASE_URL"], answer=older) as url:
        told = doctor.look(DATABASE_URL=url)

    assert_told(told, "postgresql", "bad", "PostgreSQL 13", "14 or newer")


# Certificates


def shows(certificate: trustme.LeafCert, asked_first: bool) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def serve(client: socket.socket) -> None:
        if asked_first:
            client.recv(8)
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as encrypted:
            encrypted.recv(1024)  # and hangs up: what is shown is all that counts here

    return serve


def issued(authority: trustme.CA, days: int) -> trustme.LeafCert:
    ends = datetime.now(UTC) + timedelta(days=days)
    return authority.issue_cert(
        "127.0.0.1", not_before=ends - timedelta(days=400), not_after=ends, key_type=trustme.KeyType.ECDSA
    )


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.mark.parametrize("hosts", ["{host}", "{host},{host}"])
def test_hosts_and_ports_in_the_query_are_as_good(doctor: Doctor, hosts: str) -> None:
    url = make_url(os.environ["DATABASE_URL"])
    host, port = (",".join([str(one)] * hosts.count("{")) for one in (url.host, url.port))
    query = {**url.query, "host": host, "port": port}

    told = doctor.look(
        DATABASE_URL=url.set(host=None, port=None, query=query).render_as_string(hide_password=False)
    )

    assert told.level("postgresql") == told.level("postgresql-certificate") == "good"


@pytest.mark.parametrize(
    ("days", "level", "says"),
    [(200, "good", "is valid until"), (10, "warning", "9 more day(s)"), (-1, "bad", "was valid until")],
)
@pytest.mark.parametrize("mode", ["verify-full", "require"])
def test_until_when_a_certificate_is_valid_is_told(  # noqa: PLR0913, PLR0917  parameters and fixtures
    doctor: Doctor, authority: trustme.CA, ca_file: str, days: int, level: str, says: str, mode: str
) -> None:
    certificate = issued(authority, days)
    with (
        listener(shows(certificate, asked_first=True)) as postgres,
        listener(shows(certificate, asked_first=False)) as store,
    ):
        told = doctor.look(
            DATABASE_URL=at(os.environ["DATABASE_URL"], postgres, sslrootcert=ca_file, sslmode=mode),
            REDIS_URL=f"rediss://:s3cret@127.0.0.1:{store}/0?ssl_cert_reqs=required&ssl_ca_certs={ca_file}",
        )

    for name in ("postgresql-certificate", "redis-certificate"):
        assert_told(told, name, level, says, "" if level == "good" else "Issue a new certificate")


def test_a_certificate_of_another_ca_is_told(doctor: Doctor, ca_file: str) -> None:
    strange = issued(trustme.CA(key_type=trustme.KeyType.ECDSA), 100)
    with listener(shows(strange, asked_first=True)) as port:
        told = doctor.look(DATABASE_URL=at(os.environ["DATABASE_URL"], port, sslrootcert=ca_file))

    assert_told(told, "postgresql-certificate", "bad", "refused", "Name the CA")
    assert_told(told, "postgresql", "bad", "certificate verify failed", "postgresql-certificate")


def authority_that_ends(path: Path, ends: datetime) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=old")
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=900))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    ("days", "level", "do"), [(100, "good", ""), (12, "warning", "new CA"), (-3, "bad", "new CA")]
)
def test_until_when_the_ca_is_valid_is_told(
    doctor: Doctor, tmp_path: Path, days: int, level: str, do: str
) -> None:
    authority_that_ends(tmp_path / "old.pem", datetime.now(UTC) + timedelta(days=days))

    told = doctor.look(
        DATABASE_URL=at(os.environ["DATABASE_URL"], closed_port(), sslrootcert=f"{tmp_path}/old.pem")
    )

    assert_told(told, "postgresql-ca", level, f"{tmp_path}/old.pem", do)


def test_a_ca_file_that_is_missing_is_told(doctor: Doctor, tmp_path: Path) -> None:
    told = doctor.look(
        DATABASE_URL=at(os.environ["DATABASE_URL"], closed_port(), sslrootcert=f"{tmp_path}/none.pem")
    )

    assert_told(told, "postgresql-ca", "bad", "none.pem cannot be read", "PEM")


# Redis


def assert_only_what_needs_redis_is_not_examined(told: Told) -> None:
    unseen = {name for name in told.lines if told.found(name) == "not examined: it depends on redis"}
    assert unseen == OF_WORKERS | {
        "redis-tls", "redis-eviction", "redis-memory", "redis-persistence", "redis-keys", "clock-redis", "queues",
    }  # fmt: skip
    assert [one["name"] for one in told.bad()] == ["redis"]


def test_where_redis_is_away_the_rest_is_still_looked_at(doctor: Doctor) -> None:
    told = doctor.look(REDIS_URL=at(os.environ["REDIS_URL"], closed_port()))

    assert_told(told, "redis", "bad", "refused", "Start Redis")
    assert_only_what_needs_redis_is_not_examined(told)


def test_a_frozen_redis_is_told_within_seconds(doctor: Doctor) -> None:
    began = time.monotonic()
    os.kill(doctor.installation.servers.redis_pid, signal.SIGSTOP)
    try:
        told = doctor.look()
    finally:
        os.kill(doctor.installation.servers.redis_pid, signal.SIGCONT)

    assert time.monotonic() - began < ENDED_WITHIN
    assert_told(told, "redis", "bad", "imeout", "Start Redis")
    assert_only_what_needs_redis_is_not_examined(told)


def test_both_frozen_are_told_within_seconds(doctor: Doctor) -> None:
    began = time.monotonic()
    with listener(never_answers) as port:
        told = doctor.look(
            DATABASE_URL=at(os.environ["DATABASE_URL"], port), REDIS_URL=f"redis://:s3cret@127.0.0.1:{port}/0"
        )

    assert time.monotonic() - began < ENDED_WITHIN
    assert told.level("postgresql") == told.level("redis") == "bad"
    assert told.level("staging") == told.level("drive") == "good"


def test_a_wrong_password_for_redis_is_told(doctor: Doctor) -> None:
    doctor.secrets.add("wrong-s3cret")

    told = doctor.look(
        REDIS_URL=make_url(os.environ["REDIS_URL"])
        .set(password="wrong-s3cret")
        .render_as_string(hide_password=False)
    )

    assert_told(told, "redis", "bad", "refuses the password", "Correct user and password in REDIS_URL")


@contextmanager
def a_user_without(servers: Servers, *commands: str) -> Iterator[str]:
    with redis_of(servers) as client:
        client.acl_setuser("limited", enabled=True, passwords=["+s3cret-canary"], keys=["*"], channels=["*"],
                           commands=["+@all", *(f"-{one}" for one in commands)])  # fmt: skip
        try:
            yield (
                make_url(servers.redis_url)
                .set(username="limited", password="s3cret-canary")
                .render_as_string(hide_password=False)
            )
        finally:
            client.acl_deluser("limited")


def test_a_redis_user_without_info_hides_only_what_info_tells(doctor: Doctor) -> None:
    doctor.secrets.add("s3cret-canary")
    with a_user_without(doctor.installation.servers, "info") as url:
        told = doctor.look(REDIS_URL=url)

    for name in ("redis", "redis-eviction", "redis-memory", "redis-persistence"):
        assert_told(told, name, "warning", "not examined", "INFO")
    for name in ("redis-tls", "redis-keys", "clock-redis", "queues"):
        assert told.level(name) == "good"
    assert told.bad(but={"workers"}) == []


def test_a_redis_user_whom_celery_could_not_use_is_told(doctor: Doctor) -> None:
    doctor.secrets.add("s3cret-canary")
    with a_user_without(doctor.installation.servers, "ping") as url:
        told = doctor.look(REDIS_URL=url)

    assert_told(told, "redis", "bad", "does not let this user do what Celery must", "ACL SETUSER")


@pytest.mark.parametrize(
    ("answer", "says", "do"),
    [
        ("LOADING Redis is loading the dataset in memory", "is just starting", "Look again"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "is full", "Raise maxmemory"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "own disk", "Make room"),
    ],
)
def test_a_redis_that_answers_no_is_not_told_to_be_away(
    doctor: Doctor, answer: str, says: str, do: str
) -> None:
    def refuses(client: socket.socket) -> None:
        while client.recv(65536):
            client.sendall(f"-{answer}\r\n".encode())

    with listener(refuses) as port:
        told = doctor.look(REDIS_URL=f"redis://127.0.0.1:{port}/0")

    assert_told(told, "redis", "bad", says, do)
    assert "does not answer" not in told.found("redis")


@contextmanager
def that_cannot_save(servers: Servers) -> Iterator[None]:
    with redis_of(servers) as client:
        snapshot = Path(client.config_get("dir")["dir"], client.config_get("dbfilename")["dbfilename"])
        snapshot.unlink(missing_ok=True)
        snapshot.mkdir()
        try:
            client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                time.sleep(0.01)
            yield
        finally:
            snapshot.rmdir()
            client.save()


def test_a_redis_that_cannot_save_is_told(doctor: Doctor) -> None:
    with that_cannot_save(doctor.installation.servers):
        told = doctor.look()

    assert_told(told, "redis", "bad", "cannot write to its own disk", "Make room")
    assert doctor.look().level("redis") == "good"


def test_a_redis_that_is_full_is_bad(doctor: Doctor) -> None:
    with redis_of(doctor.installation.servers) as client:
        client.config_set("maxmemory", "1")
        try:
            told = doctor.look()
        finally:
            client.config_set("maxmemory", "0")

    assert_told(told, "redis-memory", "bad", "it takes no more messages", "Raise maxmemory")


def test_a_redis_behind_tls_is_looked_at_over_it(doctor: Doctor, authority: trustme.CA, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued(authority, 100).configure_cert(context)
    plain = make_url(os.environ["REDIS_URL"])

    def front(client: socket.socket) -> None:
        with (
            context.wrap_socket(client, server_side=True) as encrypted,
            socket.create_connection(("127.0.0.1", plain.port)) as server,
        ):
            back = threading.Thread(target=pump, args=(server, encrypted, bytes), daemon=True)
            back.start()
            pump(encrypted, server, bytes)
            back.join(5)

    with listener(front) as port:
        told = doctor.look(
            REDIS_URL=f"rediss://:{plain.password}@127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={ca_file}"
        )

    assert told.bad(but={"workers"}) == []
    assert told.found("redis-tls") == "the connection is encrypted, and the server is proved"
    assert "is valid until" in told.found("redis-certificate")


def test_nobody_who_sweeps_is_seen_in_the_queue(doctor: Doctor) -> None:
    with closing(redis.Redis.from_url(os.environ["REDIS_URL"])) as client:
        client.rpush("upkeep", *["x"] * 101)
        told = doctor.look()
        client.delete("upkeep")

    assert_told(told, "queues", "bad", "nobody sweeps", "-Q")


# The schema, and what nobody runs


@pytest.mark.parametrize(
    ("revision", "level", "do"), [("0001", "bad", "haulage migrate"), ("9999", "warning", "newer release")]
)
def test_another_schema_is_told(doctor: Doctor, revision: str, level: str, do: str) -> None:
    ours = doctor.installation.query("SELECT version_num FROM corporate.alembic_version")[0][0]
    doctor.installation.query("UPDATE corporate.alembic_version SET version_num = %s", revision)
    try:
        told = doctor.look()
    finally:
        doctor.installation.query("UPDATE corporate.alembic_version SET version_num = %s", ours)

    assert_told(told, "schema", level, revision, do)
    assert told.level("sweep") == ("good" if level == "warning" else "warning")


def test_a_database_without_our_schema_is_told(doctor: Doctor) -> None:
    told = doctor.look(DATABASE_URL=in_database(os.environ["DATABASE_URL"], "postgres"))

    assert_told(told, "schema", "bad", "there is none", "haulage migrate")
    assert told.found("sweep") == "not examined: it depends on schema"


@pytest.fixture
def elsewhere(installation: Installation) -> Iterator[str]:
    """A database with a schema `corporate` that Haulage has not made, and a role with an odd name that may look in."""
    servers, name = installation.servers, f"elsewhere_{secrets.token_hex(4)}"
    execute(servers.admin_url, f"CREATE DATABASE {name}")
    execute(servers.admin_url, f"CREATE ROLE \"Odd-{name}\" LOGIN CREATEROLE PASSWORD 's3cret-canary'")
    admin = in_database(servers.admin_url, name)
    execute(admin, f'CREATE SCHEMA corporate; GRANT USAGE ON SCHEMA corporate TO "Odd-{name}"')
    yield (
        make_url(admin)
        .set(username=f"Odd-{name}", password="s3cret-canary")
        .render_as_string(hide_password=False)
    )
    execute(servers.admin_url, f"DROP DATABASE {name} WITH (FORCE)")
    execute(servers.admin_url, f'DROP ROLE "Odd-{name}"')


def test_a_schema_that_haulage_has_not_made_is_told(doctor: Doctor, elsewhere: str) -> None:
    told = doctor.look(DATABASE_URL=elsewhere)

    assert_told(told, "schema", "bad", "no tables of Haulage's in it", "haulage migrate")


def test_statements_that_are_advised_can_be_run_as_they_stand(doctor: Doctor, elsewhere: str) -> None:
    odd = make_url(elsewhere)
    ours = odd.set(database=make_url(os.environ["DATABASE_URL"]).database)
    doctor.installation.look(f'GRANT USAGE ON SCHEMA corporate TO "{odd.username}"')
    doctor.installation.look(f'GRANT SELECT ON corporate.alembic_version TO "{odd.username}"')
    try:
        told = doctor.look(DATABASE_URL=ours.render_as_string(hide_password=False))
        assert_told(told, "grants", "bad", "lacks", f'TO "{odd.username}"')
        assert_told(told, "roles", "warning", "may make roles", f'ALTER ROLE "{odd.username}" NOCREATEROLE')
        for line, who in (("grants", "owner_url"), ("roles", "admin_url")):
            _, _, statements = told.lines[line]["do"].partition(": ")
            execute(in_database(getattr(doctor.installation.servers, who), str(ours.database)), statements)
        mended = doctor.look(DATABASE_URL=ours.render_as_string(hide_password=False))
    finally:
        doctor.installation.look(f'DROP OWNED BY "{odd.username}"')

    assert mended.level("grants") == mended.level("roles") == "good"


@pytest.mark.parametrize(
    ("what", "from_whom", "lacks"),
    [
        ("UPDATE ON corporate.upkeep_runs", "haulage_worker", "UPDATE upkeep_runs"),
        ("EXECUTE ON FUNCTION corporate.record_folder", "haulage_worker", "EXECUTE record_folder"),
        ("SELECT ON corporate.api_tokens", "haulage_web", "SELECT api_tokens"),
    ],
)
def test_a_grant_that_lacks_is_told_with_its_statement(
    doctor: Doctor, what: str, from_whom: str, lacks: str
) -> None:
    url = "DATABASE_URL" if from_whom == "haulage_worker" else "WEB_DATABASE_URL"
    doctor.installation.query(f"REVOKE {what} FROM {from_whom}")
    try:
        told = doctor.look(DATABASE_URL=doctor.installation.environment[url])
    finally:
        doctor.installation.query(f"GRANT {what} TO {from_whom}")

    assert_told(told, "grants", "bad", f"{from_whom} lacks", f"GRANT {what} TO {from_whom}")
    assert lacks in told.found("grants")
    assert doctor.look(DATABASE_URL=doctor.installation.environment[url]).level("grants") == "good"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM corporate.upkeep_runs", "none ever ran"),
        (
            "UPDATE corporate.upkeep_runs SET ran_at = now() - interval '3 hours'",
            "the last one ran 3 hours ago",
        ),
    ],
)
def test_a_sweep_that_does_not_come_is_told(doctor: Doctor, change: str, says: str) -> None:
    doctor.installation.query(change)

    assert_told(doctor.look(), "sweep", "bad", says, "Is beat running")


@contextmanager
def hanging(file: Path) -> Iterator[None]:
    """Have whoever reads the file wait, as on a mount that has lost its server."""
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    try:
        yield
    finally:
        writer = os.open(file, os.O_RDWR)
        os.write(writer, content)  # whoever still waits is let go
        file.unlink()
        file.write_bytes(content)
        os.close(writer)


def test_a_staging_that_hangs_hides_nothing_that_postgresql_tells(doctor: Doctor) -> None:
    with hanging(doctor.installation.staging_dir / IDENTITY_FILE):
        told = doctor.look()

    assert_told(told, "staging-identity", "bad", "no answer", "hangs")
    assert {told.level(name) for name in ("grants", "sweep", "clean-up", "waiting", "failed", "tokens")} == {
        "good"
    }


def failed_upload(installation: Installation, inbox_path: str) -> None:
    installation.query(
        "INSERT INTO corporate.uploads"
        " (id, corp_index, state, parent_id, folder, name, on_conflict, inbox_path, reason, finished_at)"
        f" VALUES (gen_random_uuid(), 7, 'failed', '7', '{{}}', 'x', 'fail', {inbox_path}, 'worn_out', now())"
    )


def test_an_upload_whose_bytes_are_gone_is_not_to_be_retried(doctor: Doctor) -> None:
    failed_upload(doctor.installation, "NULL")

    told = doctor.look()

    assert told.level("failed") == "good"
    assert "note: the bytes of 1 that failed are gone" in told.found("failed")
    failed_upload(doctor.installation, "'x'")
    both = doctor.look()
    assert_told(
        both,
        "failed",
        "warning",
        "1 upload(s) have failed, most often because of worn_out (1)",
        "haulage retry",
    )
    assert "the bytes of 1" in both.found("failed")


def test_a_table_that_is_locked_holds_nothing_up(doctor: Doctor) -> None:
    connection = psycopg2.connect(doctor.installation.environment["OWNER_DATABASE_URL"])
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE corporate.uploads IN ACCESS EXCLUSIVE MODE")
        told = doctor.look()

    for name in ("clean-up", "waiting", "failed"):
        assert_told(told, name, "bad", "lock timeout", "pg_blocking_pids")
    assert told.level("sweep") == told.level("tokens") == "good"


@pytest.mark.parametrize(("off", "level"), [(5.0, "warning"), (-60.0, "bad")])
def test_a_clock_that_is_off_is_told(
    doctor: Doctor, off: float, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "now", lambda: time.time() + off)

    told = doctor.look()

    for name in ("clock-postgresql", "clock-redis"):
        assert_told(told, name, level, "s apart", "NTP")


# Flower


@contextmanager
def answering_like_flower(answers: dict[str, str]) -> Iterator[str]:
    """Answer each path with a status and headers; yield the port. Paths that are not named are not found."""

    def serve(client: socket.socket) -> None:
        path = client.recv(65536).split()[1].decode()
        status = answers.get(path, "404 Not Found")
        client.sendall(
            f"HTTP/1.1 {status}\r\nServer: TornadoServer/6.5\r\nContent-Length: 0\r\n\r\n".encode()
        )

    with listener(serve) as port:
        yield str(port)


@pytest.mark.parametrize(
    ("status", "level", "says"),
    [
        ("200 OK", "bad", "lets everybody in"),
        ("401 Unauthorized", "good", "asks for a password"),
        ("403 Forbidden", "good", "asks for a password"),
        ("302 Found\r\nLocation: /login?next=%2F", "good", "asks for a password"),
        ("301 Moved\r\nLocation: /elsewhere", "warning", "whether it asks"),
        ("404 Not Found", "warning", "whether it asks"),
        ("500 Broken", "warning", "whether it asks"),
    ],
)
def test_only_a_flower_that_asks_who_it_is_is_taken_for_guarded(status: str, level: str, says: str) -> None:
    with answering_like_flower({"/": status, "/api/workers": "401 Unauthorized"}) as port:
        found = flower.flower({"FLOWER_PORT": port})

    assert (found.level, says in found.found) == (level, True)
    assert ("FLOWER_URL_PREFIX" in found.do) == (level == "warning")


def test_a_flower_with_a_path_of_its_own_is_looked_for_there() -> None:
    for status, level in (("200 OK", "bad"), ("401 Unauthorized", "good")):
        with answering_like_flower({"/watch/": status, "/watch/api/workers": "401 Unauthorized"}) as port:
            found = flower.flower({"FLOWER_PORT": port, "FLOWER_URL_PREFIX": "/watch"})

        assert found.level == level
