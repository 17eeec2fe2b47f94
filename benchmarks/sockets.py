"""Which sockets towards PostgreSQL a process holds, read from /proc by the peer's port."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

PROC = Path("/proc")
SOCKET = re.compile(r"socket:\[(\d+)\]")


def held_by(pid: int) -> set[int]:
    """Return the inodes of a process's sockets; empty if it has ended. Raises PermissionError."""
    found = set()
    try:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with suppress(FileNotFoundError):  # the one that lists the directory, or just closed
                if match := SOCKET.match(str(descriptor.readlink())):
                    found.add(int(match[1]))
    except OSError:
        if not _has_ended(pid):
            raise
    return found


def _has_ended(pid: int) -> bool:
    """True also of one on its way out: it has no memory any more, and /proc shows its files to root alone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / "statm").read_text().startswith("0 ")
    return True


def connected(port: int, pid: int) -> set[int]:
    """Return the inodes of all TCP sockets connected to that port in the network of a process; empty if it has ended."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]
        except OSError:
            if table == "tcp" and not _has_ended(pid):
                raise
            continue  # no IPv6
        for fields in map(str.split, lines):
            if int(fields[2].rsplit(":", 1)[1], 16) == port:
                found.add(int(fields[9]))
    return found


def towards(port: int | None) -> set[int] | None:
    """Return the inodes of this process's TCP sockets towards that port; None if that cannot be known here."""
    me = os.getpid()
    if port is None or not (PROC / str(me) / "net" / "tcp").exists():
        return None
    return held_by(me) & connected(port, me)


def kept(inherited: set[int] | None) -> int | None:
    """Count which of the sockets that the parent had are open in this process too; None if it is not known.

    One whose connection a sibling has ended meanwhile is no longer in the kernel's table, but still open here.
    """
    return None if inherited is None else len(held_by(os.getpid()) & inherited)


def port_of(driver_connection: Any) -> int | None:
    """Return the port that a psycopg2 connection leads to; None for a Unix socket, which has no peer's port."""
    info = driver_connection.info
    return None if info.host.startswith("/") else int(info.port)
