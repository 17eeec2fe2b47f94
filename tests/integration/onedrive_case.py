"""A OneDrive against the simulator, and uploads to it, as the tests of this drive use them. Fixtures: onedrive_fixtures.py."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from app import transfer
from app.drive_settings import OneDriveSettings
from app.drives import registry
from app.drives.base import Delivery, DriveItem
from app.drives.onedrive import OneDrive
from app.errors import DriveFull, HaulageError, NotVerified, SessionLost
from app.graph.meter import Meter
from app.models import Json
from app.quickxor import QuickXor
from tests.graph.launch import Simulator

GRID = 320 * 2**10
FRAGMENT = 2 * GRID  # in tests that need many of them
UPLOAD_URL = "/uploadSession"
CREATE = "/createUploadSession"
CONTENT = "/content"


def bytes_of(size: int) -> bytes:
    """Return bytes that differ from place to place, so that none can stand for others."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


@dataclass
class NotingWatch:
    """Keeps what an attempt would save, as an upload's row would; `stop` is asked before each fragment."""

    session: Json | None = None
    saved: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    fenced: int = 0
    stop: Callable[[], None] = lambda: None

    def proceed(self) -> None:
        self.stop()

    def tell(self, sent: int) -> None:
        self.sent.append(sent)

    def checkpoint(self, session: Json, transferred: int) -> None:
        self.session = session
        self.saved.append(transferred)

    def fence(self) -> None:
        self.fenced += 1


class Case:
    """One drive of the simulator, and a OneDrive for it."""

    def __init__(self, simulator: Simulator, drive_id: str, **settings: Any) -> None:
        self.simulator, self.id, self.settings = simulator, drive_id, settings
        self.drive = self.elsewhere()
        self.since = self._last()
        self._root = ""

    @property
    def root(self) -> str:
        self._root = self._root or self.drive.make_root(7).id
        return self._root

    def chosen(self, **other: Any) -> OneDriveSettings:
        parts = urlsplit(self.simulator.url)
        given: dict[str, Any] = {
            "kind": "onedrive",
            "tenant_id": self.simulator.tenant,
            "client_id": self.simulator.client_id,
            "client_secret": self.simulator.client_secret,
            "drive_id": self.id,
            "graph_url": f"{self.simulator.url}/v1.0",
            "login_url": self.simulator.url,
            "ca_file": self.simulator.ca_file,
            "upload_hosts": f"{parts.netloc},localhost",
        }
        return OneDriveSettings(**given | self.settings | other)

    def elsewhere(self, **other: Any) -> OneDrive:
        """Return the drive as another process on another machine would make it."""
        return registry.onedrive("reports", self.chosen(**other), Meter("reports"))

    def control(self, request: str, /, **given: Any) -> Any:
        return self.simulator.control(request, drive=self.id, **given)

    def fault(self, path: str, action: str, **more: Any) -> None:
        self.simulator.control("POST faults", path=path, action=action, **more)

    def answer(self, path: str, status: int, code: str = "generalException", **more: Any) -> None:
        self.fault(path, "answer", status=status, code=code, **more)

    def files(self) -> dict[str, dict[str, Any]]:
        """Return what lies below the corporation's folder, by its path there."""
        found = self.control("GET tree")
        return {
            row["path"].removeprefix("Haulage/7/"): row
            for row in found
            if not row["folder"] and row["path"].startswith("Haulage/7/")
        }

    def uploads(self) -> list[dict[str, Any]]:
        """Return this drive's upload sessions, the first one first."""
        return [one for one in self.simulator.control("GET sessions") if one["drive"] == self.id]

    def requests(self, path: str = "", method: str = "") -> list[dict[str, Any]]:
        """Return what was asked since this case began."""
        found = self.simulator.control("GET requests", since=self.since, wait=10)
        return [one for one in found if path in one["path"] and method in ("", one["method"])]

    def _last(self) -> int:
        found = self.simulator.control("GET requests", since=0)
        return int(found[-1]["number"]) if found else 0

    def holds(self, name: str, data: bytes) -> bool:
        found = self.files().get(name)
        return found is not None and found["sha256"] == hashlib.sha256(data).hexdigest()

    def sending(self, data: bytes, name: str = "a.bin", **more: Any) -> "Sending":
        return Sending(self, data, name, **more)


class Sending:
    """One upload, attempted as often as wanted; between attempts only that is known which was saved."""

    def __init__(
        self, case: Case, data: bytes, name: str, *, replace: bool = False, parent_id: str = ""
    ) -> None:
        self.case, self.data, self.watch = case, data, NotingWatch()
        self.delivery = delivery_of(data, name, parent_id or case.root, replace=replace)

    @property
    def session(self) -> Json | None:
        return self.watch.session

    def attempt(self, drive: OneDrive | None = None) -> DriveItem:
        """Make one attempt, and do with the session what an attempt does; returns what came of it, or raises."""
        drive = drive or self.case.drive
        saved = json.loads(json.dumps(self.watch.session))
        self.watch.session = saved
        source = BytesIO(self.data)
        try:
            session, last = transfer.send(
                drive, self.delivery, lambda: BufferedReader(source), saved, self.watch
            )
            try:
                return drive.finish(self.delivery, session, last, self.watch.fence)
            except DriveFull:
                self._drop(drive)
                raise
        except (NotVerified, SessionLost):
            self._drop(drive)
            raise

    def _drop(self, drive: OneDrive) -> None:
        if self.watch.session is not None:
            drive.abort(self.watch.session, None)
        self.watch.session = None

    def fails(self, drive: OneDrive | None = None) -> HaulageError:
        with pytest.raises(HaulageError) as caught:
            self.attempt(drive)
        return caught.value

    def is_whole(self) -> bool:
        return self.case.holds(self.delivery.name, self.data)

    def stop_after(self, fragments: int, error: BaseException) -> None:
        """Let the attempt end before it sends one more fragment than that."""
        left = iter(range(fragments))

        def stop() -> None:
            if next(left, None) is None:
                raise error

        self.watch.stop = stop

    def go_on(self) -> None:
        self.watch.stop = lambda: None


def delivery_of(data: bytes, name: str, parent_id: str, *, replace: bool = False) -> Delivery:
    quick_xor = QuickXor()
    quick_xor.update(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return Delivery(uuid4(), parent_id, name, len(data), sha256, quick_xor.digest(), replace)


def no_hash() -> str:
    """Return a quickXorHash of bytes that nobody sent."""
    return base64.b64encode(b"\1" * 20).decode()
