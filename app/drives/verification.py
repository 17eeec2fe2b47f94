"""Tells whether what stands in OneDrive or SharePoint is what was sent there, and takes back what is not."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from app.drives.base import Delivery
from app.graph.library import Library
from app.models import Json
from app.quickxor import QuickXor

# SharePoint's libraries rewrite these on their way in, so that size and hash are no longer those of what was sent; OneDrive
# does not (rclone's documentation of its onedrive backend, and microsoft-graph-docs-contrib#8903).
ALTERED = re.compile(
    r"\.(doc[xm]?|dot[xm]?|xls[xmb]?|xlt[xm]?|ppt[xm]?|pot[xm]?|pps[xm]?|vsd[xm]?|one|msg|html?|aspx|jpe?g)",
    re.IGNORECASE,
)
CLOCKS_APART = timedelta(minutes=10)  # between PostgreSQL's and Microsoft's, at most

log = logging.getLogger(__name__)


class Verification:
    """Looks at items of one library, the drive called `name`; `read` yields a file's bytes by its id."""

    def __init__(self, name: str, library: Library, read: Callable[[str], Iterator[bytes]]) -> None:
        self._name, self._library, self._read = name, library, read
        self._alters: bool | None = None  # asked once

    def outcome(self, made: Json, delivery: Delivery) -> str | None:
        """Say how a file that has just been made agrees with its delivery: "exact", "altered", or not (None)."""
        if self.is_exact(made, delivery):
            return "exact"
        return "altered" if self._looks_altered(made, delivery) else None

    def is_exact(self, item: Json, delivery: Delivery) -> bool:
        if item.get("size") != delivery.size:
            return False
        return delivery.size == 0 or self._hash(item) == delivery.quick_xor

    def _hash(self, item: Json) -> str:
        """Return a file's hash, which Microsoft does not always tell at once ("hashes resource type": if available)."""
        told = quick_xor(item) or quick_xor(self._library.item(item["id"]) or {})
        if told is not None:
            return told
        made = QuickXor()
        for chunk in self._read(item["id"]):
            made.update(chunk)
        return made.digest()

    def _looks_altered(self, item: Json, delivery: Delivery) -> bool:
        """True if it may be what SharePoint has made of the delivery; it makes no empty file of any."""
        return bool(item.get("size") and delivery.size) and self.may_be_altered(item["name"])

    def may_be_altered(self, name: str) -> bool:
        if ALTERED.fullmatch(PurePosixPath(name).suffix) is None:
            return False
        if self._alters is None:
            self._alters = self._library.told().get("driveType") == "documentLibrary"
        return self._alters

    def is_done(self, there: Json, delivery: Delivery, before: Json | None) -> bool:
        """True if what stands in the place is the delivery: its bytes, or ours as SharePoint has altered them."""
        if "file" not in there or self.is_exact(there, delivery):
            return "file" in there
        is_new = before is None or there.get("cTag") != before["tag"]
        return is_new and self._library.is_ours(there) and self._looks_altered(there, delivery)

    def is_ours_alone(self, there: Json, delivery: Delivery, before: Json | None) -> bool:
        """True if a file may be taken back: nobody but this delivery can have brought it."""
        if not self._library.is_ours(there) or not self.is_done(there, delivery, before):
            return False
        return _of(there, before) is not None or not (
            delivery.is_catalogued(there["id"]) or _is_older(there, delivery)
        )

    def take_back(self, placed: Json, before: Json | None) -> None:
        """Bring back the version that stood there before what we placed, or remove the item if there was none."""
        before = _of(placed, before)
        if before is not None and placed.get("cTag") == before["tag"]:
            return
        below = self._version_below(placed["id"], before)
        if below is None and before is None:
            self._library.remove(placed)
        elif below is None or not self._library.restore(placed["id"], below):
            log.error(
                "drive %s: item %s holds wrong bytes, and no version before it is kept",
                self._name,
                placed["id"],
            )

    def _version_below(self, item_id: str, before: Json | None) -> str | None:
        """Return the newest version that this delivery did not bring: the one before, or a person's that came meanwhile."""
        for version in self._library.versions(item_id)[1:]:
            if not self._library.is_ours(version) or (
                before is not None and version["id"] == before["version"]
            ):
                return str(version["id"])
        return None


def noted(there: Json, version: str | None) -> Json:
    """Return what a session remembers of a file that stood in the place before."""
    return {"id": there["id"], "tag": there.get("cTag"), "version": version}


def _of(there: Json, before: Json | None) -> Json | None:
    """Return what stood there before, if that was the same item: it may have been deleted since."""
    return before if before is not None and before["id"] == there["id"] else None


def quick_xor(item: Json) -> str | None:
    """Return the quickXorHash that an item tells; None where it tells none."""
    found = ((item.get("file") or {}).get("hashes") or {}).get("quickXorHash")
    return None if found is None else str(found)


def _is_older(there: Json, delivery: Delivery) -> bool:
    if delivery.queued_at is None:
        return False
    made = there.get("createdDateTime")
    return made is None or datetime.fromisoformat(made) + CLOCKS_APART < delivery.queued_at
