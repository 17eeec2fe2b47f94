"""Which request goes where, and what every answer has in common."""

import logging
import re
import time

from tests.graph import control, downloads, graph, identity, uploads
from tests.graph.answers import Answer, Answered, json_answer
from tests.graph.exchange import Exchange
from tests.graph.faults import Cut, Stage
from tests.graph.problems import GraphError, not_found
from tests.graph.tokens import Refused
from tests.graph.world import World

log = logging.getLogger(__name__)
VERSIONS = re.compile(r"/(?:v1\.0|v2\.0)(?P<rest>/.*)")


def answer(world: World, exchange: Exchange, port: int) -> Answer:
    """Answer one request; raise Cut where a fault says so."""
    if exchange.raw_path.startswith(control.PREFIX):
        return control.answer(world, exchange)
    exchange.control = lambda path, body: control.perform(world, path, body)
    began = time.monotonic()
    given = _undisturbed(world, exchange, port)
    exchange.drain()
    time.sleep(max(0, began + world.options.latency - time.monotonic()))
    try:
        exchange.strike(Stage.AFTER)
    except Answered as fault:
        given = fault.answer
    given = exchange.amend(given)
    given.headers |= exchange.extra | {
        "Date": world.clock.http_date(),
        "request-id": exchange.request_id,
        "client-request-id": exchange.headers.get("client-request-id", exchange.request_id),
    }
    return given


def _undisturbed(world: World, exchange: Exchange, port: int) -> Answer:
    try:
        exchange.strike(Stage.HEAD)
        if not exchange.body.there:
            exchange.strike(Stage.BEFORE)
        return _routed(world, exchange, port)
    except Answered as fault:
        return fault.answer
    except GraphError as error:
        return exchange.refusal(error)
    except Refused as error:
        exchange.record.code = f"AADSTS{error.number}"
        return json_answer(error.as_json(world.clock.stamp()), error.status)
    except (OSError, Cut):
        raise
    except Exception:
        log.exception("%s %s", exchange.method, exchange.raw_path)
        return exchange.refusal(
            GraphError(500, "generalException", "The simulator has a fault of its own.", "bug")
        )


def _routed(world: World, exchange: Exchange, port: int) -> Answer:
    path = exchange.raw_path
    if path.startswith((uploads.PREFIX, downloads.PREFIX)):
        return _preauthorised(world, exchange, port)
    found = VERSIONS.fullmatch(path)
    if found:
        return graph.serve(world, exchange, found["rest"])
    if identity.PATH.fullmatch(path):
        return identity.serve(world, exchange)
    raise not_found()


def _preauthorised(world: World, exchange: Exchange, port: int) -> Answer:
    elsewhere = world.options.upload_port
    if exchange.raw_path.startswith(downloads.PREFIX):
        return downloads.serve(world, exchange)
    if elsewhere and port != elsewhere:
        raise not_found()
    return uploads.serve(world, exchange)
