"""Pre-authenticated download URLs, and the bytes behind them ("Download the contents of a DriveItem")."""

import hmac
import re
from urllib.parse import quote

from tests.graph.answers import Answer
from tests.graph.contents import Content
from tests.graph.exchange import Exchange
from tests.graph.problems import GraphError, not_found
from tests.graph.world import World

PREFIX = "/_layouts/15/download.aspx"
LIFETIME = 3600.0  # "driveItem resource type": the URL is good for an hour
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def url(world: World, base: str, content: Content) -> str:
    ends = str(int(world.clock.monotonic() + LIFETIME))
    return f"{base}{PREFIX}?file={quote(content.path.name)}&ends={ends}&tempauth={_signature(world, content.path.name, ends)}"


def serve(world: World, exchange: Exchange) -> Answer:
    """Send a file, or one range of it. No token is asked for: the URL is the permission."""
    name, ends = exchange.query.get("file", ""), exchange.query.get("ends", "")
    if not hmac.compare_digest(exchange.query.get("tempauth", ""), _signature(world, name, ends)):
        raise GraphError(401, "unauthenticated", "The download URL is not valid.")
    if int(ends) < world.clock.monotonic():
        raise GraphError(401, "unauthenticated", "The download URL is over.")
    path = world.drafts / name
    if not path.exists():
        raise not_found()
    return _part(
        exchange,
        Answer(200, {"Content-Type": "application/octet-stream"}, file=(path, 0, path.stat().st_size)),
    )


def _part(exchange: Exchange, whole: Answer) -> Answer:
    assert whole.file
    path, _, size = whole.file
    found = RANGE.fullmatch(exchange.headers.get("range", ""))
    if not found or not (found[1] or found[2]):
        return whole
    start = int(found[1]) if found[1] else max(0, size - int(found[2]))
    end = min(int(found[2]), size - 1) if found[1] and found[2] else size - 1
    if start > end:
        raise GraphError(
            416,
            "invalidRange",
            "The range is not within the file.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    headers = whole.headers | {"Content-Range": f"bytes {start}-{end}/{size}"}
    return Answer(206, headers, file=(path, start, end - start + 1))


def _signature(world: World, name: str, ends: str) -> str:
    return hmac.new(world.signing_key, f"{name} {ends}".encode(), "sha256").hexdigest()
