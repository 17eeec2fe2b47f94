"""What control changes: files behind the client's back, tokens, clocks, limits."""

from typing import Any

from cryptography import x509

from tests.graph.clients import Client
from tests.graph.items import App
from tests.graph.problems import not_found
from tests.graph.sights import chosen
from tests.graph.tree import TEBIBYTE, Conflict, Delivery, new_drive_id
from tests.graph.world import World

SOMEBODY = App("11111111-2222-3333-4444-555555555555", "somebody else")


def put(world: World, given: dict[str, Any]) -> Any:
    """Make or replace a file behind the client's back, with the folders above it."""
    drive = chosen(world, given)
    draft = world.draft()
    draft.append(given.get("text", "").encode())
    with world.lock:
        *above, name = given["path"].strip("/").split("/")
        parent = drive.root
        for folder in above:
            parent = drive.find(parent, [folder]) or drive.make_folder(
                parent, folder, SOMEBODY, Conflict.FAIL
            )
        item, _ = drive.place(parent, name, Delivery(draft.finish(), SOMEBODY), Conflict.REPLACE)
    return {"id": item.id}


def make_folder(world: World, given: dict[str, Any]) -> Any:
    drive = chosen(world, given)
    with world.lock:
        parent = drive.root
        for folder in given["path"].strip("/").split("/"):
            parent = drive.find(parent, [folder]) or drive.make_folder(
                parent, folder, SOMEBODY, Conflict.FAIL
            )
    return {"id": parent.id}


def delete(world: World, given: dict[str, Any]) -> Any:
    drive = chosen(world, given)
    with world.lock:
        found = drive.find(drive.root, given["path"].strip("/").split("/"))
        if found is None:
            raise not_found()
        drive.delete(found)
    return {}


def tokens(world: World, given: dict[str, Any]) -> Any:
    """Revoke or expire the tokens given so far; set the lifetime of those to come."""
    authority = world.authority
    if "lifetime" in given:
        authority.lifetime = float(given["lifetime"])
    act = {"revoke": authority.revoke, "expire": authority.expire}.get(given.get("action", ""))
    return {"tokens": act(given.get("client")) if act else 0}


def set_client(world: World, given: dict[str, Any]) -> Any:
    """Register an application, or change one: its roles, grants, secrets (seconds until they end) or certificates."""
    client = world.authority.clients.setdefault(given["id"], Client(given["id"]))
    client.name = given.get("name", client.name)
    client.roles = set(given.get("roles", client.roles))
    client.grants = dict(given.get("grants", client.grants))
    if "secrets" in given:
        now = world.clock.monotonic()
        client.secrets = {
            one: None if left is None else now + float(left) for one, left in given["secrets"].items()
        }
    for pem in given.get("certificates", ()):
        client.certificates.append(x509.load_pem_x509_certificate(pem.encode()))
    return {}


def set_clock(world: World, given: dict[str, Any]) -> Any:
    world.clock.off_by = float(given["off_by"])
    return {}


def set_throttle(world: World, given: dict[str, Any]) -> Any:
    throttle = world.throttle
    throttle.per_minute = int(given.get("per_minute", throttle.per_minute))
    throttle.per_day = int(given.get("per_day", throttle.per_day))
    throttle.minute = float(given.get("minute", throttle.minute))
    throttle.forget()
    return {}


def set_drive(world: World, given: dict[str, Any]) -> Any:
    """Set a drive's quota or type."""
    drive = chosen(world, given)
    drive.quota = int(given.get("quota", drive.quota))
    drive.kind = given.get("type", drive.kind)
    return {}


def add_drive(world: World, given: dict[str, Any]) -> Any:
    kind, quota = given.get("type", "business"), int(given.get("quota", TEBIBYTE))
    with world.lock:
        drive_id = given.get("id", new_drive_id())
        made = world.add_drive(drive_id, site=given.get("site", "haulage"), kind=kind, quota=quota)
    return {"id": made.id, "site": made.site.id}


def forget_delta(world: World, given: dict[str, Any]) -> Any:
    """Make every delta token of a drive too old."""
    drive = chosen(world, given)
    drive.forgotten = drive.changes + 1
    drive.changes += 1
    return {}


def expire_sessions(world: World, given: dict[str, Any]) -> Any:
    """End open sessions now: all of them, or those for one name."""
    ours = [
        one
        for one in world.sessions.all()
        if given.get("name") in (None, one.target.name) and one.state == "open"
    ]
    for session in ours:
        session.ends = world.clock.monotonic()
    return {"expired": len(ours)}


def settings(world: World, given: dict[str, Any]) -> Any:
    """Set the latency of a request, the lifetime and the default of sessions to come, the most items of a page."""
    options = world.options
    options.session_default = Conflict(given.get("session_default", options.session_default)).value
    options.latency = float(given.get("latency", options.latency))
    options.page = int(given.get("page", options.page))
    world.sessions.lifetime = float(given.get("session_lifetime", world.sessions.lifetime))
    return {}
