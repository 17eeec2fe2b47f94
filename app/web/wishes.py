"""What the sender of a file asks for, in the query or in the fields of a form."""

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from app import intake
from app.errors import BadRequest
from app.models import OnConflict
from app.uploads import Destination

_MEANINGS = {
    "name": "The file's name; a form's file brings its own",
    "folder": "A path of names, as in a/b; made where missing",
    "parent_id": "The drive's id of the folder that `folder` lies in; the root without one",
    "on_conflict": "What to do if something else has the name: fail (the default), rename or replace",
}
_VALUES = {"on_conflict": {"type": "string", "enum": [str(one) for one in OnConflict]}}
_TEXT = {"type": "string"}
# The route reads its body piece by piece, which the framework cannot know anything about.
DOCUMENTED = {
    "parameters": [
        *(
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": meaning,
                "schema": _VALUES.get(name, _TEXT),
            }
            for name, meaning in _MEANINGS.items()
        ),
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "1 to 255 printable ASCII characters; the same request again is the same upload",
            "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        **{name: _VALUES.get(name, _TEXT) for name in _MEANINGS},
                    },
                }
            },
        },
    },
}


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
        if name not in _MEANINGS:
            raise BadRequest(f"there is no field {name[:100]!r}; known are file, {', '.join(_MEANINGS)}")
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
    return intake.destination(
        corp_index,
        wishes["name"],
        folder=wishes.get("folder", ""),
        parent_id=wishes.get("parent_id"),
        on_conflict=_on_conflict(wishes.get("on_conflict", OnConflict.FAIL)),
    )


def _on_conflict(value: str) -> OnConflict:
    try:
        return OnConflict(value)
    except ValueError as error:
        raise BadRequest(f"on_conflict can be {', '.join(OnConflict)}") from error
