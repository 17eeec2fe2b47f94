"""A library's items, as Microsoft Graph has them: asked for, listed, made, removed."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from app.errors import DriveFault, DriveItemBusy, DriveMissing, DriveRefuses, FileForbidden, FolderGone
from app.graph.answers import SLOWLY, SOON, Answer
from app.graph.client import Graph, Request
from app.graph.names import mapped
from app.models import Json

ROOT = "root"  # the library's own root, under a name that is no id
NAME_TAKEN, NOT_FOUND = "namealreadyexists", "itemnotfound"
FAIL = {"@microsoft.graph.conflictBehavior": "fail"}  # said each time: the default of a PUT is to replace
WRITE = (
    2  # resource units; reading costs 1, a list 2 (SharePoint, "How to avoid getting throttled or blocked")
)


@dataclass(frozen=True)
class Place:
    """Which drive, by Microsoft's id, and the folder in it that holds the corporations' roots."""

    drive_id: str
    folder: tuple[str, ...]  # at least one name
    client_id: str  # of our application: what it made is ours to remove


class Library:
    """One drive of Microsoft's. Items are the JSON objects that Graph calls driveItem."""

    def __init__(self, place: Place, graph: Graph) -> None:
        self.place, self._graph = place, graph
        self._drive = f"/drives/{quote(place.drive_id, safe='!')}"

    def _ask(self, request: Request, *expect: str) -> Answer:
        """Ask; a refusal may be about what was asked for, or about everything that we might write."""
        try:
            return self._graph.ask(request, *expect)
        except FileForbidden:
            self.prove_writable()
            raise

    def told(self) -> Json:
        """Return what Graph says of the drive itself: its type, its quota."""
        return self._ask(Request("GET", self._drive)).object()

    def by_id(self, item_id: str) -> str:
        return f"{self._drive}/{ROOT if item_id == ROOT else 'items/' + quote(item_id, safe='!')}"

    def by_name(self, parent_id: str, name: str) -> str:
        return f"{self.by_id(parent_id)}:/{quote(mapped(name), safe='')}"

    def item(self, item_id: str) -> Json | None:
        return self._at(self.by_id(item_id))

    def named(self, parent_id: str, name: str) -> Json | None:
        return self._at(self.by_name(parent_id, name))

    def _at(self, path: str) -> Json | None:
        answer = self._ask(Request("GET", path), NOT_FOUND)
        return answer.object("id", "name") if answer.status < 400 else None

    def is_ours(self, item: Json) -> bool:
        """True if our application was the last to change it."""
        who = item.get("lastModifiedBy") or item.get("createdBy") or {}
        by = str((who.get("application") or {}).get("id"))
        return by.lower() == self.place.client_id.lower()  # settings may have it in any case

    def children(self, folder_id: str) -> Iterator[Json]:
        """Yield a folder's items; raises DriveMissing if it is not there."""
        page: str | None = f"{self.by_id(folder_id)}/children?$top=1000"
        while page:
            found = self._ask(Request("GET", page, units=WRITE)).object("value")
            yield from found["value"]
            page = found.get("@odata.nextLink")

    def make_folder(self, parent_id: str, name: str) -> Json:
        """Make it, or return what is there: of several that come at once Microsoft lets one make it."""
        body = {"name": mapped(name), "folder": {}, **FAIL}
        request = Request("POST", f"{self.by_id(parent_id)}/children", body, units=WRITE)
        answer = self.ask_in(parent_id, request, NAME_TAKEN)
        made = answer.object("id", "name") if answer.status < 400 else self.named(parent_id, name)
        if made is None:
            raise DriveItemBusy("a folder of this name was just there, and is gone", SOON)
        return made

    def versions(self, item_id: str) -> list[Json]:
        """Return a file's versions, the current one first; none of one that is not there."""
        answer = self._ask(Request("GET", f"{self.by_id(item_id)}/versions"), NOT_FOUND)
        return list(answer.object("value")["value"]) if answer.status < 400 else []

    def restore(self, item_id: str, version: str) -> bool:
        """Bring a version back; return whether there was one: a library may keep none."""
        path = f"{self.by_id(item_id)}/versions/{quote(version)}/restoreVersion"
        return self._ask(Request("POST", path, units=WRITE), NOT_FOUND).status < 400

    def remove(self, item: Json) -> None:
        """Send an item to the recycle bin as it was told; one that is not there is fine.

        Raises DriveItemBusy if somebody has changed it since.
        """
        path = self.by_id(item["id"])
        self._ask(Request("DELETE", path, if_match=item.get("eTag"), units=WRITE), NOT_FOUND)

    def download_address(self, item_id: str) -> str | None:
        """Return where a file's bytes are to be had for a while, without a token; None if there is no such file."""
        request = Request("GET", f"{self.by_id(item_id)}/content", wants_address=True)
        answer = self._ask(request, NOT_FOUND)
        return answer.headers.get("location")

    def ask_in(self, parent_id: str, request: Request, *expect: str) -> Answer:
        """Ask for something in a folder; what is missing may be the folder, or the whole drive."""
        try:
            return self._ask(request, *expect)
        except DriveMissing:
            if self.item(ROOT) is None:
                raise
            if self.item(parent_id) is not None:
                raise DriveFault("the drive says that something is missing, and has it") from None
            raise FolderGone(
                "the folder was deleted in the drive: bring it back from the recycle bin, then retry"
            ) from None
        except DriveFault:
            self.prove_known()
            raise

    def prove_known(self) -> None:
        """Raise DriveMissing if even the drive itself is refused: to an id that can be none, Microsoft answers 400.

        Asks for nothing else, and writes nothing.
        """
        try:
            self._graph.ask(Request("GET", self._drive))
        except DriveFault:
            raise DriveMissing(
                "Microsoft does not take the drive's id for one: is it right?", SLOWLY
            ) from None

    def prove_writable(self) -> None:
        """Raise DriveRefuses unless we may write: asks for a folder that is there already, so that none is made."""
        body = {"name": mapped(self.place.folder[0]), "folder": {}, **FAIL}
        try:
            self._graph.ask(Request("POST", f"{self.by_id(ROOT)}/children", body, units=WRITE), NAME_TAKEN)
        except FileForbidden:
            raise DriveRefuses(
                "the application may not write to this drive: it needs Sites.ReadWrite.All with an administrator's"
                " consent, or the role write on this very site",
                SLOWLY,
            ) from None
