"""What was asked, over which connection, and how it went. Secrets are cut out before anything is kept."""

import re
from collections import deque
from dataclasses import asdict, dataclass, field
from itertools import count
from threading import Condition
from typing import Any

SECRET = re.compile(r"(tempauth|client_secret|access_token)=[^&]*", re.IGNORECASE)
KEPT = 200_000


def cut_secrets(target: str) -> str:
    return SECRET.sub(r"\1=(cut)", target)


@dataclass
class Record:
    """One request. The status is None until the answer is on its way, and stays None if the connection broke before."""

    number: int
    method: str
    path: str
    connection: int
    client: str
    user_agent: str
    authorization: bool  # whether the header came, whatever was in it
    content_range: str
    status: int | None = None
    code: str = ""
    received: int = 0
    faults: list[str] = field(default_factory=list)
    done: bool = False


@dataclass
class Connection:
    number: int
    host: str
    port: int
    requests: int = 0


class Journal:
    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=KEPT)
        self._numbers, self._connections = count(1), count(1)
        self._open: dict[int, Connection] = {}
        self._changed = Condition()

    def connect(self, host: str, port: int) -> Connection:
        with self._changed:
            made = Connection(next(self._connections), host, port)
            self._open[made.number] = made
            return made

    def disconnect(self, connection: Connection) -> None:
        with self._changed:
            self._open.pop(connection.number, None)
            self._changed.notify_all()

    def begin(
        self, connection: Connection, method: str, target: str, headers: dict[str, str], *, kept: bool
    ) -> Record:
        """Note that a request has begun; those of control are not kept."""
        with self._changed:
            connection.requests += 1
            record = Record(
                next(self._numbers),
                method,
                cut_secrets(target),
                connection.number,
                f"{connection.host}:{connection.port}",
                headers.get("user-agent", ""),
                "authorization" in headers,
                headers.get("content-range", ""),
            )
            if kept:
                self._records.append(record)
            return record

    def end(self, record: Record) -> None:
        with self._changed:
            record.done = True
            self._changed.notify_all()

    def records(self, since: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """Return the requests after that number, as soon as all of them are over or the seconds have passed."""

        def found() -> list[Record]:
            return [record for record in self._records if record.number > since]

        with self._changed:
            self._changed.wait_for(lambda: all(record.done for record in found()), wait)
            return [asdict(record) for record in found()]

    def clear(self) -> None:
        with self._changed:
            self._records.clear()

    def connections(self) -> dict[str, list[dict[str, Any]]]:
        """Return the open connections by the address of the client."""
        with self._changed:
            found: dict[str, list[dict[str, Any]]] = {}
            for one in self._open.values():
                found.setdefault(one.host, []).append(asdict(one))
            return found
