"""Scripts of what goes wrong: for which request, at which place in it, and what happens there."""

import re
from dataclasses import dataclass, field, fields
from enum import StrEnum
from itertools import count
from threading import Condition
from typing import Any

from tests.graph.problems import bad_request


class Stage(StrEnum):
    """A place in the course of a request."""

    HEAD = "head"  # the head was read, the body was not
    BODY = "body"  # so many bytes of the body were read
    BEFORE = "before"  # the whole request was read, nothing was done
    AFTER = "after"  # it was done, the answer was not sent
    ANSWER = "answer"  # so many bytes of the answer's body were sent


ACTIONS = {"answer", "cut", "stall", "delay", "amend", "control", "pass"}


class Cut(Exception):
    """The connection is to be cut here."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


@dataclass
class Fault:
    """One script. It waits for the nth request that fits, and strikes it and as many after it as `times` says."""

    path: str
    action: str
    method: str = ".*"
    when: Stage = Stage.BEFORE
    nth: int = 1
    times: int | None = 1  # None: from then on always
    bytes: int = 0
    keep: int | None = None  # bytes of an interrupted fragment that are kept
    lose: int = 0  # bytes at the beginning of a fragment that are lost, while those behind them are kept
    seconds: float = 0.0
    name: str = ""
    reset: bool = True
    status: int = 500
    code: str = "generalException"
    inner: str = ""
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    request: str = ""
    json: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    seen: int = 0
    struck: int = 0

    def fits(self, method: str, target: str) -> bool:
        return bool(re.fullmatch(self.method, method) and re.search(self.path, target))

    @property
    def shown(self) -> str:
        return self.name or f"{self.action} {self.number}"


@dataclass
class Stall:
    """A request that waits in the middle of its course."""

    number: int
    name: str
    record: int
    when: Stage
    then: str = ""


class Script:
    """All faults in force, and the requests that are stalled."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._stalls: dict[int, Stall] = {}
        self._numbers = count(1)
        self._changed = Condition()
        self._closed = False

    def add(self, given: dict[str, Any]) -> Fault:
        known = {one.name for one in fields(Fault)} - {"number", "seen", "struck"}
        if set(given) - known or not {"path", "action"} <= set(given) or given["action"] not in ACTIONS:
            raise bad_request(
                f"A fault has path, action ({', '.join(sorted(ACTIONS))}) and of: {sorted(known)}"
            )
        try:
            fault = Fault(**given | {"when": Stage(given.get("when", "before"))})
            re.compile(fault.path)
        except (TypeError, ValueError, re.error) as error:
            raise bad_request(str(error)) from error
        with self._changed:
            fault.number = next(self._numbers)
            self._faults.append(fault)
        return fault

    def faults(self) -> list[Fault]:
        return list(self._faults)

    def clear(self) -> None:
        """Forget the faults. Stalled requests go on."""
        with self._changed:
            self._faults.clear()
            for stall in self._stalls.values():
                stall.then = stall.then or "continue"
            self._changed.notify_all()

    def match(self, method: str, target: str) -> list[Fault]:
        """Return the faults that strike this request, and count it for all that it fits."""
        striking = []
        with self._changed:
            for fault in self._faults:
                if fault.fits(method, target):
                    fault.seen += 1
                    last = None if fault.times is None else fault.nth + fault.times
                    if fault.seen >= fault.nth and (last is None or fault.seen < last):
                        fault.struck += 1
                        striking.append(fault)
        return striking

    def stall(self, fault: Fault, record: int) -> str:
        """Wait until a test lets go; return what it wants: continue or cut."""
        with self._changed:
            waiting = Stall(next(self._numbers), fault.name, record, fault.when)
            self._stalls[waiting.number] = waiting
            self._changed.notify_all()
            self._changed.wait_for(lambda: waiting.then or self._closed)
            del self._stalls[waiting.number]
            self._changed.notify_all()
            return waiting.then or "cut"

    def stalls(self, name: str | None, wait: float) -> list[Stall]:
        """Return the waiting ones, as soon as there is one or the seconds are over."""

        def found() -> list[Stall]:
            return [one for one in self._stalls.values() if name in (None, one.name) and not one.then]

        with self._changed:
            self._changed.wait_for(found, wait)
            return found()

    def release(self, name: str | None, then: str) -> int:
        if then not in {"continue", "cut"}:
            raise bad_request("then: continue or cut")
        with self._changed:
            released = [one for one in self._stalls.values() if name in (None, one.name) and not one.then]
            for stall in released:
                stall.then = then
            self._changed.notify_all()
            return len(released)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
