"""Items of a drive, their versions, and how Graph shows them."""

import mimetypes
import secrets
import uuid
from base64 import b32encode
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from tests.graph.clock import stamp
from tests.graph.contents import Content

if TYPE_CHECKING:
    from tests.graph.tree import Drive


class App(NamedTuple):
    """Who did it. With application permissions that is never a user."""

    id: str
    name: str

    def as_json(self) -> dict[str, Any]:
        return {"application": {"id": self.id, "displayName": self.name}}


class Version(NamedTuple):
    number: int
    content: Content
    modified: datetime
    by: App

    def as_json(self) -> dict[str, Any]:
        return {
            "id": f"{self.number}.0",
            "lastModifiedDateTime": stamp(self.modified),
            "lastModifiedBy": self.by.as_json(),
            "size": self.content.size,
        }


def new_id() -> str:
    return "01" + b32encode(secrets.token_bytes(20)).decode()


@dataclass(eq=False)
class Item:
    """A file or a folder. Only the tree changes one."""

    drive: "Drive"
    parent: "Item | None"
    name: str
    by: App
    created: datetime
    id: str = field(default_factory=new_id)
    guid: str = field(default_factory=lambda: str(uuid.uuid4()).upper())
    edition: int = 1  # counts every change, for the eTag
    content_edition: int = 1  # counts changes of the bytes, for the cTag
    size: int = 0  # of a folder: of everything in it
    changed: int = 0  # the drive's count when it last changed, for delta
    versions: list[Version] = field(default_factory=list)  # of a file, the newest last
    children: dict[str, "Item"] = field(default_factory=dict)  # of a folder, by the key of their name
    is_folder: bool = False
    deleted: bool = False
    changed_by: App | None = None
    modified: datetime | None = None
    file_created: datetime | None = None
    file_modified: datetime | None = None

    @property
    def content(self) -> Content:
        return self.versions[-1].content

    @property
    def etag(self) -> str:
        return f'"{{{self.guid}}},{self.edition}"'

    @property
    def ctag(self) -> str:
        return f'"c:{{{self.guid}}},{self.content_edition}"'

    def lineage(self) -> list["Item"]:
        """Return the folders above, the root first."""
        return [*self.parent.lineage(), self.parent] if self.parent else []

    def path(self) -> str:
        """Return the path below the root, without a slash in front."""
        return "/".join(item.name for item in [*self.lineage(), self][1:])

    def as_json(self, *, with_path: bool = True) -> dict[str, Any]:
        """Show it as "driveItem resource type" says for work and school accounts (a folder has no cTag there)."""
        modified = self.modified or self.created
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name if self.parent else "root",
            "size": self.size,
            "eTag": self.etag,
            "webUrl": f"https://{self.drive.site.host}/{quote(self.drive.web_path)}/{quote(self.path())}",
            "createdDateTime": stamp(self.created),
            "lastModifiedDateTime": stamp(modified),
            "createdBy": self.by.as_json(),
            "lastModifiedBy": (self.changed_by or self.by).as_json(),
            "parentReference": self._parent_reference(with_path=with_path),
            "fileSystemInfo": {
                "createdDateTime": stamp(self.file_created or self.created),
                "lastModifiedDateTime": stamp(self.file_modified or modified),
            },
        }
        return shown | self._facet()

    def deleted_json(self) -> dict[str, Any]:
        """Show a deleted one as delta does: "driveItem: delta" omits name and cTag in work and school accounts."""
        facet = {"folder": {"childCount": 0}} if self.is_folder else {"file": {}}
        parent = self._parent_reference(with_path=False)
        return {"id": self.id, "size": 0, "deleted": {"state": "deleted"}, "parentReference": parent, **facet}

    def _facet(self) -> dict[str, Any]:
        if not self.parent:
            return {"root": {}, "folder": {"childCount": len(self.children)}}
        if self.is_folder:
            return {"folder": {"childCount": len(self.children)}}
        kind = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        hashes = {"quickXorHash": self.content.quick_xor_hash}
        return {"cTag": self.ctag, "file": {"mimeType": kind, "hashes": hashes}}

    def _parent_reference(self, *, with_path: bool) -> dict[str, Any]:
        drive = {"driveType": self.drive.kind, "driveId": self.drive.id, "siteId": self.drive.site.id}
        if not self.parent:
            return drive
        reference = drive | {"id": self.parent.id}
        if with_path:  # "itemReference resource type": percent-encoded
            reference["path"] = f"/drives/{self.drive.id}/root:/{quote(self.parent.path())}".rstrip("/")
        return reference
