"""Where things are to be found: the paths that answers refer to, percent-encoded segment by segment."""

from urllib.parse import quote, urlencode
from uuid import UUID

from starlette.convertors import Convertor, register_url_convertor

API = "/api/v1"


class ItemId(Convertor[str]):
    """The drive's id of an item, as a part of a path; Starlette's own `path` stops at a line feed.

    No id holds a NUL: PostgreSQL knows no text with one.
    """

    regex = r"[^\0]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("item_id", ItemId())

CORPORATION = "/corporations/{corp_index}"
ITEM = CORPORATION + "/items/{item_id:item_id}"


def upload(corp_index: int, upload_id: UUID) -> str:
    return f"{API}/corporations/{corp_index}/uploads/{upload_id}"


def uploads(corp_index: int, **query: object) -> str:
    return f"{API}/corporations/{corp_index}/uploads?{urlencode(query, doseq=True)}"


def content(corp_index: int, item_id: str) -> str:
    return f"{_item(corp_index, item_id)}/content"


def children(corp_index: int, item_id: str, **query: int) -> str:
    path = f"{_item(corp_index, item_id)}/children"
    return f"{path}?{urlencode(query)}" if query else path


def _item(corp_index: int, item_id: str) -> str:
    segments = (quote(segment, safe="") for segment in item_id.split("/"))
    return f"{API}/corporations/{corp_index}/items/{'/'.join(segments)}"
