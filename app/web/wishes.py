"""What the sender of a file asks for, in the query or in the fields of a form."""

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from app import intake
from app.errors import BadRequest, NotFound
from app.models import OnConflict
from app.uploads import Destination

KNOWN = ("name", "folder", "parent_id", "on_conflict")


class Wishes(dict[str, str]):
    """Each wish may be uttered once; one that nobody knows is refused rather than overheard."""

    def __init__(self, wishes: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        for name, value in wishes:
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        self.expect(name)
        self[name] = value

    def expect(self, name: str) -> None:
        """Refuse a wish by its name, before its value is known."""
        if name not in KNOWN:
            raise BadRequest(f"there is no field {name[:100]!r}; known are file, {', '.join(KNOWN)}")
        if name in self:
            raise BadRequest(f"{name!r} is given more than once")


def in_query(query: bytes) -> Wishes:
    """Read a query string; unlike the framework's own reading it refuses what is not UTF-8."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadRequest("the query is not valid: percent-encoded UTF-8 is needed") from error
    return Wishes(pairs)


def destination(corp_index: int, wishes: Mapping[str, str]) -> Destination:
    """Check where the file is to go; raises what `intake.destination` raises."""
    if "name" not in wishes:
        raise BadRequest("the file needs a name: send it in a form, or add ?name=")
    parent_id = wishes.get("parent_id")
    if parent_id is not None and "\0" in parent_id:  # PostgreSQL knows no text with it
        raise NotFound(f"corporation {corp_index} has no item with that id")
    return intake.destination(
        corp_index,
        wishes["name"],
        folder=wishes.get("folder", ""),
        parent_id=parent_id,
        on_conflict=_on_conflict(wishes.get("on_conflict", OnConflict.FAIL)),
    )


def _on_conflict(value: str) -> OnConflict:
    try:
        return OnConflict(value)
    except ValueError as error:
        raise BadRequest(f"on_conflict can be {', '.join(OnConflict)}") from error
