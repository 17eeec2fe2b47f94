"""Which sockets towards PostgreSQL this process holds, read from /proc by the peer's port."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

PROC = Path("/proc/self")
SOCKET = re.compile(r"socket:\[(\d+)\]")


def towards(port: int | None) -> set[int] | None:
    """Return the inodes of the TCP sockets towards that port; None if that cannot be known here."""
    if port is None or not (PROC / "net" / "tcp").exists():
        return None
    return _open() & _connected(port)


def kept(inherited: set[int] | None) -> int | None:
    """Count which of the sockets that the parent had are open in this process too; None if it is not known.

    One whose connection a sibling has ended meanwhile is no longer in the kernel's table, but still open here.
    """
    return None if inherited is None else len(_open() & inherited)


def port_of(driver_connection: Any) -> int | None:
    """Return the port that a psycopg2 connection leads to; None for a Unix socket, which has no peer's port."""
    info = driver_connection.info
    return None if info.host.startswith("/") else int(info.port)


def _open() -> set[int]:
    found = set()
    for descriptor in (PROC / "fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists the directory
            if match := SOCKET.match(str(descriptor.readlink())):
                found.add(int(match[1]))
    return found


def _connected(port: int) -> set[int]:
    found = set()
    for table in (PROC / "net" / "tcp", PROC / "net" / "tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if int(fields[2].rsplit(":", 1)[1], 16) == port:
                found.add(int(fields[9]))
    return found
