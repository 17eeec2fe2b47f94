"""Uploads, means and small doubles, made in one call with what a test does not care about filled in."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg2
from sqlalchemy import make_url

from app import attempt, database, uploads
from app.database import session_scope
from app.drives.filesystem import FilesystemDrive
from app.endings import Outcome
from app.inbox import Inbox
from app.means import Means
from app.models import OnConflict, Upload
from app.staging import Staged, Staging
from app.uploads import Destination
from app.vault import Vault
from tests.installation import CORP, Installation

ROOT = str(CORP)  # the filesystem drive's id of the corporation's root
LEASE = timedelta(seconds=60)


def staging_of(installation: Installation) -> Staging:
    return Staging(installation.staging_dir, 2**30, 0)


def make_staged(installation: Installation, content: bytes = b"content") -> Staged:
    return staging_of(installation).put([content])


def make_destination(name: str = "a.txt", **overrides: Any) -> Destination:
    values = {"corp_index": CORP, "parent_id": ROOT, "folder": (), "on_conflict": OnConflict.FAIL} | overrides
    return Destination(name=name, **values)


def make_upload(
    installation: Installation, content: bytes = b"content", *, key: str | None = None, **to: Any
) -> UUID:
    """Commit a queued upload of staged bytes; return its id."""
    staged = make_staged(installation, content)
    with session_scope() as session:
        return uploads.register(session, make_destination(**to), staged, key).id


def make_inbox_upload(installation: Installation, path: str, content: bytes | None = b"content") -> UUID:
    """Commit a queued upload of a file in the inbox, as the SQL door does; return its id."""
    if content is not None:
        file = installation.inbox / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return installation.query("SELECT corporate.enqueue_upload(%s, %s)", CORP, path)[0][0]


class TheDrive:
    """Drives, of which every one is the same; nothing that is asked of it is counted."""

    def __init__(self, drive: Any) -> None:
        self._drive = drive

    def named(self, _name: str) -> Any:
        return self._drive

    def requests(self) -> list[Any]:
        return []


def make_means(installation: Installation, **overrides: Any) -> Means:
    drive = overrides.pop("drive", None) or FilesystemDrive(installation.drive_dir)
    values = {
        "drives": TheDrive(drive),
        "vault": Vault(()),
        "staging": staging_of(installation),
        "inbox": Inbox(installation.root / "inbox"),
        "lease": LEASE,
        "slice": timedelta(seconds=600),
        "first_delay": timedelta(seconds=2),
        "max_attempts": 8,
        "is_shutting_down": lambda: False,
    }
    return Means(**values | overrides)


def attempt_at(upload_id: UUID, means: Means) -> Outcome | None:
    made = attempt.make(upload_id, means)
    return None if made is None else made[1]


def claim(upload_id: UUID, lease: timedelta = LEASE, max_attempts: int = 8) -> Upload | None:
    with session_scope() as session:
        return uploads.claim(session, upload_id, lease, max_attempts)


def claimed(upload_id: UUID, lease: timedelta = LEASE) -> Upload:
    held = claim(upload_id, lease)
    assert held is not None
    return held


def row(upload_id: UUID) -> Upload:
    with session_scope() as session:
        return session.get_one(Upload, upload_id)


def set_columns(installation: Installation, upload_id: UUID, **columns: str) -> None:
    """Change an upload's columns from outside, each to an SQL expression."""
    changes = ", ".join(f"{name} = {expression}" for name, expression in columns.items())
    installation.query(f"UPDATE corporate.uploads SET {changes} WHERE id = %s", str(upload_id))


def make_due(installation: Installation, upload_id: UUID) -> None:
    set_columns(installation, upload_id, due_at="now() - interval '1 second'")


def expire_lease(installation: Installation, upload_id: UUID) -> None:
    make_due(installation, upload_id)


def kinds_of_events(installation: Installation, upload_id: UUID) -> list[str]:
    rows = installation.query(
        "SELECT kind FROM corporate.upload_events WHERE upload_id = %s ORDER BY id", str(upload_id)
    )
    return [kind for (kind,) in rows]


def sessions(installation: Installation, *states: str) -> int:
    """Count the sessions of this test's database in these states. Asked as superuser: others do not see a state."""
    database_name = str(make_url(installation.environment["DATABASE_URL"]).database)
    connection = psycopg2.connect(installation.servers.admin_url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = ANY (%s)",
                (database_name, list(states)),
            )
            return int(cursor.fetchall()[0][0])
    finally:
        connection.close()


def counts(installation: Installation, folder_id: str = ROOT) -> tuple[int, int]:
    """Return a folder's child_count, and how many children it has."""
    return installation.query(
        "SELECT child_count, (SELECT count(*) FROM corporate.vmb_items c WHERE c.corp_index = i.corp_index"
        " AND c.parent_id = i.onedrive_item_id)"
        " FROM corporate.vmb_items i WHERE corp_index = %s AND onedrive_item_id = %s",
        CORP,
        folder_id,
    )[0]


def items(installation: Installation) -> dict[str, str]:
    """Return every item below the root: its id and its kind."""
    return dict(
        installation.query(
            "SELECT onedrive_item_id, kind FROM corporate.vmb_items WHERE parent_id IS NOT NULL ORDER BY id"
        )
    )


@contextmanager
def wide_pool(connections: int = 20) -> Iterator[None]:
    """Give this process more connections than a worker's child has, for a test that races threads."""
    before = database._process.get("pool_size")
    role = database._process["role"]
    Installation.forget_process_state()  # the engine that there is has its size already
    database.play("test", connections)
    try:
        yield
    finally:
        Installation.forget_process_state()
        database._process["role"] = role
        if before is None:
            database._process.pop("pool_size", None)
        else:
            database._process["pool_size"] = before


def race(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run all the works at the same moment, each in a thread; return what each returned or raised, in their order."""
    works = list(works)
    results: list[Any] = [None] * len(works)
    start = threading.Barrier(len(works))

    def run(number: int, work: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[number] = work()
        except BaseException as error:  # noqa: BLE001  handed to the test
            results[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class DriveDouble:
    """A real filesystem drive that lets a test step in before or after any of its steps."""

    def __init__(self, installation: Installation, **steps: Callable[..., Any]) -> None:
        """Each of `steps` is called in the drive's place, with the real step first and then the arguments."""
        self.real = FilesystemDrive(installation.drive_dir)
        self.name, self.chunk_bytes = self.real.name, self.real.chunk_bytes
        self.finish_brings_last = self.real.finish_brings_last
        self._steps = steps

    def chunk_of(self, _session: object) -> int:
        return self.chunk_bytes

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.real, name)
        step = self._steps.get(name)
        return real if step is None else lambda *arguments: step(real, *arguments)
