"""One drive: its tree, its quota, and the order of its changes. Whoever calls holds the lock of the world."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from tests.graph import names
from tests.graph.clock import Clock
from tests.graph.contents import Content
from tests.graph.items import App, Item, Version
from tests.graph.problems import GraphError, bad_request, drive_is_full, name_taken, not_found

MICROSOFT = App("00000003-0000-0ff1-ce00-000000000000", "SharePoint")
TEBIBYTE = 1 << 40
MOST_VERSIONS = 500  # "SharePoint limits": the default for major versions


class Conflict(StrEnum):
    """What to do if the name is taken ("driveItem resource type", instance attributes)."""

    FAIL = "fail"
    REPLACE = "replace"
    RENAME = "rename"


class Site(NamedTuple):
    host: str
    path: str  # as in the address: sites/team
    id: str


class Times(NamedTuple):
    """The times that a client gives as fileSystemInfo."""

    created: datetime | None = None
    modified: datetime | None = None


class Delivery(NamedTuple):
    """A file that has come: its bytes, who sent them, and the times that go with it."""

    content: Content
    by: App
    times: Times = Times()


def new_drive_id() -> str:
    return "b!" + urlsafe_b64encode(secrets.token_bytes(48)).decode()


@dataclass(eq=False)
class Drive:
    id: str
    site: Site
    clock: Clock
    kind: str = "business"  # or documentLibrary: "drive resource type", driveType
    name: str = "Documents"
    quota: int = TEBIBYTE
    used: int = 0
    changes: int = 0
    forgotten: int = 0  # delta tokens older than this count answer 410
    items: dict[str, Item] = field(default_factory=dict)
    graves: dict[str, Item] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Item(self, None, "root", MICROSOFT, self.clock.shown(), is_folder=True)
        self.items[self.root.id] = self.root
        self._mark(self.root)

    @property
    def web_path(self) -> str:
        return f"{self.site.path}/Shared Documents"

    def get(self, item_id: str) -> Item:
        found = self.root if item_id == "root" else self.items.get(item_id)
        if found is None:
            raise not_found()
        return found

    def find(self, start: Item, segments: list[str]) -> Item | None:
        """Follow a path; names are compared without regard to case."""
        for segment in segments:
            found = start.children.get(names.key(segment))
            if found is None:
                return None
            start = found
        return start

    def require_room(self, size: int) -> None:
        if self.used + size > self.quota:
            raise drive_is_full()

    def check_name(self, parent: Item, name: str) -> None:
        names.check(name, at_root=parent is self.root)
        names.check_path("/".join(filter(None, (self.web_path, parent.path(), name))))

    def make_folder(self, parent: Item, name: str, by: App, conflict: Conflict) -> Item:
        """Make a folder. What a folder in the way means: "Create a new folder in a drive"."""
        self.check_name(parent, name)
        there = parent.children.get(names.key(name))
        if there is not None and conflict is Conflict.REPLACE and there.is_folder and not there.children:
            return there
        name = self._free_name(parent, name, there, conflict, replaceable=False)
        folder = Item(self, parent, name, by, self.clock.shown(), is_folder=True)
        self._hang(folder, parent)
        return folder

    def place(self, parent: Item, name: str, delivery: Delivery, conflict: Conflict) -> tuple[Item, bool]:
        """Put a file where it belongs and tell whether it is a new one."""
        self.check_name(parent, name)
        there = parent.children.get(names.key(name))
        if there is not None and conflict is Conflict.REPLACE and not there.is_folder:
            self.rewrite(there, delivery)
            return there, False
        self.require_room(delivery.content.size)
        name = self._free_name(parent, name, there, conflict, replaceable=False)
        item = Item(self, parent, name, delivery.by, self.clock.shown())
        self._hang(item, parent)
        self._add_version(item, delivery)
        return item, True

    def rewrite(self, item: Item, delivery: Delivery) -> None:
        """Give a file a new version; the old ones stay and count against the quota."""
        self.require_room(delivery.content.size)
        item.edition += 1
        item.content_edition += 1
        self._add_version(item, delivery)

    def set_times(self, item: Item, by: App, times: Times) -> None:
        """Set the client's times, which makes one more version of a file (rclone#1716)."""
        item.edition += 1
        if item.is_folder:
            self._set_times(item, by, times)
        else:
            self.require_room(item.content.size)
            self._add_version(item, Delivery(item.content, by, times))

    def move(self, item: Item, parent: Item, name: str, by: App, conflict: Conflict) -> None:
        """Rename or move. The eTag changes, the cTag does not."""
        if item is self.root or item in [*parent.lineage(), parent]:
            raise bad_request("The item cannot be moved there.")
        self.check_name(parent, name)
        there = parent.children.get(names.key(name))
        if there is not None and there is not item:
            name = self._free_name(parent, name, there, conflict)
        self._unhang(item)
        item.name, item.edition, item.changed_by = name, item.edition + 1, by
        self._hang(item, parent)

    def delete(self, item: Item) -> None:
        """Delete a file, or a folder with all that is in it ("Delete a DriveItem")."""
        if item is self.root:
            raise GraphError(403, "accessDenied", "The root folder cannot be deleted.")
        self._unhang(item)
        for one in [item, *_below(item)]:
            one.deleted = True
            del self.items[one.id]
            self.graves[one.id] = one
            self._mark(one)
            for path in {version.content.path for version in one.versions}:
                path.unlink(missing_ok=True)
            self.used -= sum(version.content.size for version in one.versions)

    def drop_version(self, item: Item, version: Version) -> None:
        item.versions.remove(version)
        self.used -= version.content.size
        if version.content not in (other.content for other in item.versions):
            version.content.path.unlink(missing_ok=True)

    def changed_since(self, seen: int) -> list[Item]:
        """Return what changed after this count of changes, deleted items included."""
        return [item for item in (*self.items.values(), *self.graves.values()) if item.changed > seen]

    def _free_name(
        self, parent: Item, name: str, there: Item | None, conflict: Conflict, *, replaceable: bool = True
    ) -> str:
        if there is None:
            return name
        if conflict is Conflict.RENAME:
            tries = (names.numbered(name, number) for number in count(1))
            return next(one for one in tries if names.key(one) not in parent.children)
        if conflict is Conflict.REPLACE and replaceable and not there.is_folder:
            self.delete(there)
            return name
        raise name_taken()

    def _add_version(self, item: Item, delivery: Delivery) -> None:
        content, by, times = delivery
        number = item.versions[-1].number + 1 if item.versions else 1
        before = item.size
        item.versions.append(Version(number, content, self.clock.shown(), by))
        item.size = content.size
        self.used += content.size
        self._grow(item, content.size - before)
        self._set_times(item, by, times)
        if len(item.versions) > MOST_VERSIONS:
            self.drop_version(item, item.versions[0])

    def _set_times(self, item: Item, by: App, times: Times) -> None:
        item.modified, item.changed_by = self.clock.shown(), by
        item.file_created = times.created or item.file_created
        item.file_modified = times.modified or item.modified
        self._mark(item)

    def _hang(self, item: Item, parent: Item) -> None:
        item.parent = parent
        parent.children[names.key(item.name)] = item
        self.items[item.id] = item
        self._grow(item, item.size)
        self._mark(item)

    def _unhang(self, item: Item) -> None:
        assert item.parent
        del item.parent.children[names.key(item.name)]
        self._grow(item, -item.size)

    def _grow(self, item: Item, by: int) -> None:
        for folder in item.lineage():
            folder.size += by

    def _mark(self, item: Item) -> None:
        self.changes += 1
        item.changed = self.changes


def _below(item: Item) -> Iterator[Item]:
    for child in item.children.values():
        yield child
        yield from _below(child)
