"""Upload sessions over HTTP: opening one at Graph, and its upload URL, which is another world.

Source: "driveItem: createUploadSession", unless a docstring names another.
"""

from typing import Any
from urllib.parse import quote

from tests.graph import writing
from tests.graph.answers import Answer, json_answer
from tests.graph.calls import Call, check_properties, times_of
from tests.graph.exchange import Exchange
from tests.graph.items import Item
from tests.graph.problems import GraphError, bad_request, name_taken
from tests.graph.sessions import LARGEST_FILE, Session, Target
from tests.graph.throttle import MANY, SINGLE
from tests.graph.tree import Conflict, Delivery
from tests.graph.world import World

PREFIX = "/_api/v2.0/"
PROPERTIES = {"name", "description", "fileSize", "fileSystemInfo", "driveItemSource", "mediaSource"}


def create(call: Call) -> Answer:
    """Open a session. Here, unlike in a PUT of content, a name that is taken is refused by default.

    The page says so; the live service replaces, or rclone, which sends no conflictBehavior, could not update a file.
    """
    body = call.exchange.json()
    wanted = body.get("item", {})
    if not isinstance(wanted, dict):
        raise bad_request("The item is not an object.")
    check_properties(body, {"item", "deferCommit"})
    check_properties(wanted, PROPERTIES)
    with call.world.lock:
        target = _target(call, wanted)
        _check_size(call, wanted.get("fileSize"))
        session = call.world.sessions.create(target, call.client, deferred=body.get("deferCommit") is True)
    answer = {"uploadUrl": _url(call, session), **session.status()}
    return json_answer(answer)


def _target(call: Call, wanted: dict[str, Any]) -> Target:
    parent, name, existing = call.place()
    call.check_conditions(existing)
    call.drive.check_name(parent, name)
    if wanted.get("name", name) != name:
        raise bad_request("The name in the request differs from the name in the path.")
    conflict = call.conflict(Conflict(call.world.options.session_default), wanted)
    if not call.address.segments:
        conflict = Conflict.REPLACE  # an update by id says what it is about
    elif existing and (conflict is Conflict.FAIL or (existing.is_folder and conflict is Conflict.REPLACE)):
        raise name_taken()
    by_id = None if call.address.segments else existing
    return Target(call.drive, parent, name, by_id, conflict, times_of(wanted.get("fileSystemInfo")))


def _check_size(call: Call, size: Any) -> None:
    if size is None:
        return
    if not isinstance(size, int) or size < 0:
        raise bad_request("fileSize is not a size.")
    if size > LARGEST_FILE:
        raise bad_request("The file is too large.", "maxFileSizeExceeded")
    call.drive.require_room(size)


def _url(call: Call, session: Session) -> str:
    """Return the upload URL; the token in it is all that it needs."""
    options = call.world.options
    scheme, _, place = call.exchange.base.partition("://")
    host, _, port = place.partition(":")
    place = f"{options.upload_host or host}:{options.upload_port or port}".rstrip(":")
    overwrite = session.target.conflict is Conflict.REPLACE
    path = f"{PREFIX}drives/{quote(call.drive.id)}/items/{session.item_id}/uploadSession"
    return f"{scheme}://{place}{path}?guid={session.guid}&overwrite={overwrite}&tempauth={session.tempauth}"


def serve(world: World, exchange: Exchange) -> Answer:
    """Answer at an upload URL. An Authorization header there is refused: the token in the URL is the permission."""
    if "authorization" in exchange.headers:
        raise GraphError(401, "unauthenticated", "An upload URL takes no Authorization header.")
    session = world.sessions.get(exchange.query.get("guid", ""))
    if exchange.query.get("tempauth") != session.tempauth:
        raise GraphError(401, "unauthenticated", "The upload URL is not valid.")
    with world.lock:
        exchange.extra |= world.throttle.spend(
            session.client.id, SINGLE if exchange.method == "GET" else MANY
        )
        session.require_open()
    routes = {"PUT": _put, "GET": _status, "DELETE": _cancel, "POST": _commit}
    if exchange.method not in routes:
        raise GraphError(405, "notAllowed", "The method is not allowed here.")
    return routes[exchange.method](world, exchange, session)


def _put(world: World, exchange: Exchange, session: Session) -> Answer:
    length = exchange.body.require_length()
    with world.lock:
        fragment = session.admit(exchange.headers.get("content-range", ""), length)
    hashed = session.draft.hash.copy()
    try:
        for piece in exchange.stream():
            session.put(fragment, piece)
            hashed.update(piece)
        with world.lock:
            session.accept(fragment, hashed, lose=exchange.lose)
            answer = _after_fragment(world, exchange, session)
        fragment.status = answer.status
    except GraphError as error:
        fragment.status = error.status
        raise
    except BaseException:
        session.interrupt(fragment, exchange.keep)
        raise
    return answer


def _after_fragment(world: World, exchange: Exchange, session: Session) -> Answer:
    if not session.whole or session.deferred:
        return json_answer(session.status(), 202)
    return _finish(world, exchange, session)


def _finish(world: World, exchange: Exchange, session: Session) -> Answer:
    """Make the file. If that fails, for a name or for the quota, the session is kept until it ends."""
    target = session.target
    if session.crooked:
        message = "A fragment was not a multiple of 320 KiB; the file cannot be committed."
        raise bad_request(message, "uploadSessionFailed")
    session.require_open()
    parent, name = target.parent, target.name
    if target.existing and target.existing.parent:
        parent, name = target.existing.parent, target.existing.name  # it may have been moved
    target.drive.check_name(parent, name)
    target.drive.require_room(session.received)
    _refuse_if_taken(target, parent, name)
    altered = writing.finish(session.draft, target.drive, name)
    delivery = Delivery(session.draft.finish(), session.client.app, target.times)
    item, new = target.drive.place(parent, name, delivery, target.conflict)
    item.edition += altered
    session.close("finished")
    return json_answer(item.as_json(), 201 if new else 200)


def _refuse_if_taken(target: Target, parent: Item, name: str) -> None:
    """The name may have been taken while the bytes came: 409 with the last of them."""
    there = target.drive.find(parent, [name])
    if there is None or target.conflict is Conflict.RENAME:
        return
    if there.is_folder or target.conflict is Conflict.FAIL:
        raise name_taken("Another file exists with the same name as the uploaded session.")


def _status(world: World, exchange: Exchange, session: Session) -> Answer:
    return json_answer(session.status())


def _cancel(world: World, exchange: Exchange, session: Session) -> Answer:
    with world.lock:
        session.close("cancelled")
    return Answer(204)


def _commit(world: World, exchange: Exchange, session: Session) -> Answer:
    """Complete a session with deferCommit by an empty POST, as work and school accounts do."""
    if exchange.body.there:
        raise bad_request("The request that completes an upload has no content.")
    if not session.deferred:
        raise bad_request("The session completes by itself.")
    if not session.whole:
        raise bad_request("Bytes are missing.", "uploadSessionIncomplete")
    with world.lock:
        session.require_open()
        return _finish(world, exchange, session)
