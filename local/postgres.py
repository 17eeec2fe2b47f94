"""One PostgreSQL cluster on loopback that speaks nothing but TLS: made, configured, started, given its roles."""

import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2 import sql

from local import account, discovery, process, tls
from local.account import Account
from local.home import write_private
from local.process import Running
from local.state import ADMIN, OWNER, WEB, WORKER, State

DATABASE = "haulage"
FAST = signal.SIGINT  # SIGTERM would wait for idle clients
IMMEDIATE = signal.SIGQUIT

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths are limited to 107 bytes, and they would be a way in without TLS
    "max_connections": "100",
    "ssl": "on",
    "ssl_cert_file": "server.crt",
    "ssl_key_file": "server.key",
    "log_connections": "on",  # tests count sessions in the log
    "log_disconnections": "on",
    "log_line_prefix": "%m [%p] %u %a ",
}


@dataclass(frozen=True)
class Cluster:
    home: Path
    bindir: Path
    data: Path
    account: Account


def log(home: Path) -> Path:
    return home / "postgres.log"


def ca_file(home: Path) -> Path:
    return home / "ca.pem"


def url(home: Path, state: State, role: str, database: str = DATABASE) -> str:
    """A libpq URL that verifies the server's certificate and its name."""
    query = urlencode({"sslmode": "verify-full", "sslrootcert": ca_file(home)}, quote_via=quote, safe="/")
    address = f"{_host()}:{state.postgres_port}"
    return f"postgresql://{role}:{quote(state.passwords[role], safe='')}@{address}/{database}?{query}"


def _host() -> str:
    """The name localhost, or the address where nothing resolves the name, as in a bare chroot."""
    try:
        socket.getaddrinfo("localhost", None, socket.AF_INET)
    except OSError:
        return "127.0.0.1"
    return "localhost"


def cluster(found: discovery.Postgres, home: Path) -> Cluster:
    """The cluster of this home for this major version; another version would refuse the data."""
    data = home / f"postgres{found.major}"
    owner = account.for_directory(data)
    parts = [found.bindir.parent / name for name in ("bin", "lib", "share")]
    program = account.reachable(
        owner,
        found.bindir / "postgres",
        [part for part in parts if part.exists()],
        home / f"programs{found.version}",
    )
    return Cluster(home, program.parent, data, owner)


def start(cluster: Cluster, state: State, *, plaintext: bool) -> Running:
    """Make the cluster if there is none, write its certificate and its rules, and start it."""
    if not cluster.data.exists():
        _initialise(cluster, state.passwords[ADMIN])
    _certify(cluster)
    _write(cluster, "pg_hba.conf", _rules(plaintext=plaintext))
    return restart(cluster, state)


def restart(cluster: Cluster, state: State) -> Running:
    """Start the stopped server again as it was configured."""
    _drop_stale_lock(cluster.data)
    settings = SETTINGS | {"port": str(state.postgres_port)}
    options = [f"--{name}={value}" for name, value in settings.items()]
    return process.spawn(
        [cluster.bindir / "postgres", "-D", cluster.data, *options], log(cluster.home), cluster.account
    )


def _initialise(cluster: Cluster, password: str) -> None:
    """Run initdb beside the final place and rename: an interrupted one leaves nothing that looks finished."""
    draft = cluster.data.with_name(cluster.data.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    cluster.account.give(draft)
    with tempfile.NamedTemporaryFile("w", dir=cluster.home) as secret:
        secret.write(password)
        secret.flush()
        cluster.account.give(Path(secret.name))
        _initdb(cluster, draft, Path(secret.name))
    draft.rename(cluster.data)


def _initdb(cluster: Cluster, data: Path, secret: Path) -> None:
    options = [
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        f"--username={ADMIN}",
        f"--pwfile={secret}",
    ]
    done = subprocess.run(
        [cluster.bindir / "initdb", f"--pgdata={data}", *options],
        cwd=cluster.home,
        env=account.CLEAN,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
        **cluster.account.switch(),
    )
    if done.returncode != 0:
        raise process.NotStarted(f"initdb failed:\n{done.stderr[-1500:].strip()}")


def _certify(cluster: Cluster) -> None:
    certificate = tls.issue()
    _write(cluster, "server.key", certificate.key)
    _write(cluster, "server.crt", certificate.chain)
    write_private(ca_file(cluster.home), certificate.authority)
    ca_file(cluster.home).chmod(0o644)


def _rules(*, plaintext: bool) -> str:
    kinds = ["hostssl", "hostnossl"] if plaintext else ["hostssl"]
    return "".join(f"{kind} all all 127.0.0.1/32 scram-sha-256\n" for kind in kinds)


def _write(cluster: Cluster, name: str, content: str) -> None:
    write_private(cluster.data / name, content)
    cluster.account.give(cluster.data / name)


def _drop_stale_lock(data: Path) -> None:
    """PostgreSQL gives up if its old lock file names any living process of the same user, as after a container restart."""
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    process.evict("postgres", data)  # a server of this directory that no record names, or its orphans
    if lock.exists() and process.is_taken(int(lock.read_text().split()[0])):
        lock.unlink()


def wait(home: Path, state: State) -> None:
    """Return when clients can connect; raises NotStarted."""
    address = url(home, state, ADMIN, "postgres")
    process.wait_until(
        lambda: psycopg2.connect(address, connect_timeout=5).close(),
        (psycopg2.OperationalError,),
        state.postgres,
        log(home),
    )


def prepare(home: Path, state: State) -> None:
    """Create the roles and the database that are missing; safe to repeat after an interruption."""
    with closing(psycopg2.connect(url(home, state, ADMIN, "postgres"))) as connection:
        connection.autocommit = True  # CREATE DATABASE refuses a transaction
        with connection.cursor() as cursor:
            cursor.execute("SELECT rolname FROM pg_roles")
            existing = {role for (role,) in cursor}
            for role in {OWNER, WEB, WORKER} - existing:
                statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(role))
                cursor.execute(statement, [state.passwords[role]])
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if cursor.fetchone() is None:
                names = sql.Identifier(DATABASE), sql.Identifier(OWNER)
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
