"""Facts about running processes that cannot be argued with, read from outside them."""

from collections.abc import Iterable

import psutil
from sqlalchemy import make_url

from benchmarks import sockets


def port_of(database_url: str) -> int:
    return make_url(database_url).port or 5432


def postgres_sockets(pid: int, port: int) -> set[int]:
    """Return the inodes of the TCP sockets towards that port which a process holds; empty if it has just gone."""
    return sockets.held_by(pid) & sockets.connected(port, pid)


def crossing(parent: int, port: int) -> dict[int, set[int]]:
    """Return for each descendant of a process the sockets towards PostgreSQL that it shares with any other of them."""
    family = [parent, *(child.pid for child in psutil.Process(parent).children(recursive=True))]
    held = {pid: postgres_sockets(pid, port) for pid in family}
    shared = {
        pid: mine & set().union(*(theirs for other, theirs in held.items() if other != pid))
        for pid, mine in held.items()
    }
    return {pid: crossed for pid, crossed in shared.items() if crossed}


def used_by_several(pairs: Iterable[tuple[int, str]]) -> dict[int, set[str]]:
    """Return the PostgreSQL sessions that more than one process used, from pairs of session and process."""
    users: dict[int, set[str]] = {}
    for session, process in pairs:
        users.setdefault(session, set()).add(process)
    return {session: processes for session, processes in users.items() if len(processes) > 1}
