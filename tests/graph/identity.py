"""The two addresses of the identity platform."""

import re

from tests.graph.answers import Answer, json_answer
from tests.graph.exchange import Exchange, decoded
from tests.graph.problems import GraphError, bad_request
from tests.graph.world import World

PATH = re.compile(r"/(?P<tenant>[^/]+)/(?P<what>v2\.0/\.well-known/openid-configuration|oauth2/v2\.0/token)")


def serve(world: World, exchange: Exchange) -> Answer:
    found = PATH.fullmatch(exchange.raw_path)
    assert found
    tenant = decoded(found["tenant"])
    if found["what"].startswith("v2.0"):
        return json_answer(world.authority.discovery(tenant, exchange.base))
    if exchange.method != "POST":
        raise GraphError(405, "notAllowed", "The token endpoint takes POST.")
    if not exchange.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise bad_request("The token endpoint takes a form.")
    form = exchange.form()
    with world.lock:
        given = world.authority.grant(tenant, exchange.base, form, exchange.headers.get("authorization", ""))
    return json_answer(given)
