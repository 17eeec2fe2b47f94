"""One upload that is brought to a certain point of its way, held there, and robbed of its worker."""

import hashlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg2
from sqlalchemy import func

from app import catalogue, queue, uploads
from app.database import session_scope
from app.staging import Staging
from app.uploads import Destination
from tests.acceptance.conftest import Haulage, wait_until
from tests.graph.launch import Simulator
from tests.installation import CORP, LIBRARY_CORP

FRAGMENT = 10 * 2**20
SIZE = FRAGMENT + 700_000  # two fragments
MOST_ATTEMPTS = 4
LIBRARY_POINTS = (
    "before the session is saved",
    "after it is saved",
    "in the middle of a fragment",
    "after the last byte, before the answer",
    "after the answer, before the commit",
    "after the commit, before the acknowledgement",
)
DISK_POINTS = tuple(one.replace("a fragment", "a chunk") for one in LIBRARY_POINTS)
STOPS = dict(zip(DISK_POINTS, ("opened", "saved", "in the middle", "placed"), strict=False))
COMMIT, ACKNOWLEDGEMENT = LIBRARY_POINTS[4:]

# A commit that is to wait sleeps in a trigger, past the point where everything of it is written.
_HOLD = """
    CREATE TABLE corporate.held_commits (name text);
    CREATE FUNCTION corporate.hold_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF EXISTS (SELECT FROM corporate.held_commits h WHERE h.name = NEW.name) THEN
            PERFORM pg_sleep(14);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER hold_commit AFTER UPDATE ON corporate.uploads FOR EACH ROW
        WHEN (NEW.state = 'stored') EXECUTE FUNCTION corporate.hold_commit();
"""


@dataclass
class House:
    """Workers, beat, a simulator, and a folder in which a file stops workers: see samples/stops.py."""

    haulage: Haulage
    simulator: Simulator
    stops: Path
    workers: int = 0

    def start_worker(self, sample: str = "tests.acceptance.samples.stops", **extra: str) -> None:
        self.workers += 1
        self.haulage.start_worker(
            name=self.worker, sample=sample, STOPS=str(self.stops), MAX_ATTEMPTS=str(MOST_ATTEMPTS), **extra
        )

    @property
    def worker(self) -> str:
        return f"worker{self.workers}"

    def kill_worker(self) -> None:
        os.killpg(self.haulage.pid(self.worker), signal.SIGKILL)
        self.haulage.system.processes.pop(self.worker).wait()

    def hold_commits(self) -> None:
        self.haulage.installation.query(_HOLD)

    def hand_in(self, corp_index: int, size: int = SIZE) -> "Scene":
        """Commit an upload that is not due before somebody says so: no sweep may come to it first."""
        content = secrets.token_bytes(size)
        with session_scope() as session:
            root = catalogue.root_id(session, corp_index)
            staged = Staging(self.haulage.installation.staging_dir, 2**40, 0).put([content])
            name = f"{secrets.token_hex(6)}.bin"
            upload = uploads.register(session, Destination(corp_index, root, (), name), staged)
            upload.due_at = func.now() + timedelta(hours=1)
        return Scene(self, corp_index, upload.id, name, content)


@dataclass
class Scene:
    """One upload on its way."""

    house: House
    corp_index: int
    id: UUID
    name: str
    content: bytes
    kills: int = 0

    # What is seen of it

    def column(self, *names: str) -> Any:
        told = self.house.haulage.installation.query(
            f"SELECT {', '.join(names)} FROM corporate.uploads WHERE id = %s", str(self.id)
        )[0]
        return told if len(names) > 1 else told[0]

    def events(self, kind: str) -> int:
        statement = "SELECT count(*) FROM corporate.upload_events WHERE upload_id = %s AND kind = %s"
        return int(self.house.haulage.installation.query(statement, str(self.id), kind)[0][0])

    def sessions(self) -> list[dict[str, Any]]:
        return [one for one in self.house.simulator.control("GET sessions") if one["name"] == self.name]

    def in_drive(self) -> list[str]:
        """Return the sha256 of every file of this name that is in the drive."""
        if self.corp_index == LIBRARY_CORP:
            tree = self.house.simulator.control("GET tree")
            return [one["sha256"] for one in tree if one["path"].endswith(self.name)]
        found = self.house.haulage.installation.drive_dir.glob(f"**/*{self.name}*")
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in found]

    def sent_twice(self) -> int:
        return sum(one["received"] for one in self.sessions()) - len(self.content)

    def items(self) -> int:
        statement = "SELECT count(*) FROM corporate.vmb_items WHERE corp_index = %s AND name = %s"
        return int(self.house.haulage.installation.query(statement, self.corp_index, self.name)[0][0])

    def miscounted(self) -> list[tuple]:
        """Return the folders whose child_count is not the number of their children."""
        return self.house.haulage.installation.query(
            "SELECT f.name FROM corporate.vmb_items f WHERE f.kind = 'folder' AND f.child_count <>"
            " (SELECT count(*) FROM corporate.vmb_items c"
            " WHERE (c.corp_index, c.parent_id) = (f.corp_index, f.onedrive_item_id))"
        )

    def staged(self) -> list[Path]:
        staged_id = str(self.column("staged_id")).replace("-", "")
        files = self.house.haulage.installation.staging_dir.glob("kept/*/*")
        return [file for file in files if file.name.replace("-", "") == staged_id]

    def drafts(self) -> list[Path]:
        return list(self.house.haulage.installation.drive_dir.glob(f".haulage/drafts/*{self.id.hex}*"))

    # What is done to it

    def wake(self) -> None:
        """Have it tried at once, as if the lease of whoever had it were over, and the time of whatever it waits for."""
        self.house.haulage.installation.query(
            "UPDATE corporate.uploads SET due_at = now() - interval '1 second', woken_at = NULL"
            " WHERE id = %s AND state IN ('queued', 'transferring')",
            str(self.id),
        )
        queue.wake([self.id])

    def wait_until(self, state: str) -> None:
        wait_until(lambda: self.column("state") == state, state, tell=lambda: self.column("state", "message"))

    def kill_at(self, point: str) -> None:
        """Bring it to this point, and kill the worker's child there; at the last point the whole worker."""
        is_stored = self.column("state") == "stored"
        with _claiming_again(self) if is_stored else held_at(self, point) as wait_for_it:
            if not is_stored:
                self.wake()
            wait_for_it()
            self._kill(point)
        if point == ACKNOWLEDGEMENT:
            self.house.start_worker()
        self.kills += 1
        wait_until(lambda: not _sleepers(self.house.haulage), "what it was about to commit is rolled back")

    def _kill(self, point: str) -> None:
        if point == ACKNOWLEDGEMENT:
            self.house.kill_worker()
            return
        victim = self.house.haulage.holder(self.id)
        assert victim is not None
        process = psutil.Process(victim)
        process.kill()
        wait_until(lambda: not _lives(process), "it is dead")


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def _sleepers(haulage: Haulage) -> int:
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return int(haulage.installation.look(statement)[0][0])


