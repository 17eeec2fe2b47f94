"""One request and its answer, with every place at which a fault may strike."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from tests.graph.answers import Answer, Answered, amended, json_answer
from tests.graph.bodies import STEP, Body
from tests.graph.clock import Clock
from tests.graph.faults import Cut, Fault, Script, Stage
from tests.graph.journal import Record
from tests.graph.problems import GraphError, bad_request

MOST_JSON = 1 << 20


@dataclass(frozen=True)
class Head:
    """The first part of a request; header names are in lower case, `base` is the scheme and host it was sent to."""

    method: str
    target: str
    headers: dict[str, str]
    base: str


class Exchange:
    """What a route is given: it reads the body through `stream`, so that faults can strike on the way."""

    def __init__(self, head: Head, script: Script, record: Record, clock: Clock) -> None:
        self.method, self.target, self.headers, self.base = head.method, head.target, head.headers, head.base
        self.raw_path, _, query = head.target.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.script, self.record, self.clock = script, record, clock
        self.request_id = str(uuid.uuid4())
        self.extra: dict[str, str] = {}  # headers that go with whatever answer
        self.body = Body(self.headers, self._allowed)
        self.control: Callable[[str, dict[str, Any]], Any]  # what a fault of the kind `control` calls
        self._struck: set[int] = set()
        self._faults = script.match(head.method, head.target)
        record.faults = [fault.shown for fault in self._faults]

    @property
    def keep(self) -> int:
        """How much of this request a fault lets us keep if it is interrupted."""
        return max((fault.keep or 0 for fault in self._faults), default=0)

    @property
    def lose(self) -> int:
        """How much of the beginning of this fragment a fault loses."""
        return max((fault.lose for fault in self._faults), default=0)

    def stream(self) -> Iterator[memoryview]:
        """Give the body in pieces; the last step is the place before the effect."""
        yield from self.body.pieces()
        self._strike_body()
        self.strike(Stage.BEFORE)

    def json(self) -> dict[str, Any]:
        """Read a body that is nothing, or an object."""
        if not self.body.there:
            return {}
        data = bytearray()
        for piece in self.stream():
            data += piece
            if len(data) > MOST_JSON:
                raise GraphError(413, "invalidRequest", "The request is too large.")
        try:
            value = json.loads(data)
        except ValueError as error:
            raise bad_request("Unable to read JSON request payload.") from error
        if not isinstance(value, dict):
            raise bad_request("Unable to read JSON request payload: an object is expected.")
        return value

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(b"".join(self.stream()).decode("utf-8", "replace"), keep_blank_values=True))

    def drain(self) -> None:
        self.body.drain()
        self.record.received = self.body.received

    def strike(self, stage: Stage) -> None:
        """Let the faults of this place do what they do."""
        for fault in self._faults:
            if fault.when is stage and fault.action != "amend":
                self._do(fault)

    def amend(self, answer: Answer) -> Answer:
        return amended(answer, [fault.set for fault in self._faults if fault.action == "amend"])

    def cut_answer_after(self) -> int | None:
        cuts = (one.bytes for one in self._faults if one.when is Stage.ANSWER and one.action == "cut")
        return next(cuts, None)

    def refusal(self, error: GraphError) -> Answer:
        client_id = self.headers.get("client-request-id", self.request_id)
        answer = json_answer(error.as_json(self.request_id, client_id, self.clock.stamp()), error.status)
        answer.headers |= error.headers
        self.record.code = error.inner or error.code
        return answer

    def _do(self, fault: Fault) -> None:
        self._struck.add(fault.number)
        if fault.action == "cut":
            raise Cut(reset=fault.reset)
        if fault.action == "delay":
            time.sleep(fault.seconds)
        elif fault.action == "stall" and self.script.stall(fault, self.record.number) == "cut":
            raise Cut(reset=fault.reset)
        elif fault.action == "control":
            self.control(fault.request, fault.json)
        elif fault.action == "answer":
            raise Answered(self._scripted(fault))

    def _scripted(self, fault: Fault) -> Answer:
        if fault.body is not None:
            headers = {"Content-Type": "text/html; charset=utf-8", **fault.headers}
            return Answer(fault.status, headers, fault.body.encode())
        error = GraphError(
            fault.status, fault.code, "A fault that a test asked for.", fault.inner, fault.headers
        )
        return self.refusal(error)

    def _waiting(self) -> list[Fault]:
        return [one for one in self._faults if one.when is Stage.BODY and one.number not in self._struck]

    def _allowed(self) -> int:
        """Strike what is due here; return how many bytes may be read until the next fault."""
        self._strike_body()
        return max(1, min((fault.bytes - self.body.received for fault in self._waiting()), default=STEP))

    def _strike_body(self) -> None:
        self.record.received = self.body.received
        for fault in self._waiting():
            if fault.bytes <= self.body.received:
                self._do(fault)


def decoded(raw: str) -> str:
    """Undo percent-encoding; what is not UTF-8 is refused ("Addressing driveItems": RFC 3986, encoded as UTF-8)."""
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise bad_request("The path is not UTF-8.", "invalidPath") from error
