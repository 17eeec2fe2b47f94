"""Upload sessions: what was promised to whom, and which bytes have come. Routes and HTTP are elsewhere.

Sources: "driveItem: createUploadSession" and "uploadSession resource type", unless a docstring names another.
"""

import re
import secrets
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from tests.graph import names
from tests.graph.clients import Client
from tests.graph.clock import Clock
from tests.graph.contents import Draft
from tests.graph.hashes import QuickXorHash
from tests.graph.items import Item, new_id
from tests.graph.problems import GraphError, bad_request, name_taken, not_found
from tests.graph.tree import Conflict, Drive, Times

GRID = 327_680  # 320 KiB
LARGEST_REQUEST = 60 << 20  # a request has to be smaller
LARGEST_FILE = 250 << 30  # "SharePoint limits"
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass
class Fragment:
    """One PUT, as control shows it: what it said, how many bytes came and how many were kept."""

    start: int
    end: int
    received: int = 0
    kept: int = 0
    status: int | None = None


@dataclass(frozen=True)
class Target:
    """Where the file is to go: under a name in a folder, or over an item that was named by its id."""

    drive: Drive
    parent: Item
    name: str
    existing: Item | None
    conflict: Conflict
    times: Times

    @property
    def key(self) -> tuple[str, str, str]:
        return self.drive.id, self.parent.id, names.key(self.name)


@dataclass(eq=False)
class Session:
    target: Target
    client: Client
    draft: Draft
    clock: Clock
    lifetime: float
    deferred: bool
    guid: str = field(default_factory=lambda: str(uuid.uuid4()))
    tempauth: str = field(default_factory=lambda: f"v1.{secrets.token_urlsafe(150)}")
    item_id: str = field(default_factory=new_id)
    total: int | None = None
    crooked: bool = False
    state: str = "open"
    ends: float = 0.0
    fragments: list[Fragment] = field(default_factory=list)
    writer: Fragment | None = None
    beyond: range | None = None  # bytes that are held behind a gap
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.extend()

    @property
    def received(self) -> int:
        return self.draft.size

    @property
    def whole(self) -> bool:
        return self.total is not None and self.received == self.total

    def extend(self) -> None:
        """Each fragment moves the end of the session ("uploadSession resource type")."""
        self.ends = self.clock.monotonic() + self.lifetime

    def require_open(self) -> None:
        """Raise 404 for one that is finished, cancelled or over, or whose folder is gone: start again, says the page."""
        if self.state == "open" and self.ends <= self.clock.monotonic():
            self.close("expired")
        if self.state == "open" and (self.target.existing or self.target.parent).deleted:
            self.close("target deleted")
        if self.state != "open":
            raise lost()

    def close(self, state: str) -> None:
        with self.lock:
            self.state, self.writer = state, None
            if state != "finished":
                self.draft.drop()

    def status(self) -> dict[str, Any]:
        return {
            "expirationDateTime": self.clock.stamp(self.ends - self.clock.monotonic()),
            "nextExpectedRanges": self._wanted(),
        }

    def _wanted(self) -> list[str]:
        """Name what is missing; there may be several ranges, as in the page's example of a status."""
        if self.beyond is None:
            return [] if self.whole else [f"{self.received}-"]
        gap = f"{self.received}-{self.beyond.start - 1}"
        return [gap] if self.beyond.stop == self.total else [gap, f"{self.beyond.stop}-"]

    def admit(self, content_range: str, length: int) -> Fragment:
        """Judge the head of a fragment; an older one that is still under way loses its right to write."""
        start, end, total = _parsed(content_range)
        if end - start + 1 != length:
            raise bad_request("The Content-Length header does not match the Content-Range header.")
        if length >= LARGEST_REQUEST:
            raise GraphError(413, "invalidRequest", "The fragment is too large.", "maxFragmentLengthExceeded")
        if end >= total or total > LARGEST_FILE:
            raise out_of_range("The range is not within the file.")
        if self.total not in (None, total):
            raise bad_request(
                "The total size differs from that of earlier fragments.", "fragmentLengthMismatch"
            )
        if start > self.received:
            raise out_of_range("Uploaded fragment is out of order.", "fragmentOutOfOrder")
        if start < self.received or (self.beyond and end >= self.beyond.start):
            raise out_of_range("Uploaded fragment overlaps with existing data.", "fragmentOverlap")
        self.total = total
        self.writer = Fragment(start, end)
        self.fragments.append(self.writer)
        return self.writer

    def put(self, fragment: Fragment, data: memoryview) -> None:
        """Write a piece where it belongs, unless a newer fragment has taken over."""
        with self.lock:
            if self.writer is fragment:
                self.draft.put(fragment.start + fragment.received, data)
        fragment.received += len(data)

    def accept(self, fragment: Fragment, so_far: QuickXorHash, *, lose: int = 0) -> None:
        """Keep a fragment that came whole. One that is off the grid spoils the session, which shows at its end.

        What a fault loses of its beginning is wanted again.
        """
        with self.lock:
            if self.state != "open":
                raise lost()
            if self.writer is not fragment:
                raise out_of_range("Uploaded fragment overlaps with existing data.", "fragmentOverlap")
            self.writer = None
            fragment.kept = fragment.received - lose
            if lose:
                self.beyond = range(fragment.start + lose, fragment.end + 1)
            else:
                self.draft.take(so_far)
                self._close_gap()
        last = fragment.end + 1 == self.total
        on_grid = (fragment.end + 1 - fragment.start) % GRID == 0 or (
            fragment.start % GRID and (fragment.end + 1) % GRID == 0
        )
        self.crooked = self.crooked or not (last or on_grid)
        self.extend()

    def _close_gap(self) -> None:
        if self.beyond and self.received == self.beyond.start:
            self.draft.take_some(len(self.beyond))
            self.beyond = None

    def interrupt(self, fragment: Fragment, keep: int) -> None:
        """All bytes of a broken request are ignored, says the page; some were kept, says onedrive-api-docs#75."""
        with self.lock:
            if self.writer is fragment:
                self.writer = None
                fragment.kept = min(keep, fragment.received)
                self.draft.take_some(fragment.kept)

    def as_json(self) -> dict[str, Any]:
        """Show it to a test."""
        open_ = self.state == "open"
        return {
            "id": self.guid,
            "drive": self.target.drive.id,
            "name": self.target.name,
            "parent": self.target.parent.path(),
            "state": "expired" if open_ and self.ends <= self.clock.monotonic() else self.state,
            "total": self.total,
            "kept": self.received,
            "received": sum(fragment.received for fragment in self.fragments),
            "fragments": [asdict(fragment) for fragment in self.fragments],
        }


