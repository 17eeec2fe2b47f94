"""One installation of Haulage for a test: a database of its own, directories, an environment, corporation 7."""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import redis
from cryptography.fernet import Fernet
from sqlalchemy import make_url

from app import catalogue, database, schema
from app.drive_settings import OneDriveSettings, drive_settings
from app.drives.filesystem import FilesystemDrive
from app.drives.registry import onedrive
from app.graph.meter import Meter
from app.models import Base, StagingIdentity
from app.settings import settings
from app.staging import Staging
from local.servers import Servers
from tests.graph.launch import Simulator

CORP = 7
LIBRARY, LIBRARY_CORP = "library", 9  # a drive in a simulator, and the corporation that lives there


@dataclass(frozen=True)
class Installation:
    servers: Servers
    environment: dict[str, str]
    root: Path

    @property
    def staging_dir(self) -> Path:
        return self.root / "staging"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox" / str(CORP)

    @property
    def drive_dir(self) -> Path:
        return self.root / "drive"

    @staticmethod
    def forget_process_state() -> None:
        """Make this process read its settings anew, and connect to the database they name."""
        engine = database._process.pop("engine", None)
        if engine is not None:
            engine.dispose()
        settings.cache_clear()
        drive_settings.cache_clear()
        from tasks import means

        means.means.cache_clear()

    def look(self, statement: str, *parameters: object) -> list[tuple]:
        """Ask as the superuser: nobody else sees what other roles' sessions are doing."""
        name = make_url(self.environment["OWNER_DATABASE_URL"]).database
        return ask(in_database(self.servers.admin_url, name), statement, parameters)

    def query(self, statement: str, *parameters: object) -> list[tuple]:
        """Ask from outside, as the owner, on a connection of its own."""
        return ask(self.environment["OWNER_DATABASE_URL"], statement, parameters)


def ask(url: str, statement: str, parameters: tuple[object, ...]) -> list[tuple]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


def make_database(servers: Servers) -> str:
    """Make the database that all tests use in turn; return its name."""
    owner = make_url(servers.owner_url).username
    name = f"test_{secrets.token_hex(6)}"
    execute(servers.admin_url, f'CREATE DATABASE {name} OWNER "{owner}"')
    schema.migrate(in_database(servers.owner_url, name))
    return name


def fresh_installation(servers: Servers, database_name: str, root: Path) -> Installation:
    _empty(in_database(servers.admin_url, database_name))
    redis.Redis.from_url(servers.redis_url).flushdb()
    made = Installation(servers, _environment(servers, database_name, root), root)
    _furnish(made)
    return made


def _empty(admin_url: str) -> None:
    """Take everything out of the database, past triggers and keys; quicker by far than a new one for each test."""
    tables = ", ".join(f"corporate.{table.name}" for table in Base.metadata.sorted_tables)
    execute(
        admin_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid();"
        "SET session_replication_role = replica;"
        + "".join(f"DELETE FROM {table};" for table in tables.split(", "))
        + "INSERT INTO corporate.tally_horizon VALUES (true, '0');",
    )


def _environment(servers: Servers, name: str, root: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": in_database(servers.worker_url, name),
        "WEB_DATABASE_URL": in_database(servers.web_url, name),
        "OWNER_DATABASE_URL": in_database(servers.owner_url, name),
        "REDIS_URL": servers.redis_url,
        "STAGING_DIR": str(root / "staging"),
        "INBOX_DIR": str(root / "inbox"),
        "DRIVE_DIR": str(root / "drive"),
        "STAGING_RESERVE_BYTES": "0",
        "LEASE_SECONDS": "3",
        "RETRY_SECONDS": "1",
        "SWEEP_SECONDS": "1",
    }


def _furnish(made: Installation) -> None:
    for folder in (made.inbox, made.drive_dir):
        folder.mkdir(parents=True)
    identity = Staging(made.staging_dir, 1, 0).prepare()
    root = FilesystemDrive(made.drive_dir).make_root(CORP)
    engine = database.short_lived_engine(made.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        session.add(StagingIdentity(identity=identity))
        catalogue.add_corporation(session, CORP, "Test", root.id)


def with_library(made: Installation, simulator: Simulator) -> Installation:
    """Add a drive in a simulator that speaks TLS, and a corporation on it; the first one stays on the filesystem."""
    root_id = onedrive(LIBRARY, library_settings(simulator), Meter(LIBRARY)).make_root(LIBRARY_CORP).id
    engine = database.short_lived_engine(made.environment["OWNER_DATABASE_URL"])
    with database.Session(engine) as session, session.begin():
        catalogue.add_corporation(session, LIBRARY_CORP, "Library", root_id, LIBRARY)
    return replace(made, environment=made.environment | library_environment(simulator))


def library_settings(simulator: Simulator) -> OneDriveSettings:
    return OneDriveSettings.model_validate({"kind": "onedrive"} | _library(simulator))


def library_environment(simulator: Simulator) -> dict[str, str]:
    own = {"kind": "onedrive"} | _library(simulator)
    named = {f"DRIVE_{LIBRARY}_{name}".upper(): value for name, value in own.items()}
    return named | {"DRIVES": LIBRARY, "SESSION_KEYS": Fernet.generate_key().decode()}


def _library(simulator: Simulator) -> dict[str, str]:
    return {
        "tenant_id": simulator.tenant,
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        "drive_id": simulator.drive,
        "graph_url": f"{simulator.url}/v1.0",
        "login_url": simulator.url,
        "upload_hosts": simulator.url.removeprefix("https://"),
        "ca_file": str(simulator.ca_file),
    }
