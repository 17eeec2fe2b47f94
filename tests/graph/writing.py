"""Requests that change the tree: content in one PUT, folders, renaming, deleting, old versions."""

from typing import Any

from tests.graph import office
from tests.graph.answers import Answer, json_answer
from tests.graph.calls import Call, check_properties, times_of
from tests.graph.contents import Draft
from tests.graph.exchange import Exchange
from tests.graph.items import Item
from tests.graph.problems import GraphError, bad_request, name_taken, not_found
from tests.graph.reading import find_version, item_json
from tests.graph.tree import Conflict, Delivery, Drive

LARGEST_PUT = 250_000_000  # "Upload or replace the contents of a driveItem": 250 MB


def put_content(call: Call) -> Answer:
    """Take a whole file in one request. Here a name that is taken is replaced, unless the URL says otherwise."""
    conflict = call.conflict(Conflict.REPLACE)
    with call.world.lock:
        _check_place(call, conflict)
    draft = receive(call.world.draft(), call.exchange)
    try:
        with call.world.lock:
            parent, name = _check_place(call, conflict)
            answer = json_answer(*_placed(call, parent, name, draft, conflict))
    except GraphError:
        draft.drop()
        raise
    return answer


def receive(draft: Draft, exchange: Exchange) -> Draft:
    """Read the body into a draft, hashing it; drop the draft if the request is refused or broken."""
    hashed = draft.hash.copy()
    try:
        _check_length(0 if exchange.body.chunked else exchange.body.require_length())
        for piece in exchange.stream() if exchange.body.there else ():
            draft.put(hashed.length, piece)
            hashed.update(piece)
            _check_length(hashed.length)
    except BaseException:
        draft.drop()
        raise
    draft.take(hashed)
    return draft


def finish(draft: Draft, drive: Drive, name: str) -> bool:
    """Let a document library alter an Office file; tell whether it did."""
    return drive.kind == "documentLibrary" and office.alter(draft, name)


def make_folder(call: Call) -> Answer:
    """Make a folder ("Create a new folder in a drive"); without a conflictBehavior a taken name is refused."""
    body = call.exchange.json()
    check_properties(body, {"name", "folder", "description", "fileSystemInfo"})
    if not isinstance(body.get("name"), str) or not isinstance(body.get("folder"), dict):
        raise bad_request("Cannot create an item without a name and the folder facet.")
    with call.world.lock:
        parent = call.item()
        if not parent.is_folder:
            raise bad_request("The parent is not a folder.")
        made = call.drive.make_folder(
            parent, body["name"], call.client.app, call.conflict(Conflict.FAIL, body)
        )
        times = times_of(body.get("fileSystemInfo"))
        made.file_created, made.file_modified = times
        return json_answer(item_json(call, made), 201)


def patch(call: Call) -> Answer:
    """Rename, move or set times ("Update DriveItem properties", "Move a DriveItem to a new folder")."""
    body = call.exchange.json()
    check_properties(body, {"name", "parentReference", "fileSystemInfo", "description"})
    with call.world.lock:
        item = call.item()
        call.check_conditions(item)
        if "name" in body or "parentReference" in body:
            _move(call, item, body)
        if "fileSystemInfo" in body:
            call.drive.set_times(item, call.client.app, times_of(body["fileSystemInfo"]))
        return json_answer(item_json(call, item))


def delete(call: Call) -> Answer:
    """Delete an item ("Delete a DriveItem": If-Match, 204)."""
    with call.world.lock:
        item = call.item()
        call.check_conditions(item)
        call.drive.delete(item)
    return Answer(204)


def restore_version(call: Call, version_id: str) -> Answer:
    """Make an old version the newest, as one more ("Restore a previous version of a DriveItem")."""
    with call.world.lock:
        item = call.item()
        old = find_version(item, version_id)
        call.drive.rewrite(item, Delivery(old.content, call.client.app))
    return Answer(204)


def delete_version(call: Call, version_id: str) -> Answer:
    with call.world.lock:
        item = call.item()
        old = find_version(item, version_id)
        if old is item.versions[-1]:
            raise bad_request("The current version cannot be deleted.")
        call.drive.drop_version(item, old)
    return Answer(204)


def _check_place(call: Call, conflict: Conflict) -> tuple[Item, str]:
    """Refuse early what would be refused at the end: no byte is wanted then."""
    parent, name, existing = call.place()
    call.check_conditions(existing)
    call.drive.check_name(parent, name)
    if not call.address.segments:
        return parent, name
    if existing and (conflict is Conflict.FAIL or (existing.is_folder and conflict is Conflict.REPLACE)):
        raise name_taken()
    return parent, name


def _placed(
    call: Call, parent: Item, name: str, draft: Draft, conflict: Conflict
) -> tuple[dict[str, Any], int]:
    altered = finish(draft, call.drive, name)
    call.drive.require_room(draft.size)
    conflict = conflict if call.address.segments else Conflict.REPLACE  # by its id there is no other name
    delivery = Delivery(draft.finish(), call.client.app)
    item, new = call.drive.place(parent, name, delivery, conflict)
    item.edition += altered
    return item_json(call, item), 201 if new else 200


def _move(call: Call, item: Item, body: dict[str, Any]) -> None:
    reference = body.get("parentReference", {})
    if not isinstance(reference, dict):
        raise bad_request("parentReference is not an object.")
    if reference.get("driveId", call.drive.id) != call.drive.id:
        raise GraphError(400, "notSupported", "Items cannot be moved between drives.")
    if not isinstance(body.get("name", ""), str):
        raise bad_request("The name is not a name.")
    if "parentReference" in body and not isinstance(reference.get("id"), str):
        raise bad_request("The new parent is to be named by its id.")
    check_properties(
        reference, {"id", "driveId", "driveType", "name", "path", "shareId", "sharepointIds", "siteId"}
    )
    parent = call.drive.get(reference["id"]) if "id" in reference else item.parent
    if parent is None:
        raise bad_request("The root folder cannot be renamed.")
    if not parent.is_folder:
        raise not_found()
    call.drive.move(
        item, parent, body.get("name", item.name), call.client.app, call.conflict(Conflict.FAIL, body)
    )


def _check_length(length: int) -> None:
    if length > LARGEST_PUT:
        raise GraphError(
            413, "invalidRequest", "The file is too large for one request.", "maxFileSizeExceeded"
        )
