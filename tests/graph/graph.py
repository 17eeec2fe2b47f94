"""Graph itself: who calls, what it costs, whether it may, and which route it is."""

import re
from collections.abc import Callable
from functools import partial

from tests.graph import addresses, changes, reading, uploads, writing
from tests.graph.answers import Answer, json_answer
from tests.graph.calls import Call
from tests.graph.clients import READ, SESSION, WRITE, Client
from tests.graph.exchange import Exchange, decoded
from tests.graph.problems import GraphError, bad_request, not_found
from tests.graph.throttle import MANY, SINGLE
from tests.graph.tree import Site
from tests.graph.world import World

DRIVE = re.compile(r"/drives/(?P<drive>[^/]+)(?P<rest>/.*)?")
VERSION = re.compile(r"/versions/(?P<id>[^/]+)(?P<rest>/content|/restoreVersion)?")
MULTIPLE = ("/children", "/versions", "/drives")

# What is asked of an item: method, tail, the permission it takes, who answers.
ROUTES: list[tuple[str, str, set[str], Callable[[Call], Answer]]] = [
    ("GET", "", READ, reading.show),
    ("GET", "/children", READ, reading.children),
    ("GET", "/content", READ, reading.content),
    ("GET", "/versions", READ, reading.versions),
    ("PUT", "/content", WRITE, writing.put_content),
    ("POST", "/children", WRITE, writing.make_folder),
    ("POST", "/createUploadSession", SESSION, uploads.create),
    ("PATCH", "", WRITE, writing.patch),
    ("DELETE", "", WRITE, writing.delete),
]
VERSION_ROUTES: list[tuple[str, str, set[str], Callable[[Call, str], Answer]]] = [
    ("GET", "", READ, reading.version),
    ("GET", "/content", READ, reading.version_content),
    ("POST", "/restoreVersion", WRITE, writing.restore_version),
    ("DELETE", "", WRITE, writing.delete_version),
]


def serve(world: World, exchange: Exchange, path: str) -> Answer:
    client = world.authority.check(exchange.headers.get("authorization"), exchange.base)
    with world.lock:
        try:
            exchange.extra |= world.throttle.spend(client.id, _cost(exchange, path))
        except GraphError as error:
            exchange.extra |= error.headers
            raise
    if path.startswith("/me"):
        raise bad_request("/me request is only valid with delegated authentication flow.")
    if path.startswith("/sites/"):
        return _site(world, exchange, client, path)
    found = DRIVE.fullmatch(path)
    if not found:
        raise bad_request("Resource not found for the segment.")
    return _drive(world, exchange, client, decoded(found["drive"]), found["rest"] or "")


def _cost(exchange: Exchange, path: str) -> int:
    """Return the resource units of a request ("Avoid getting throttled or blocked in SharePoint Online")."""
    tail = path.rpartition("/")[2]
    if exchange.method != "GET" or path.endswith(MULTIPLE):
        return MANY
    if tail.startswith("delta"):
        return SINGLE if changes.is_cheap(exchange.query, f"/{tail}") else MANY
    return SINGLE


def _site(world: World, exchange: Exchange, client: Client, path: str) -> Answer:
    """Find a site and its drives ("Get a site by path", "List available drives")."""
    named, rest = addresses.parse_site(path)
    site = world.site(named)
    drives = world.drives_of(site)
    client.require(READ, drives[0])
    if rest == "" and exchange.method == "GET":
        return json_answer(_site_json(site))
    if rest == "/drives" and exchange.method == "GET":
        return json_answer({"value": [reading.drive_json(drive) for drive in drives]})
    if rest == "/drive" or rest.startswith("/drive/"):
        return _drive(world, exchange, client, drives[0].id, rest.removeprefix("/drive"))
    found = DRIVE.fullmatch(rest)
    if found and decoded(found["drive"]) in {drive.id for drive in drives}:
        return _drive(world, exchange, client, decoded(found["drive"]), found["rest"] or "")
    raise not_found()


def _drive(world: World, exchange: Exchange, client: Client, drive_id: str, rest: str) -> Answer:
    drive = world.drive(drive_id)
    if rest in {"", "/"}:
        client.require(READ, drive)
        if exchange.method != "GET":
            raise _not_allowed()
        return json_answer(reading.drive_json(drive))
    call = Call(world, exchange, client, drive, addresses.parse_item(rest))
    return _item(call)


def _item(call: Call) -> Answer:
    method, tail = call.exchange.method, call.address.tail
    changed = changes.TAIL.fullmatch(tail)
    if changed and method == "GET":
        return _delta(call, changed["token"])
    for known_method, known_tail, needed, route in ROUTES:
        if (known_method, known_tail) == (method, tail):
            call.require(needed)
            return _locked(call, partial(route, call))
    version = VERSION.fullmatch(tail)
    for known_method, known_tail, needed, version_route in VERSION_ROUTES:
        if version and (known_method, known_tail) == (method, version["rest"] or ""):
            call.require(needed)
            return _locked(call, partial(version_route, call, decoded(version["id"])))
    if version or tail in {known for _, known, _, _ in ROUTES}:
        raise _not_allowed()
    raise bad_request("Resource not found for the segment.")


def _delta(call: Call, token: str | None) -> Answer:
    call.require(READ)
    if call.address.segments or call.drive.get(call.address.start) is not call.drive.root:
        raise GraphError(400, "notSupported", "Work and school accounts give delta for the root alone.")
    return _locked(call, lambda: changes.delta(call, token))


def _locked(call: Call, route: Callable[[], Answer]) -> Answer:
    """Hold the lock while reading. What writes reads its body first, and takes the lock itself."""
    if call.exchange.method != "GET":
        return route()
    with call.world.lock:
        return route()


def _site_json(site: Site) -> dict[str, str]:
    return {"id": site.id, "name": site.path.rpartition("/")[2], "webUrl": f"https://{site.host}/{site.path}"}


def _not_allowed() -> GraphError:
    return GraphError(405, "notAllowed", "The method is not allowed on the resource.")
