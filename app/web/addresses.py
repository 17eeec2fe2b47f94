"""Where things are to be found: the paths that answers refer to, percent-encoded segment by segment."""

from urllib.parse import quote, urlencode
from uuid import UUID

API = "/api/v1"


def upload(corp_index: int, upload_id: UUID) -> str:
    return f"{API}/corporations/{corp_index}/uploads/{upload_id}"


def content(corp_index: int, item_id: str) -> str:
    return f"{_item(corp_index, item_id)}/content"


def children(corp_index: int, item_id: str, **query: int) -> str:
    path = f"{_item(corp_index, item_id)}/children"
    return f"{path}?{urlencode(query)}" if query else path


def _item(corp_index: int, item_id: str) -> str:
    segments = (quote(segment, safe="") for segment in item_id.split("/"))
    return f"{API}/corporations/{corp_index}/items/{'/'.join(segments)}"
