"""Facts about running processes that cannot be argued with, read from outside them."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from sqlalchemy import make_url

PROC = Path("/proc")
SOCKET = re.compile(r"socket:\[(\d+)\]")


def port_of(database_url: str) -> int:
    return make_url(database_url).port or 5432


def postgres_sockets(pid: int, port: int) -> set[int]:
    """Return the inodes of the TCP sockets towards that port which a process holds; empty if it has just gone."""
    try:
        return _held(pid) & _towards(pid, port)
    except OSError:
        if _has_ended(pid):
            return set()
        raise


def crossing(parent: int, port: int) -> dict[int, set[int]]:
    """Return for each descendant of a process the sockets towards PostgreSQL that it shares with any other of them."""
    family = [parent, *(child.pid for child in psutil.Process(parent).children(recursive=True))]
    held = {pid: postgres_sockets(pid, port) for pid in family}
    shared = {
        pid: mine & set().union(*(theirs for other, theirs in held.items() if other != pid))
        for pid, mine in held.items()
    }
    return {pid: sockets for pid, sockets in shared.items() if sockets}


def used_by_several(pairs: Iterable[tuple[int, str]]) -> dict[int, set[str]]:
    """Return the PostgreSQL sessions that more than one process used, from pairs of session and process."""
    users: dict[int, set[str]] = {}
    for session, process in pairs:
        users.setdefault(session, set()).add(process)
    return {session: processes for session, processes in users.items() if len(processes) > 1}


def _has_ended(pid: int) -> bool:
    """True also of one on its way out: it has no memory any more, and /proc shows its files to root alone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / "statm").read_text().startswith("0 ")
    return True


def _held(pid: int) -> set[int]:
    found = set()
    for descriptor in (PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):
            if match := SOCKET.match(str(descriptor.readlink())):
                found.add(int(match[1]))
    return found


def _towards(pid: int, port: int) -> set[int]:
    found = set()
    for table in ("tcp", "tcp6"):
        for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[2].rsplit(":", 1)[1], 16) == port:
                found.add(int(fields[9]))
    return found
