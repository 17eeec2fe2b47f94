"""OneDrive for Business and SharePoint libraries, through Microsoft Graph.

A file of at most one fragment is one PUT; a larger one goes through an upload session. In both the last request makes the file
visible, so it belongs to `finish`. Whether something came about whose answer was lost is never guessed: we look. Rules and their
sources: docs/onedrive.md.
"""

import errno
import logging
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from app.drives.base import Delivery, DriveItem
from app.drives.verification import Verification, noted, quick_xor
from app.errors import (
    Disconnected,
    DriveFault,
    DriveItemBusy,
    DriveMissing,
    NameTaken,
    NotAFolder,
    NotVerified,
    SessionLost,
)
from app.graph import sessions
from app.graph.answers import SOON
from app.graph.client import Addresses, Request
from app.graph.library import NAME_TAKEN, ROOT, WRITE, Library
from app.graph.names import mapped
from app.graph.sessions import FRAGMENT, GRID
from app.models import Json, Kind

LOOKS = 20  # for what the drive is to make of all bytes, half a minute apart

log = logging.getLogger(__name__)


class OneDrive:
    chunk_bytes = FRAGMENT
    finish_brings_last = True

    def __init__(self, name: str, library: Library, addresses: Addresses) -> None:
        self.name = name
        self._library, self._addresses = library, addresses
        self._verification = Verification(name, library, self.read)

    # Folders

    def owns(self, corp_index: int, item_id: str) -> bool:
        found = self._library.item(item_id)
        if found is None:
            return False
        root = "/".join(("", *map(mapped, self._library.place.folder), str(corp_index), ""))
        path = str(found.get("parentReference", {}).get("path", "")).partition("root:")[2]
        # Microsoft writes it percent-encoded (itemReference resource type), and in the case that the folder has there.
        return f"{unquote(path)}/".casefold().startswith(root.casefold())

    def make_root(self, corp_index: int) -> DriveItem:
        parent = ROOT
        for name in self._library.place.folder:
            parent = self.make_folder(parent, name).id
        return self.make_folder(parent, str(corp_index))

    def make_folder(self, parent_id: str, name: str) -> DriveItem:
        made = self._library.make_folder(parent_id, name)
        if "folder" not in made:
            raise NotAFolder(f"a file in the drive has the name of the folder {name!r}")
        return _told(made)

    def remove_empty_folder(self, folder_id: str) -> None:
        """Leave it: Microsoft removes a folder with whatever has come into it meanwhile."""
        log.info("drive %s: folder %s was made for nothing and stays", self.name, folder_id)

    def children(self, folder_id: str) -> Iterator[DriveItem]:
        try:
            yield from map(_told, self._library.children(folder_id))
        except DriveFault:
            self._library.prove_known()  # raises DriveMissing if it is the whole drive that is not there
            raise
        except DriveMissing as error:
            self._library.prove_known()
            raise FileNotFoundError(errno.ENOENT, "no such folder in the drive", folder_id) from error

    # The way of one file

    def begin(self, delivery: Delivery, previous: Json | None = None) -> tuple[Json, int]:
        """Open a session. Where `previous`, a single PUT, was cut, small fragments may still come through."""
        session: Json = {"name": mapped(delivery.name), "before": self._before(delivery)}
        if session["before"] is not None and not delivery.replace:
            return self._begun_before(session, delivery), delivery.size
        was_cut = previous is not None and bool(previous.get("cut"))
        if delivery.size == 0 or (delivery.size <= FRAGMENT and not was_cut):
            return session if self._must_know_before(delivery) else {}, 0
        policy = {"@microsoft.graph.conflictBehavior": _policy(delivery)}
        path = f"{self._library.by_name(delivery.parent_id, delivery.name)}:/createUploadSession"
        request = Request("POST", path, {"item": policy | {"name": session["name"]}}, units=WRITE)
        answer = self._library.ask_in(delivery.parent_id, request, NAME_TAKEN)
        if answer.status >= 400:
            return self._begun_before(session, delivery), delivery.size
        url = answer.object("uploadUrl")["uploadUrl"]
        return session | sessions.opened(url, delivery.size, is_careful=was_cut), 0

    def _must_know_before(self, delivery: Delivery) -> bool:
        """True if it matters later what stood in the place: to bring it back, or to tell it from ours that was altered."""
        return delivery.replace or self._verification.may_be_altered(mapped(delivery.name))

    def _before(self, delivery: Delivery) -> Json | None:
        """Note what stands in the place before anything is sent."""
        if not self._must_know_before(delivery):
            return None
        there = self._named(delivery)
        if there is None:
            return None
        if "folder" in there:
            raise NameTaken(f"the drive has a folder under the name {delivery.name!r}")
        self._refuse_anothers(there, delivery)
        versions = self._library.versions(there["id"]) if delivery.replace else []
        return noted(there, versions[0]["id"] if versions else None)

    def _begun_before(self, session: Json, delivery: Delivery) -> Json:
        """Return a session that is done, if the delivery stands there: from an attempt whose session was lost.

        Nothing has been sent in this one, so that only the very bytes can be the delivery; and since they may as well be
        somebody's, no abort is to remove them. Else the name is taken, or an open session holds it until that ends.
        """
        there = self._named(delivery)
        self._refuse_anothers(there, delivery)
        if there is not None and self._verification.is_exact(there, delivery):
            return session | {"done": True, "before": session["before"] or noted(there, None)}
        if there is not None and ("folder" in there or not delivery.replace):
            raise NameTaken(f"the drive has something else under the name {delivery.name!r}")
        raise DriveItemBusy(
            "an upload session that was lost holds this name until it ends by itself, mostly within a day; should this "
            "upload's deadline come first, retry it then",
            SOON,
        )

    def held(self, session: Json, delivery: Delivery) -> int | None:
        if "wrong" in session:
            self._take_back_wrong(session)
            return None
        if not session or session["name"] != mapped(delivery.name) or session.get("spoilt"):
            return None
        if session.get("done"):
            return delivery.size
        if "url" not in session and not session.get("cut"):
            return 0
        found = sessions.position(self._addresses, session) if "url" in session else None
        if found is None and self._find_done(delivery, session) is not None:
            session["done"] = True  # its last answer was lost
            return delivery.size
        return found

    def chunk_of(self, session: Json) -> int:
        return min(int(session.get("fragment", self.chunk_bytes)), self.chunk_bytes)

    def put(self, session: Json, offset: int, data: bytes) -> int:
        went_to = sessions.put(self._addresses, session, offset, data)
        if not isinstance(went_to, int):
            raise DriveFault("the drive called a file complete before its last byte")
        return went_to

    def secure(self, session: Json, offset: int) -> Json:  # noqa: ARG002  what a fragment's answer says is kept, is kept
        return session

    def finish(
        self, delivery: Delivery, session: Json, last: bytes, may_place: Callable[[], None]
    ) -> DriveItem:
        if "url" in session and last:
            made = self._send_last(delivery, session, last, may_place)
        elif session.get("done"):
            may_place()
            made = self._find_done(delivery, session)
        elif "url" in session:
            may_place()
            made = self._made_of_all(delivery, session)
        else:
            may_place()
            made = self._put_whole(delivery, session, last)
        if made is None:
            raise SessionLost("the drive has ended the upload session, and the file is not there")
        return self._verified(made, delivery, session)

    def _put_whole(self, delivery: Delivery, session: Json, data: bytes) -> Json:
        path = f"{self._library.by_name(delivery.parent_id, delivery.name)}:/content"
        policy = f"?@microsoft.graph.conflictBehavior={_policy(delivery)}"
        request = Request("PUT", path + policy, data=data, units=WRITE)
        try:
            answer = self._library.ask_in(delivery.parent_id, request, NAME_TAKEN)
        except Disconnected:
            session |= {"name": mapped(delivery.name), "cut": True}
            raise
        made = answer.object("id", "name") if answer.status < 400 else self._ours(delivery, session)
        if made is None:
            raise DriveItemBusy("another change of this item is under way", SOON)
        return made

    def _send_last(
        self, delivery: Delivery, session: Json, last: bytes, may_place: Callable[[], None]
    ) -> Json | None:
        """Send what is left, in as many fragments as it takes; with the last of them the file is there."""
        while last:
            offset = delivery.size - len(last)
            if len(last) <= session["fragment"] - offset % GRID:
                may_place()
            try:
                went_to = sessions.put(self._addresses, session, offset, last)
            except (NameTaken, SessionLost):
                return self._ours(delivery, session)
            if not isinstance(went_to, int):
                return went_to
            if went_to < offset:
                raise SessionLost("the drive has lost bytes that it had")
            last = last[went_to - offset :]
        return self._made_of_all(delivery, session)

    def _made_of_all(self, delivery: Delivery, session: Json) -> Json:
        """Return the file that the drive has made of all bytes, which it may not have said.

        From the field: it may have all of them for a while, and no file (onedrive-api-docs#71).
        """
        made = self._find_done(delivery, session)
        if made is not None:
            return made
        session["waited"] = session.get("waited", 0) + 1
        if session["waited"] > LOOKS:
            raise SessionLost("the drive has all bytes, and has made no file of them")
        raise DriveItemBusy("the drive has all bytes, and has not made a file of them yet", SOON)

    def _ours(self, delivery: Delivery, session: Json) -> Json | None:
        """Return what stands in the place if it is ours and its answer was lost; raise NameTaken if it is in the way."""
        there = self._named(delivery)
        self._refuse_anothers(there, delivery)
        if there is None or self._is_done(there, delivery, session):
            return there
        if "folder" in there or not delivery.replace:
            raise NameTaken(f"the drive has something else under the name {delivery.name!r}")
        return None

    def _find_done(self, delivery: Delivery, session: Json) -> Json | None:
        there = self._named(delivery)
        return there if there is not None and self._is_done(there, delivery, session) else None

    @staticmethod
    def _refuse_anothers(there: Json | None, delivery: Delivery) -> None:
        """Raise NameTaken if what stands in the place is in the catalogue as another item."""
        if there is not None and there["id"] != delivery.replaces and delivery.is_catalogued(there["id"]):
            raise NameTaken(f"another item has in the drive the name that {delivery.name!r} gets there")

    def _named(self, delivery: Delivery) -> Json | None:
        return self._library.named(delivery.parent_id, delivery.name)

    def _is_done(self, there: Json, delivery: Delivery, session: Json) -> bool:
        return self._verification.is_done(there, delivery, session.get("before"))

    def _verified(self, made: Json, delivery: Delivery, session: Json) -> DriveItem:
        outcome = self._verification.outcome(made, delivery)
        if outcome is not None:
            return _told(made, verified=outcome)
        # For `abort` to take back: whoever calls saves it first, should this process end in between.
        session["wrong"] = {"id": made["id"], "tag": made.get("cTag")}
        raise NotVerified("the drive holds other bytes than were received")

    def _take_back_wrong(self, session: Json) -> None:
        """Take back the wrong bytes that a session has brought, unless somebody has changed them since."""
        wrong = session["wrong"]
        there = self._library.item(wrong["id"])
        if there is not None and there.get("cTag") == wrong["tag"]:
            self._verification.take_back(there, session.get("before"))
        del session["wrong"]

    def release(self, session: Json) -> None:
        """Nothing is left of a session whose file is complete."""

    def abort(self, session: Json, placed: Delivery | None) -> None:
        if "url" in session:
            sessions.cancel(self._addresses, session)
        if "wrong" in session:
            self._take_back_wrong(session)
        if placed is None:
            return
        if not session and self._must_know_before(placed):
            return  # nothing was sent: its session would have been saved before the first byte
        there, before = self._named(placed), session.get("before")
        if there is not None and self._verification.is_ours_alone(there, placed, before):
            self._verification.take_back(there, before)

    def read(self, item_id: str, first: int = 0, length: int | None = None) -> Iterator[bytes]:
        address = self._library.download_address(item_id)
        if address is None:
            raise FileNotFoundError(errno.ENOENT, "no such file in the drive", item_id)
        yield from self._addresses.read(address, first, length)

    def size_now(self, item_id: str) -> int | None:
        return int(self._file(item_id)["size"])

    def is_same(self, item_id: str, info: Json | None) -> bool | None:
        try:
            there = self._file(item_id)
        except (FileNotFoundError, DriveFault):
            self._library.prove_known()  # raises DriveMissing if it is the whole drive that is not there
            raise
        if info is None or info.get("quick_xor_hash") is None:
            return None
        return bool(quick_xor(there) == info["quick_xor_hash"] and there.get("size") == info.get("size"))

    def _file(self, item_id: str) -> Json:
        there = self._library.item(item_id)
        if there is None or "file" not in there:
            raise FileNotFoundError(errno.ENOENT, "no such file in the drive", item_id)
        return there


def _policy(delivery: Delivery) -> str:
    return "replace" if delivery.replace else "fail"


def _told(item: Json, **more: str) -> DriveItem:
    if "folder" in item:
        return DriveItem(item["id"], item["name"], Kind.FOLDER, info={"web_url": item.get("webUrl")})
    info = {
        "quick_xor_hash": quick_xor(item),
        "size": item.get("size"),
        "etag": item.get("eTag"),
        "ctag": item.get("cTag"),
        "web_url": item.get("webUrl"),
    }
    return DriveItem(item["id"], item["name"], Kind.FILE, item.get("size"), info | more)