class Sessions:
    def __init__(self, folder: Path, clock: Clock, lifetime: float) -> None:
        self._folder, self._clock, self.lifetime = folder, clock, lifetime
        self._all: dict[str, Session] = {}
        self._latest: dict[tuple[str, str, str], Session] = {}

    def create(self, target: Target, client: Client, *, deferred: bool) -> Session:
        """Open a session. Business and SharePoint allow one for an item, whatever the conflictBehavior.

        Source of that: onedrive-api-docs#747, where Microsoft answers, and microsoft-graph-docs-contrib#412 and #6558.
        """
        other = self._latest.get(target.key)
        if other is not None and self._is_open(other):
            raise name_taken("An upload session already exists for this file")
        session = Session(target, client, Draft(self._folder), self._clock, self.lifetime, deferred)
        self._all[session.guid] = self._latest[target.key] = session
        return session

    def get(self, guid: str) -> Session:
        if guid not in self._all:
            raise lost()
        return self._all[guid]

    def all(self) -> list[Session]:
        return list(self._all.values())

    def _is_open(self, session: Session) -> bool:
        try:
            session.require_open()
        except GraphError:
            return False
        return True


def lost() -> GraphError:
    return not_found("The upload session was not found", "uploadSessionNotFound")


def out_of_range(message: str, inner: str = "") -> GraphError:
    return GraphError(416, "invalidRange", message, inner)


def _parsed(content_range: str) -> tuple[int, int, int]:
    found = CONTENT_RANGE.fullmatch(content_range)
    if not found:
        raise bad_request("The Content-Range header is missing or malformed.")
    start, end, total = map(int, found.groups())
    if end < start:
        raise out_of_range("The range is empty.")
    return start, end, total
