"""Addresses of drives and items in Graph's URLs ("Addressing resources in a drive on OneDrive")."""

import re
from dataclasses import dataclass

from tests.graph.exchange import decoded
from tests.graph.problems import bad_request, not_found

ITEM = re.compile(r"/(?:root|items/(?P<id>[^/:]+))(?::(?P<path>/[^:]*):?(?=/|$))?(?P<tail>/.*)?")
SITE = re.compile(r"/sites/(?P<site>[^/:]+(?::/[^:]+(?=:|$))?):?(?P<rest>/.*)?")


@dataclass(frozen=True)
class Address:
    """An item by its id, or by a path from one; `tail` is what is asked of it."""

    start: str
    segments: tuple[str, ...]
    by_path: bool
    tail: str


def parse_item(raw: str) -> Address:
    found = ITEM.fullmatch(raw)
    if not found:
        raise bad_request("Resource not found for the segment.")
    path = found["path"]
    segments = (
        tuple(decoded(one) for one in (path or "").strip("/").split("/")) if path and path.strip("/") else ()
    )
    if "" in segments or any("/" in one for one in segments):
        raise bad_request("The path has an empty segment or an encoded slash.", "invalidPath")
    return Address(
        decoded(found["id"] or "root"), segments, path is not None, (found["tail"] or "").rstrip("/")
    )


def parse_site(raw: str) -> tuple[str, str]:
    """Split `/sites/...` into the site as it was named and the rest."""
    found = SITE.fullmatch(raw)
    if not found:
        raise not_found()
    return decoded(found["site"]), found["rest"] or ""