@contextmanager
def held_at(scene: Scene, point: str) -> Iterator[Callable[[], None]]:
    """Whoever comes to this point is held there for the length of the block; give what waits until somebody has."""
    if point == COMMIT:
        way = _in_commit(scene)
    elif point == ACKNOWLEDGEMENT:
        way = _stopped(scene, "committed")
    elif scene.corp_index == CORP:
        way = _stopped(scene, STOPS[point])
    else:
        way = _stalled(scene, point)
    with way as wait_for_it:
        yield wait_for_it


@contextmanager
def _in_commit(scene: Scene) -> Iterator[Callable[[], None]]:
    ask = scene.house.haulage.installation.query
    ask("INSERT INTO corporate.held_commits VALUES (%s)", scene.name)
    yield lambda: wait_until(lambda: _sleepers(scene.house.haulage), "the commit waits")
    ask("DELETE FROM corporate.held_commits")


@contextmanager
def _stopped(scene: Scene, place: str) -> Iterator[Callable[[], None]]:
    def is_stopped() -> bool:
        if place == "committed":  # a child that cleans up after another upload may be stopped there as well
            return bool(scene.column("state") == "stored") and any(map(_is_stopped, children()))
        holder = scene.house.haulage.holder(scene.id)
        return any(child.pid == holder and _is_stopped(child) for child in children())

    def children() -> list[psutil.Process]:
        return scene.house.haulage.children(scene.house.worker)

    mark = scene.house.stops / place
    mark.touch()
    yield lambda: wait_until(is_stopped, f"a child has stopped itself: {place}")
    mark.unlink()


@contextmanager
def _claiming_again(scene: Scene) -> Iterator[Callable[[], None]]:
    """A message that comes again finds nothing to do; it is held with the question in its mouth."""
    installation = scene.house.haulage.installation
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE relation = 'corporate.uploads'::regclass"
        " AND NOT granted AND mode = 'RowShareLock'"
    )
    connection = psycopg2.connect(installation.environment["OWNER_DATABASE_URL"])
    try:
        connection.cursor().execute("LOCK TABLE corporate.uploads IN ACCESS EXCLUSIVE MODE")
        queue.wake([scene.id])
        yield lambda: wait_until(lambda: installation.look(waiting)[0][0], "the claim waits")
    finally:
        connection.close()


@contextmanager
def _stalled(scene: Scene, point: str) -> Iterator[Callable[[], None]]:
    control, session = scene.house.simulator.control, {"method": "PUT", "path": "uploadSession"}
    is_placed = bool(scene.in_drive())
    fault = {
        LIBRARY_POINTS[0]: {"method": "POST", "path": f"{scene.name}:/createUploadSession", "when": "after"},
        LIBRARY_POINTS[1]: session | {"when": "head"},
        LIBRARY_POINTS[2]: session | {"when": "body", "bytes": 500_000, "keep": 100_000},
        # Once the file is there nothing is sent again: its answer is then that of a look.
        LIBRARY_POINTS[3]: {"method": "GET", "path": scene.name, "when": "after"}
        if is_placed
        else session | {"when": "after", "nth": 2 if len(scene.content) > FRAGMENT else 1},
    }[point]
    if len(scene.content) <= FRAGMENT and fault["method"] == "PUT":
        fault |= {"path": f"{scene.name}:/content"}
    control("POST faults", action="stall", name=scene.name, **fault)
    stalls = partial(control, "GET stalls", name=scene.name, wait=20)
    yield lambda: wait_until(stalls, "the request is stalled")
    control("POST release", name=scene.name, then="cut")
    control("DELETE faults")
