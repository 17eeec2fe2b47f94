"""Whether Flower lets anybody in: it shows every worker and task, and can stop them."""

import http.client
from collections.abc import Mapping
from functools import partial

from app.diagnosis.broker import is_loopback
from app.diagnosis.findings import Check, Verdict, bad, good, warning

ANSWER_SECONDS = 2.0
SHORTEST_PASSWORD = 12
_GUARD = "Start it as `haulage flower`, with FLOWER_BASIC_AUTH=user:password, and a long password."


def check(environment: Mapping[str, str]) -> Check:
    return Check("flower", partial(flower, environment))


def flower(environment: Mapping[str, str]) -> Verdict:
    """Look at the Flower of this machine, and at what the environment says of one."""
    port = environment.get("FLOWER_PORT", "5555")
    answers = {path: _answer(port, path) for path in ("/", "/api/workers")} if port.isdigit() else {}
    if open_to_all := [path for path, status in answers.items() if status == http.client.OK]:
        return bad(
            f"the one at 127.0.0.1:{port} lets everybody in, without a password, at {open_to_all[0]}", _GUARD
        )
    if environment.get("FLOWER_UNAUTHENTICATED_API", "").lower() in {"true", "1", "yes"}:
        return bad("FLOWER_UNAUTHENTICATED_API opens its commands to everybody", "Remove that variable.")
    if "FLOWER_BASIC_AUTH" in environment:
        for one in environment["FLOWER_BASIC_AUTH"].split(","):
            if len(one.partition(":")[2]) < SHORTEST_PASSWORD:
                return warning(
                    f"a password in FLOWER_BASIC_AUTH has fewer than {SHORTEST_PASSWORD} characters", _GUARD
                )
    address = environment.get("FLOWER_ADDRESS", "127.0.0.1")
    if not is_loopback(address):
        return warning(
            f"FLOWER_ADDRESS ({address}) lets it be reached from other machines, without TLS",
            "Let it listen on 127.0.0.1, behind a proxy that has TLS.",
        )
    if any(answers.values()):
        return good(f"the one at 127.0.0.1:{port} asks for a password")
    return good(f"none answers at 127.0.0.1:{port}")


def _answer(port: str, path: str) -> int | None:
    """Return the status with which a Flower answers; None if nobody is there, or something else."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        is_flower = answer.getheader("Server", "").startswith("TornadoServer")
    except (OSError, http.client.HTTPException):
        return None
    else:
        return answer.status if is_flower else None
    finally:
        connection.close()
