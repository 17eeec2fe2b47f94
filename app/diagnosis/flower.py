"""Whether Flower lets anybody in: it shows every worker and task, and can stop them."""

import http.client
import re
from collections.abc import Mapping
from enum import Enum
from functools import partial

from app.diagnosis.broker import is_loopback
from app.diagnosis.findings import Check, Verdict, bad, good, warning

ANSWER_SECONDS = 2.0
SHORTEST_PASSWORD = 12
_GUARD = "Start it as `haulage flower`, with FLOWER_BASIC_AUTH=user:password, and a long password."


class Answer(Enum):
    NONE = "nobody is there"
    OPEN = "lets everybody in"
    GUARDED = "asks who it is"
    UNKNOWN = "neither"


def check(environment: Mapping[str, str]) -> Check:
    return Check("flower", partial(flower, environment))


def flower(environment: Mapping[str, str]) -> Verdict:
    """Look at the Flower of this machine, and at what the environment says of one."""
    port, prefix = environment.get("FLOWER_PORT", "5555"), environment.get("FLOWER_URL_PREFIX", "").strip("/")
    paths = (f"/{prefix}/".replace("//", "/"), f"/{prefix}/api/workers".replace("//", "/"))
    answers = {path: _answer(port, path) for path in paths} if port.isdigit() else {}
    if open_to_all := [path for path, answer in answers.items() if answer is Answer.OPEN]:
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
    return _seen(f"127.0.0.1:{port}", answers)


def _seen(where: str, answers: Mapping[str, Answer]) -> Verdict:
    for path, answer in answers.items():
        if answer is Answer.UNKNOWN:
            return warning(
                f"the one at {where} has nothing at {path} that would show whether it asks for a password",
                "Has it a path of its own? Set FLOWER_URL_PREFIX here as it is set for Flower, and look again.",
            )
    if Answer.GUARDED in answers.values():
        return good(f"the one at {where} asks for a password")
    return good(f"none answers at {where}")


def _answer(port: str, path: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException):
        return Answer.NONE
    finally:
        connection.close()
    if not answer.getheader("Server", "").startswith("TornadoServer"):  # something else has the port
        return Answer.NONE
    return _judged(answer.status, answer.getheader("Location", ""))


def _judged(status: int, location: str) -> Answer:
    if status == http.client.OK:
        return Answer.OPEN
    to_login = status // 100 == 3 and re.search("login|auth", location)
    is_refused = status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}
    return Answer.GUARDED if is_refused or to_login else Answer.UNKNOWN
