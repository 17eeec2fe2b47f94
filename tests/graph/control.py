"""How a test scripts faults and looks behind the curtain. Not a part of Graph; without the key it is not there."""

import hmac
from collections.abc import Callable
from typing import Any

from tests.graph import interventions, sights
from tests.graph.answers import Answer, json_answer
from tests.graph.exchange import Exchange
from tests.graph.problems import GraphError, bad_request, not_found
from tests.graph.world import World

PREFIX = "/_control/"


def answer(world: World, exchange: Exchange) -> Answer:
    key = world.options.control_key
    if not key or not hmac.compare_digest(exchange.headers.get("x-control-key", "").encode(), key.encode()):
        exchange.drain()
        return exchange.refusal(not_found())
    try:
        given = exchange.json() if exchange.body.there else dict[str, Any](exchange.query)
        return json_answer(
            perform(world, f"{exchange.method} {exchange.raw_path.removeprefix(PREFIX)}", given)
        )
    except GraphError as error:
        return exchange.refusal(error)


def perform(world: World, request: str, given: dict[str, Any]) -> Any:
    """Do what control does, for a request or for a fault: `POST put`, with its JSON."""
    if request not in COMMANDS:
        raise not_found(f"Control knows: {', '.join(sorted(COMMANDS))}")
    try:
        return COMMANDS[request](world, given)
    except (KeyError, TypeError, ValueError) as error:
        raise bad_request(f"{type(error).__name__}: {error}") from error


def _add_fault(world: World, given: dict[str, Any]) -> Any:
    return {"number": world.script.add(given).number}


def _clear_faults(world: World, given: dict[str, Any]) -> Any:
    world.script.clear()
    return {}


def _release(world: World, given: dict[str, Any]) -> Any:
    return {"released": world.script.release(given.get("name"), given.get("then", "continue"))}


def _clear_requests(world: World, given: dict[str, Any]) -> Any:
    world.journal.clear()
    return {}


COMMANDS: dict[str, Callable[[World, dict[str, Any]], Any]] = {
    "POST faults": _add_fault,
    "GET faults": sights.faults,
    "DELETE faults": _clear_faults,
    "GET stalls": sights.stalls,
    "POST release": _release,
    "GET requests": sights.requests,
    "DELETE requests": _clear_requests,
    "GET connections": sights.connections,
    "GET sessions": sights.sessions,
    "POST sessions/expire": interventions.expire_sessions,
    "GET tree": sights.tree,
    "POST put": interventions.put,
    "POST folder": interventions.make_folder,
    "POST delete": interventions.delete,
    "POST tokens": interventions.tokens,
    "POST client": interventions.set_client,
    "POST clock": interventions.set_clock,
    "POST throttle": interventions.set_throttle,
    "GET throttle": sights.spent,
    "POST drive": interventions.set_drive,
    "GET drives": sights.drives,
    "POST drives": interventions.add_drive,
    "POST delta/forget": interventions.forget_delta,
    "POST settings": interventions.settings,
}
