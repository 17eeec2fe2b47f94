"""Judges a soak: what its processes wrote down against what PostgreSQL holds, what was seen from outside, and the logs."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

# By these the fault is known: the driver's words, libpq's without TLS, and those of the server about a broken stream.
KNOWN = re.compile(
    r"bad record (?:mac|type)|SSL SYSCALL error|SSL connection has been closed unexpectedly|server closed the connection"
    r"|lost synchronization|PGRES_TUPLES_OK|another command is already in progress"
    r"|invalid message format|invalid frontend message type|unexpected EOF on client connection"
)
MEMORY_MAY_GROW = 16.0  # MiB of the parent, over a whole soak
DESCRIPTORS_MAY_GROW = 12  # one child more or less is a handful


@dataclass
class Verdict:
    """The figures of one soak; `wrong` says in sentences which of them must not be."""

    minutes: float
    children_forked: int = 0
    grandchildren_forked: int = 0
    transactions: dict[str, int] = field(
        default_factory=dict
    )  # of the parent, the children, the grandchildren
    parent_began: int = 0  # transactions that are open while children are forked
    parent_kept: int = 0
    parent_lost: int = 0
    most_forks_in_one: int = 0
    tasks_sent: int = 0
    tasks_done: int = 0
    wrong_markers: int = 0
    rows_missing: int = 0
    rows_unknown: int = 0
    sessions: int = 0
    sessions_shared: int = 0
    looks: int = 0
    processes_seen: int = 0
    sockets_found: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    known_messages: dict[str, int] = field(default_factory=dict)
    tracebacks: int = 0  # in the worker's log
    ended_as_told: bool = True
    connections_left: int = 0
    memory_mib: tuple[float, float] = (0.0, 0.0)
    descriptors: tuple[float, float] = (0.0, 0.0)

    @property
    def forks(self) -> int:
        return self.children_forked + self.grandchildren_forked

    @property
    def wrong(self) -> list[str]:
        must_be_none = {
            "wrong markers": self.wrong_markers,
            "committed rows missing": self.rows_missing,
            "rows that nobody committed": self.rows_unknown,
            "sessions used by more than one process": self.sessions_shared,
            "sockets of the parent found in its children": self.sockets_found,
            "open transactions of the parent lost": self.parent_lost,
            "errors": sum(self.errors.values()),
            "known messages in the logs": sum(self.known_messages.values()),
            "tracebacks in the worker's log": self.tracebacks,
            "server connections left over": self.connections_left,
            "tasks not done": self.tasks_sent - self.tasks_done,
            "transactions of grandchildren missing": 2 * self.grandchildren_forked
            - self.transactions.get("grandchild", 0),
            "workers that did not end when told to, and only then": int(not self.ended_as_told),
            "open transactions without an end": self.parent_began - self.parent_kept - self.parent_lost,
        }
        said = [f"{number} {what}" for what, number in must_be_none.items() if number]
        seen = (self.children_forked, self.grandchildren_forked, self.parent_began, self.processes_seen)
        if not (all(seen) and all(self.transactions.get(who) for who in ("parent", "child", "grandchild"))):
            said.append("too little was done to judge by: choose more minutes")
        if self.memory_mib[1] - self.memory_mib[0] > MEMORY_MAY_GROW:
            said.append(f"the parent's memory grew from {self.memory_mib[0]} to {self.memory_mib[1]} MiB")
        if self.descriptors[1] - self.descriptors[0] > DESCRIPTORS_MAY_GROW:
            said.append(f"the parent's descriptors grew from {self.descriptors[0]} to {self.descriptors[1]}")
        return said

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "forks": self.forks, "wrong": self.wrong}

    def __str__(self) -> str:
        done = self.transactions
        lines = {
            "minutes": f"{self.minutes:.1f}",
            "forks": f"{self.forks} ({self.forks / self.minutes:.0f} a minute): "
            f"{self.children_forked} children, {self.grandchildren_forked} grandchildren",
            "transactions": ", ".join(f"{number} by {who}" for who, number in done.items()),
            "tasks": f"{self.tasks_done} of {self.tasks_sent} done",
            "wrong markers": self.wrong_markers,
            "committed rows missing": self.rows_missing,
            "sessions": f"{self.sessions}; used by more than one process: {self.sessions_shared}",
            "sockets of the parent in children": f"{self.sockets_found} in {self.looks} looks at "
            f"{self.processes_seen} processes",
            "transactions open at a fork": f"{self.parent_began} begun, {self.parent_kept} committed, "
            f"{self.parent_lost} lost; at most {self.most_forks_in_one} forks in one",
            "errors": self.errors or 0,
            "known messages in the logs": self.known_messages or 0,
            "tracebacks in the worker's log": self.tracebacks,
            "server connections left over": self.connections_left,
            "parent's memory, MiB": f"{self.memory_mib[0]:.1f}, at the end {self.memory_mib[1]:.1f}",
            "parent's descriptors": f"{self.descriptors[0]:.0f}, at the end {self.descriptors[1]:.0f}",
        }
        return "\n".join([f"  {what:<34} {figure}" for what, figure in lines.items()])


def read_ledger(verdict: Verdict, ledger: Iterable[str], rows: set[str]) -> None:
    """Add up what the worker's processes wrote down, and compare it with the markers that PostgreSQL holds."""
    users: dict[str, set[str]] = {}
    committed, errors, done, forked = set(), Counter[str](), Counter[str](), Counter[str]()
    for line in ledger:
        match line.rstrip("\n").split("\t"):
            case ["fork", role]:
                forked[role] += 1
            case ["done", role, process, session, marker]:
                done[role] += 1
                committed.add(marker)
                users.setdefault(session, set()).add(process)
            case ["begun"]:
                verdict.parent_began += 1
            case ["kept", forks]:
                verdict.parent_kept += 1
                verdict.most_forks_in_one = max(verdict.most_forks_in_one, int(forks))
            case ["lost", message]:
                verdict.parent_lost += 1
                errors[f"parent: {message[:100]}"] += 1
            case ["wrong", *_]:
                verdict.wrong_markers += 1
            case ["error", role, message]:
                errors[f"{role}: {message[:100]}"] += 1
    verdict.children_forked, verdict.grandchildren_forked = forked["child"], forked["grandchild"]
    verdict.transactions, verdict.errors = dict(done), dict(errors)
    verdict.tasks_done = done["child"]
    verdict.rows_missing, verdict.rows_unknown = len(committed - rows), len(rows - committed)
    verdict.sessions = len(users)
    verdict.sessions_shared = sum(len(processes) > 1 for processes in users.values())


def known_messages(lines: Iterable[str]) -> dict[str, int]:
    return dict(Counter(match[0] for line in lines if (match := KNOWN.search(line))))
