"""Answers before they are sent."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: tuple[Path, int, int] | None = None  # instead of a body: which bytes of which file

    @property
    def length(self) -> int:
        return self.file[2] if self.file else len(self.body)


class Answered(Exception):
    """A fault answers in our place."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def json_answer(value: Any, status: int = 200) -> Answer:
    body = json.dumps(value, ensure_ascii=False).encode()
    return Answer(status, {"Content-Type": "application/json; charset=utf-8"}, body)


def amended(answer: Answer, changes: list[dict[str, Any]]) -> Answer:
    """Change values in a JSON answer, by JSON pointer; a pointer that leads nowhere is left alone."""
    if not changes or not answer.body.startswith(b"{"):
        return answer
    value = json.loads(answer.body)
    for change in changes:
        for pointer, new in change.items():
            _point(value, pointer.split("/")[1:], new)
    return Answer(answer.status, answer.headers, json.dumps(value).encode())


def _point(value: Any, steps: list[str], new: Any) -> None:
    for step in steps[:-1]:
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, dict) and steps and steps[-1] in value:
        value[steps[-1]] = new
