"""What control shows: requests, connections, sessions, the tree with hashes, what waits."""

from dataclasses import asdict
from hashlib import sha256
from typing import Any

from tests.graph.contents import Content
from tests.graph.hashes import QuickXorHash
from tests.graph.items import Item
from tests.graph.tree import Drive
from tests.graph.world import World


def faults(world: World, given: dict[str, Any]) -> Any:
    return [asdict(fault) for fault in world.script.faults()]


def stalls(world: World, given: dict[str, Any]) -> Any:
    return [asdict(stall) for stall in world.script.stalls(given.get("name"), float(given.get("wait", 0)))]


def requests(world: World, given: dict[str, Any]) -> Any:
    return world.journal.records(int(given.get("since", 0)), float(given.get("wait", 0)))


def connections(world: World, given: dict[str, Any]) -> Any:
    return world.journal.connections()


def sessions(world: World, given: dict[str, Any]) -> Any:
    return [session.as_json() for session in world.sessions.all()]


def tree(world: World, given: dict[str, Any]) -> Any:
    """Show everything in a drive, unless `hashes` is 0 with hashes computed from the bytes on disk, now."""
    with world.lock:
        items = [item for item in chosen(world, given).items.values() if item.parent]
        shown = [(_shown(item), None if item.is_folder else item.content) for item in items]
    if str(given.get("hashes", 1)) == "0":
        return [described for described, _ in shown]
    return [described | (_hashes(content) if content else {}) for described, content in shown]


def _shown(item: Item) -> dict[str, Any]:
    shown = {
        "path": item.path(),
        "id": item.id,
        "folder": item.is_folder,
        "size": item.size,
        "eTag": item.etag,
    }
    if item.is_folder:
        return shown | {"childCount": len(item.children)}
    application = item.by.as_json()["application"]
    return shown | {"versions": len(item.versions), "createdBy": application}


def _hashes(content: Content) -> dict[str, str]:
    hashed, digest = QuickXorHash(), sha256()
    try:
        with content.path.open("rb") as file:
            while data := file.read(1 << 20):
                hashed.update(data)
                digest.update(data)
    except FileNotFoundError:
        return {}  # it was deleted just now
    return {"quickXorHash": hashed.digest(), "sha256": digest.hexdigest(), "shown": content.quick_xor_hash}


def spent(world: World, given: dict[str, Any]) -> Any:
    return world.throttle.spent()


def drives(world: World, given: dict[str, Any]) -> Any:
    return [
        {"id": one.id, "type": one.kind, "site": one.site.id, "quota": one.quota, "used": one.used}
        for one in world.drives.values()
    ]


def chosen(world: World, given: dict[str, Any]) -> Drive:
    return world.drive(given["drive"]) if "drive" in given else next(iter(world.drives.values()))
