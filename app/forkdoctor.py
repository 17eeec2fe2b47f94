# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Haulage developers
"""Tells from outside whether a running worker and its children share PostgreSQL connections, and whether they use them.

    python3 forkdoctor.py PID [--port N ...] [--seconds S] [--json]

For Linux and Python 3.8 or newer; needs nothing else, and may be copied to a server. It only reads: /proc, and the
kernel's socket statistics. Exit code 0: nothing is shared; 1: something is; 2: it could not look, or saw nothing to judge.

A use is attributed by exclusion: a process that did not run while a socket sent bytes did not send them.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import re
import socket
import struct
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

try:
    import pwd
except ImportError:  # not Unix; that is said in a sentence of our own
    pwd = None  # type: ignore[assignment]

PROC = Path("/proc")
USUAL_PORTS = {5432, 6432}  # PostgreSQL's and PgBouncer's own
SERVERS = {"postgres", "postmaster", "pgbouncer"}
LOOK_EVERY = 0.02  # seconds between two samples of traffic
# Seconds. Between a fork and an exec, or a hook, everything is held by both for a moment; that is no sharing.
SETTLE = 0.2
GROWN_UP = 1.0  # whoever has lived so long, and holds what it inherited, is not just passing
CLOCK_STEP = 0.05  # seconds; the start of a process is told in hundredths
LISTENING = "0A"
WIDTH = 100
MOST_SECONDS, MOST_PORT = 3600, 65535

CURE = (
    "Copy Haulage's forksafe.py (one file, needs only SQLAlchemy) into the project and call forksafe.install() early in "
    "the process that forks, before anything connects. Without SQLAlchemy: open connections only after the fork. "
    "docs/fork-safety.md of Haulage explains why, and why the popular cures fail."
)
VERDICTS = {
    "used by several": (
        "THE FAULT IS HAPPENING: processes use one connection between them.",
        (
            "Each of them writes into the other's conversation with the server: over TLS the server or the driver gives up "
            "('bad record mac', 'EOF detected'), without TLS one process can be given another's rows."
        ),
    ),
    "happened": (
        "THE FAULT HAS HAPPENED: a connection was shared when the watch began, was used, and has been given up since.",
        (
            "Over TLS that is how it ends: the server hangs up, each process connects anew, and all is well until the next "
            "fork. Look into the logs, of the worker and of the server, for the messages in docs/fork-safety.md."
        ),
    ),
    "used": (
        "A shared connection is in use, and more than one process may be the one that uses it: watch longer.",
        "If several use it, they write into one conversation with the server: errors over TLS, wrong rows without.",
    ),
    "used by one": (
        "THE FAULT WAITS: a shared connection is in use, as far as can be told by one process alone.",
        (
            "As soon as another holder uses its copy, or closes it, both lose the connection, or get each other's rows; "
            "unless the others have all forgotten theirs, as after engine.dispose(close=False), and can never use it."
        ),
    ),
    "used earlier": (
        "A shared connection has been used since it is shared, but not while this watched: watch longer, with work to do.",
        "Who used it cannot be told any more. A process that hangs may be waiting on it for an answer that another got.",
    ),
    "given up": (
        "A connection was shared when the watch began, and has been given up since; nobody was seen to use it.",
        (
            "Processes that end let go of what they merely kept. But the fault, too, ends with everybody letting go: look "
            "into the logs for the messages in docs/fork-safety.md, and look again right after the next start."
        ),
    ),
    "idle": (
        "Connections are shared, but nobody has used them since: harmless so far.",
        (
            "That is so after engine.dispose(close=False) in the child, which forgets the connection and leaves its socket "
            "open; and it is so before the fault, while nobody has anything to ask. From outside they look the same. "
            "Either way the server keeps the session, with its locks, when the connection's owner dies."
        ),
    ),
    "not watched": (
        "Connections are shared; whether they are used could not be watched.",
        (
            "If two of the holders use one, they write into one conversation with the server: errors over TLS, wrong rows "
            "without."
        ),
    ),
    "nothing shared": (
        "Nothing is shared: every connection to PostgreSQL is held by one process alone.",
        (
            "That is so in a sound worker. It is also so in a broken one once the fault has come and healed, since each "
            "process has connected anew. To be sure, look right after a start or a reload, before the first task; or use "
            "`haulage doctor --app`."
        ),
    ),
    "nothing to judge": (
        "NOTHING TO JUDGE: none of these processes holds a connection to PostgreSQL.",
        (
            "That is not the same as healthy. Is this the worker, has it done any work yet, and is its PostgreSQL (or "
            "PgBouncer) on one of the ports named above? If not, name the port: --port N."
        ),
    ),
}


class CannotLook(Exception):
    """Why nothing can be said, in a sentence for the person who asked."""


@dataclass
class Process:
    """A process; started in seconds since 1970."""

    pid: int
    name: str
    parent: int
    started: float


@dataclass(eq=False)
class Connection:
    """A client's end of a connection to PostgreSQL, and who holds it."""

    inode: int
    where: str
    port: int
    key: tuple[int, bytes] | None = None  # address family and both ends, as the kernel is asked for it
    holders: set[int] = field(default_factory=set)
    first_seen: dict[int, float] = field(default_factory=dict)  # by holder; of time.monotonic()
    settled: set[int] = field(default_factory=set)  # of the holders: those that were not just passing
    holding: set[int] = field(default_factory=set)  # of the holders: those that hold it still
    let_go: set[int] = field(default_factory=set)  # of the holders: those that gave it up and lived on
    opener: int = 0  # of the holders: the parent of the others, if it is one of them
    uses: list[frozenset[int]] = field(
        default_factory=list
    )  # who may have sent, for each time that something was sent
    watched: bool = False
    last_sent: float = 0.0  # seconds since 1970; by whom is not known
    shared_since: float = 0.0

    def certain_users(self) -> set[int]:
        return {pid for use in self.uses if len(use) == 1 for pid in use}

    def possible_users(self) -> set[int]:
        return {pid for use in self.uses for pid in use}

    @property
    def is_over(self) -> bool:
        """True if it was shared, and is not any more."""
        return len(self.holders & self.holding) < 2

    def state(self) -> str:
        """Return the key of the verdict on this connection."""
        use = self.use()
        if not self.is_over:
            return use
        if use in {"idle", "not watched"}:
            return "given up"
        # The opener may use and close what is its own, whoever keeps a copy; and a process that ends lets go of
        # everything. Another that gives its copy up and lives on had a reason.
        suspects = (self.possible_users() or self.holders) - {self.opener}
        if suspects & self.let_go:
            return "happened"
        return use if self.uses else "given up"

    def use(self) -> str:
        """Return how it was used while it was shared."""
        if not self.watched:
            return "not watched"
        if not self.uses:
            return "used earlier" if self.last_sent > self.shared_since + CLOCK_STEP else "idle"
        if not frozenset.intersection(*self.uses):
            return "used by several"  # no single process can have sent it all
        return "used by one" if len(self.certain_users()) == 1 else "used"


@dataclass
class Report:
    """What was looked at and found, ready to be printed."""

    asked: int
    looked_at: list[dict[str, Any]]
    remarks: list[str]
    ports: list[int]
    ports_found: list[int]
    seconds: float
    connections: int
    shared: list[dict[str, Any]]
    verdict: str
    exit_code: int

    def as_json(self) -> str:
        headline, meaning = VERDICTS[self.verdict]
        told = {**asdict(self), "headline": headline, "meaning": meaning}
        return json.dumps({**told, "cure": CURE if self.shared else ""}, indent=2)

    def as_text(self) -> str:
        headline, meaning = VERDICTS[self.verdict]
        lines = [f"Looked at {_count(len(self.looked_at), 'process', 'processes')}:"]
        lines += [
            f"  {one['pid']:>7} {one['name']}, {_age(one['seconds_old'])} old" for one in self.looked_at
        ]
        lines += [self._held(), *self.remarks]
        for one in self.shared:
            lines += ["", *_shared_lines(one)]
        lines += ["", wrapped(headline), *([wrapped(meaning)] if meaning else [])]
        return "\n".join([*lines, *(["", wrapped(f"Cure: {CURE}")] if self.shared else [])])

    def _held(self) -> str:
        """Name the ports that were found in use; if there are none, those that were looked for."""
        ports = self.ports_found or self.ports
        named = ", ".join(map(str, ports[:8])) + (f" and {len(ports) - 8} more" if len(ports) > 8 else "")
        held = _count(self.connections, "connection", "connections") if self.connections else "no connection"
        word = "port" if len(ports) == 1 else "ports"
        return f"When this began they held {held} to PostgreSQL ({word} {named}; others: --port N)."


def wrapped(text: str) -> str:
    """Return a paragraph in lines for a terminal."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _shared_lines(one: dict[str, Any]) -> list[str]:
    holders = ", ".join(map(str, one["holders"]))
    verb = "was" if one["is_over"] else "is"
    lines = [f"SHARED  {one['where']} {verb} held by {len(one['holders'])} processes: {holders}"]
    lines += [
        f"        since {one['since']}, {_age(one['seconds_shared'])} ago, when {one['since_pid']} was forked"
    ]
    if one["opener_is_gone"]:
        lines += [
            "        no holder is the parent of the others: the process that opened it has closed it, or is gone"
        ]
    lines += [f"        {one['use']}"]
    return [*lines, f"        {_end_of(one)}"] if one["is_over"] else lines


def _end_of(one: dict[str, Any]) -> str:
    ended = [pid for pid in one["holders"] if pid not in one["let_go"] + one["held_still_by"]]
    said = []
    if one["let_go"]:
        said.append(f"given up by {', '.join(map(str, one['let_go']))} while this watched")
    if ended:
        said.append(f"ended while this watched: {', '.join(map(str, ended))}")
    if one["held_still_by"]:
        said.append(f"held still by {one['held_still_by'][0]}")
    return "; ".join(said)


def examine(pid: str, ports: list[int], seconds: float) -> Report:
    """Look at a process and its descendants for that many seconds. Raises CannotLook."""
    if sys.platform != "linux" or not (PROC / "self" / "stat").exists():
        raise CannotLook(
            "The doctor reads Linux's /proc, and there is none here; run it where the worker runs."
        )
    asked, processes = _pid(pid), _processes()
    if asked not in processes:
        raise CannotLook(f"There is no process {asked} here: it has ended, or is hidden from you.")
    began, top = time.time(), _climb(asked, processes)
    family = _family(top, processes)
    remarks = _remarks(asked, family)
    wanted = set(ports) or _likely_ports(family, processes)
    held = _held_by(family, processes, remarks)
    found = _connections(held, wanted, remarks)
    _add_outsiders(found, processes, held)
    shared = _watch(found, seconds, processes, remarks, began) if found else []
    now, verdict = time.time(), _verdict(found, shared)
    return Report(
        asked=asked,
        looked_at=[{**asdict(processes[one]), "seconds_old": now - processes[one].started} for one in family],
        remarks=remarks,
        ports=sorted(wanted),
        ports_found=sorted({one.port for one in found}),
        seconds=seconds,
        connections=len(found),
        shared=[_told(one, processes, now) for one in shared],
        verdict=verdict,
        exit_code=1 if shared else 2 if verdict == "nothing to judge" or len(held) < len(family) else 0,
    )


def _remarks(asked: int, family: list[int]) -> list[str]:
    remarks = []
    if family[0] != asked:
        remarks.append(
            f"{asked} is a child; looked at from its oldest ancestor of the same kind, {family[0]}."
        )
    if len(family) == 1:
        remarks.append(
            f"{asked} has no child processes: it has nobody to share anything with, or is not the parent."
        )
    return remarks


def _pid(given: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", given) or int(given) == 0:
        raise CannotLook(
            f"{given!r} is no process id: give a number, such as `pgrep -o -f 'celery.* worker'` prints."
        )
    with suppress(OSError, StopIteration, ValueError):  # of a thread: its process
        lines = (PROC / given / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Tgid:")).split()[1])
    return int(given)


def _processes() -> dict[int, Process]:
    return {one.pid: one for one in map(_process, _pids()) if one is not None}


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _process(pid: int) -> Process | None:
    """Return None for one that has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return None if fields[0] in "ZX" else Process(pid, ascii(name)[1:-1], int(fields[1]), started)


def _climb(pid: int, processes: dict[int, Process]) -> int:
    """Go up from a child to the oldest ancestor that runs the same command; titles such as "gunicorn: worker" count."""
    parent = processes[pid].parent
    while parent > 1 and parent in processes and _same_command(pid, parent):
        pid, parent = parent, processes[parent].parent
    return pid


def _same_command(one: int, other: int) -> bool:
    commands = []
    for pid in (one, other):
        with suppress(OSError):
            commands.append((PROC / str(pid) / "cmdline").read_bytes())
    if len(commands) < 2 or not all(commands):
        return False
    titles = [command.split(None, 1)[0].split(b"\0")[0] for command in commands]
    return commands[0] == commands[1] or (titles[0] == titles[1] and titles[0].endswith(b":"))


def _family(top: int, processes: dict[int, Process]) -> list[int]:
    family, new = [top], [top]
    while new:
        new = sorted(one.pid for one in processes.values() if one.parent in new and one.pid not in family)
        family += new
    return family


def _sockets(pid: int) -> set[int]:
    """Return the inodes of a process's sockets. Raises PermissionError; a process that has gone holds none."""
    found = set()
    try:
        for descriptor in os.listdir(PROC / str(pid) / "fd"):  # noqa: PTH208  not one of them is opened
            with suppress(FileNotFoundError):
                target = os.readlink(PROC / str(pid) / "fd" / descriptor)
                if target.startswith("socket:["):
                    found.add(int(target[len("socket:[") : -1]))
    except OSError:
        if not _has_ended(pid):
            raise
    return found


def _has_ended(pid: int) -> bool:
    """True also of one on its way out: it has no memory any more, and /proc shows its files to root alone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (PROC / str(pid) / "statm").read_text().startswith("0 ")
    return True


def _held_by(family: list[int], processes: dict[int, Process], remarks: list[str]) -> dict[int, set[int]]:
    """Return the sockets of those that may be read, and remark on the others. Raises CannotLook for the first."""
    held = {}
    for pid in family:
        try:
            held[pid] = _sockets(pid)
        except PermissionError:  # noqa: PERF203  a few processes
            whose = (
                f"{pid} ({processes[pid].name}) belongs to {_owner(pid)}, and you may not read its sockets"
            )
            cure = f"run this as that user (sudo -u {_owner(pid)} ...) or as root"
            if os.geteuid() == 0:
                cure = "this machine keeps them even from root, or from root in this container"
            if pid == family[0]:
                raise CannotLook(f"{whose}: {cure}.") from None
            remarks.append(f"{whose}: {cure}.")
    return held


def _owner(pid: int) -> str:
    with suppress(OSError, KeyError):
        return pwd.getpwuid((PROC / str(pid)).stat().st_uid).pw_name
    return "another user"


def _likely_ports(family: list[int], processes: dict[int, Process]) -> set[int]:
    """Return the usual ports, those that the environment of the processes names, and those of local servers."""
    ports = set(USUAL_PORTS)
    for pid in family:
        with suppress(OSError):
            ports |= _ports_named((PROC / str(pid) / "environ").read_bytes().decode(errors="replace"))
    for server in processes.values():
        if server.name in SERVERS:
            with suppress(OSError):
                mine = _sockets(server.pid)
                listening = [row for row in _tcp(server.pid) if row[3] == LISTENING and row[0] in mine]
                ports |= {struct.unpack("!H", row[2][:2])[0] for row in listening}
    return ports


def _ports_named(environment: str) -> set[int]:
    """Return the port numbers that variables and PostgreSQL URLs name. Nothing else of them leaves this function."""
    ports = set()
    for name, _, value in (one.partition("=") for one in environment.split("\0")):
        of_ours = re.fullmatch("PGPORT|.*(POSTGRES|PGSQL|PGBOUNCER).*PORT", name, re.IGNORECASE)
        if of_ours and re.fullmatch("[0-9]{1,5}", value):
            ports.add(int(value))
        for _, rest in re.findall(r"(postgres\w*(?:\+\w+)?)://(\S+)", value):
            hosts = re.sub("^.*@", "", rest)  # without the password, which may look like a port
            ports |= {int(port) for port in re.findall(r":(\d{1,5})(?=[,/?&'\"]|$)", hosts)}
    return ports


def _tcp(pid: int) -> list[tuple[int, int, bytes, str, str]]:
    """Return inode, address family, both ends (ports, then addresses, as netlink wants them), state, and the far end."""
    rows = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with suppress(OSError):  # no IPv6; or the process has gone
            for line in (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                (near, near_port), (far, far_port) = _end(fields[1]), _end(fields[2])
                ends = struct.pack("!HH16s16s", near_port, far_port, near, far)
                shown = f"{socket.inet_ntop(family, far)}:{far_port} (from port {near_port})"
                rows.append((int(fields[9]), int(family), ends, fields[3], shown))
    return rows


def _end(text: str) -> tuple[bytes, int]:
    address, port = text.split(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return struct.pack(f"={len(words)}I", *words), int(
        port, 16
    )  # the kernel prints each word in its own byte order


def _connections(held: dict[int, set[int]], ports: set[int], remarks: list[str]) -> list[Connection]:
    found: dict[int, Connection] = {}
    local = _local_clients(next(iter(held)), remarks)
    tables: dict[int, dict[int, Any]] = {}
    for pid, sockets in held.items():
        network = _network(pid)
        rows = tables.get(network) or tables.setdefault(network, {row[0]: row for row in _tcp(pid)})
        for inode in sockets:
            if inode in rows and _far_port(rows[inode][2]) in ports:
                _, family, ends, _, shown = rows[inode]
                made = Connection(inode, shown, _far_port(ends), (family, ends))
                found.setdefault(inode, made).holders.add(pid)
            elif inode in local:
                port = int(local[inode].rpartition(".")[2])
                found.setdefault(inode, Connection(inode, local[inode], port)).holders.add(pid)
    return list(found.values())


def _far_port(ends: bytes) -> int:
    return int(struct.unpack("!2xH", ends[:4])[0])


def _add_outsiders(found: list[Connection], processes: dict[int, Process], held: dict[int, set[int]]) -> None:
    """Add holders outside the family: children outlive a parent that was killed, and hold its connections still."""
    for pid in processes if found else ():
        if pid not in held:
            with suppress(OSError):
                _add_holder(found, pid)


def _add_holder(connections: list[Connection], pid: int) -> None:
    sockets = _sockets(pid)
    for one in connections:
        if one.inode in sockets:
            one.holders.add(pid)


# Statistics of sockets, by NETLINK_SOCK_DIAG. Layouts: linux/netlink.h, sock_diag.h, inet_diag.h, unix_diag.h, tcp.h.
SOCK_DIAG_BY_FAMILY, REQUEST, DUMP = 20, 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO, UNIX_DIAG_NAME, UNIX_DIAG_PEER = 2, 0, 2
UNIX_SHOW_NAME_AND_PEER = 1 | 4
LAST_SENT, BYTES_SENT, BYTES_SENT_AGAIN = 44, 200, 208  # in struct tcp_info; the latter since Linux 4.19


def _ask(netlink: socket.socket, flags: int, request: bytes) -> list[bytes]:
    """Return the bodies of the kernel's answers; nothing if there is no such socket. Raises OSError."""
    header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, REQUEST | flags, 1, 0)
    netlink.send(header + request)
    answers: list[bytes] = []
    while True:
        data, at = netlink.recv(1 << 20), 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            body = data[at + 16 : at + length]
            if kind == NLMSG_ERROR:
                code = -struct.unpack_from("=i", body)[0]
                if code in (0, errno.ENOENT):
                    return answers
                raise OSError(code, os.strerror(code))
            if kind == NLMSG_DONE:
                return answers
            answers.append(body)
            at += (length + 3) & ~3
        if not flags & DUMP:
            return answers


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind] = data[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    return found


def _netlink() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    made.settimeout(5)
    return made


def _network(pid: int) -> int:
    """Return a process's network namespace; netlink sees the sockets of our own alone, and a container has another."""
    with suppress(OSError):
        return (PROC / str(pid) / "ns" / "net").stat().st_ino
    return 0


def _elsewhere(pid: int) -> bool:
    return _network(pid) != _network(os.getpid())


def _local_clients(pid: int, remarks: list[str]) -> dict[int, str]:
    """Return the client ends of PostgreSQL's unix-domain sockets, which have no name of their own: their peers have."""
    if _elsewhere(pid):
        remarks.append(f"Unix-domain sockets were not looked at: {_how_to_enter(pid)}")
        return {}
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, UNIX_SHOW_NAME_AND_PEER, 0, 0)
    clients = {}
    try:
        with _netlink() as netlink:
            for body in _ask(netlink, DUMP, request):
                about = _attributes(body[16:])
                name = about.get(UNIX_DIAG_NAME, b"").decode(errors="replace").rstrip("\0")
                if re.search(r"/\.s\.PGSQL\.\d+$", name) and UNIX_DIAG_PEER in about:
                    clients[struct.unpack("=I", about[UNIX_DIAG_PEER])[0]] = ascii(name)[1:-1]
    except OSError as error:
        remarks.append(f"Unix-domain sockets were not looked at: {_silence(error)}")
    return clients


def _silence(error: OSError) -> str:
    return f"the kernel does not tell ({error.strerror or error})."


def _how_to_enter(pid: int) -> str:
    return f"{pid} has a network of its own (a container); as root: nsenter --net -t {pid} python3 forkdoctor.py {pid}"


def _watch(
    found: list[Connection],
    seconds: float,
    processes: dict[int, Process],
    remarks: list[str],
    began: float,
) -> list[Connection]:
    """Note who holds, uses and gives up these connections for that many seconds; return those that were truly shared."""
    for one in found:
        for pid in list(one.holders):
            _hold(one, processes[pid], began)
    silent: list[str] = []
    known, traffic = set(processes), _Traffic(_countable(found, silent), silent)
    deadline = time.monotonic() + max(seconds, SETTLE)
    while True:
        last = _is_late(deadline)
        known = _note_newcomers(found, known, processes)
        traffic.look()
        _note_holders(found)  # after the counters: whoever has let go by now may have sent until now
        if last:
            break
        time.sleep(LOOK_EVERY)
    traffic.end()
    for one in found:
        one.holders = one.settled | one.certain_users()
    shared = [one for one in found if len(one.holders) > 1]
    for one in shared:
        first, second = _by_age(one, processes)[:2]
        one.shared_since = second.started
        one.opener = first.pid if first.pid in {processes[pid].parent for pid in one.holders} else 0
    remarks += silent if shared else []
    return shared


def _is_late(deadline: float) -> bool:
    return time.monotonic() >= deadline


def _hold(one: Connection, process: Process, began: float) -> None:
    """Note a holder; one that was grown up when the look at it began is not just passing."""
    one.holders.add(process.pid)
    one.holding.add(process.pid)
    one.first_seen[process.pid] = time.monotonic()
    if began - process.started >= GROWN_UP:
        one.settled.add(process.pid)


def _note_newcomers(found: list[Connection], known: set[int], processes: dict[int, Process]) -> set[int]:
    now = set(_pids())
    for pid in now - known:
        with suppress(OSError):
            began, sockets, process = time.time(), _sockets(pid), _process(pid)
            for one in found:
                if process is not None and one.inode in sockets:
                    processes[pid] = process
                    _hold(one, process, began)
    return now


def _note_holders(found: list[Connection]) -> None:
    shared = [one for one in found if len(one.holding) > 1 or one.holding - one.settled]
    for pid in {pid for one in shared for pid in one.holding}:
        with suppress(OSError):  # it may not be read any more; then nothing has changed
            now, sockets = time.monotonic(), _sockets(pid)
            for one in shared:
                if pid in one.holding:
                    _note_holder(one, pid, now, still=one.inode in sockets)


def _note_holder(one: Connection, pid: int, now: float, *, still: bool) -> None:
    if still and now - one.first_seen[pid] >= SETTLE:
        one.settled.add(pid)
    elif not still:
        one.holding.remove(pid)
        if not _has_ended(pid):
            one.let_go.add(pid)


def _countable(found: list[Connection], remarks: list[str]) -> list[Connection]:
    tcp = [one for one in found if one.key]
    if len(tcp) < len(found):
        remarks.append("The use of unix-domain sockets was not watched: the kernel counts no bytes on them.")
    first = min(min(one.holders) for one in found)
    if _elsewhere(first):
        remarks.append(f"Use was not watched: {_how_to_enter(first)}")
        return []
    return tcp


class _Traffic:
    """What goes out on these connections, and who may have sent it."""

    def __init__(self, watched: list[Connection], remarks: list[str]) -> None:
        self._watched, self._remarks = watched, remarks
        self._netlink: socket.socket | None = None
        self._sent: dict[int, int | None] = {}
        self._started: dict[int, dict[str, str]] = {}
        try:
            self._netlink = _netlink()
            self._sent = self._counters(self._netlink)
        except OSError as error:
            self._give_up(error)
        for one in self._watched:
            one.watched = self._sent[one.inode] is not None
        self._started = _run_times(self._watched)

    def look(self) -> None:
        """Note who may have sent what went out since the last look."""
        if self._netlink is None:
            return
        try:
            self._look(self._netlink)
        except OSError as error:
            self._give_up(error)

    def end(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _look(self, netlink: socket.socket) -> None:
        # Before the counters, and `ended` after them: between the two lies every use.
        next_started = _run_times(self._watched)
        now = self._counters(netlink)
        ended = _run_times(self._watched)
        for one in self._watched:
            if len(one.holding) > 1:
                ran = {pid for pid in one.holding if ended.get(pid) != self._started.get(pid)}
                self._note_use(one, frozenset(ran or one.holding), self._sent[one.inode], now[one.inode])
        self._started, self._sent = next_started, now

    @staticmethod
    def _note_use(one: Connection, ran: frozenset[int], before: int | None, after: int | None) -> None:
        # Whoever sends after the server hung up has the connection reset; else it is gone when its last holder is.
        if before is not None and after is None:
            ran = frozenset(pid for pid in ran if not _has_ended(pid))
        if ran and before is not None and (after is None or after > before):
            one.uses.append(ran)

    def _counters(self, netlink: socket.socket) -> dict[int, int | None]:
        return {one.inode: _bytes_sent(netlink, one) for one in self._watched}

    def _give_up(self, error: OSError) -> None:
        for one in self._watched:
            one.watched = False
        if self._watched:
            self._remarks.append(f"Use was not watched: {_silence(error)}")
        self._watched = []
        self.end()


def _run_times(watched: list[Connection]) -> dict[int, dict[str, str]]:
    """Return for each holder how long, and how often, each of its threads has run."""
    found = {}
    for pid in {pid for one in watched if len(one.holding) > 1 for pid in one.holding}:
        with suppress(OSError):
            threads = (PROC / str(pid) / "task").iterdir()
            found[pid] = {thread.name: (thread / "schedstat").read_text() for thread in threads}
    return found


def _bytes_sent(netlink: socket.socket, one: Connection) -> int | None:
    """Return how many bytes this end has sent, each counted once; None if the kernel does not tell (any more)."""
    if one.key is None:
        return None
    family, ends = one.key
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, 0xFFFFFFFF)
    for body in _ask(netlink, 0, request + ends + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)):
        info = _attributes(body[72:]).get(INET_DIAG_INFO, b"")
        if struct.unpack_from("=I", body, 68)[0] == one.inode and len(info) >= BYTES_SENT_AGAIN + 8:
            sent, again = struct.unpack_from("=QQ", info, BYTES_SENT)
            one.last_sent = time.time() - struct.unpack_from("=I", info, LAST_SENT)[0] / 1000
            return int(sent - again)
    return None


def _verdict(found: list[Connection], shared: list[Connection]) -> str:
    states = {one.state() for one in shared}
    if states:
        return next(word for word in VERDICTS if word in states)  # they stand in the order of their weight
    return "nothing shared" if found else "nothing to judge"


def _by_age(one: Connection, processes: dict[int, Process]) -> list[Process]:
    holders = [processes[pid] for pid in one.holders if pid in processes]
    return sorted(holders, key=lambda each: (each.started, each.pid))


def _told(one: Connection, processes: dict[int, Process], now: float) -> dict[str, Any]:
    holders = _by_age(one, processes)
    second = holders[1]
    parents = {each.parent for each in holders[1:]}
    return {
        "where": one.where,
        "socket": one.inode,
        "holders": [each.pid for each in holders],
        "held_still_by": sorted(one.holders & one.holding),
        "let_go": sorted(one.holders & one.let_go),
        "is_over": one.is_over,
        "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second.started)),
        "seconds_shared": now - second.started,
        "since_pid": second.pid,
        "opener_is_gone": not any(each.pid in parents for each in holders),
        "state": one.state(),
        "used_by": sorted(one.certain_users()),
        "perhaps_used_by": sorted(one.possible_users() - one.certain_users()),
        "use": _use(one, now),
    }


def _use(one: Connection, now: float) -> str:
    certain, possible = sorted(one.certain_users()), sorted(one.possible_users() - one.certain_users())
    named = ", ".join(map(str, certain))
    return {
        "not watched": "its use was not watched",
        "idle": "nobody has used it since",
        "used earlier": f"it was last used {_age(now - one.last_sent)} ago, by which of them is not known",
        "used": f"used by one or several of {', '.join(map(str, sorted(one.possible_users())))}",
        "used by one": f"used by {named} alone"
        + (f", as far as can be told from {possible}" if possible else ""),
        "used by several": f"used by {named or possible}"
        + (f" and one of {possible}" if certain and possible else ""),
    }[one.use()]


def _age(seconds: float) -> str:
    whole = int(max(seconds, 0))
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {small}"
    return f"{whole} s"


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="forkdoctor.py", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("pid", help="of the parent: Celery, gunicorn or any other")
    parser.add_argument(
        "--port", type=_a_port, action="append", default=[], help="where PostgreSQL listens; may be repeated"
    )
    parser.add_argument(
        "--seconds", type=_some_seconds, default=5.0, help="how long to watch what is shared (default: 5)"
    )
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    return run(chosen.pid, chosen.port, chosen.seconds, as_json=chosen.json)


def _a_port(given: str) -> int:
    with suppress(ValueError):
        if 1 <= int(given) <= MOST_PORT:
            return int(given)
    raise argparse.ArgumentTypeError(f"{given!r} is no port: give a number from 1 to {MOST_PORT}")


def _some_seconds(given: str) -> float:
    with suppress(ValueError):
        if math.isfinite(float(given)) and 0 <= float(given) <= MOST_SECONDS:
            return float(given)
    raise argparse.ArgumentTypeError(
        f"{given!r} will not do: give a number of seconds from 0 to {MOST_SECONDS}"
    )


def run(pid: str, ports: list[int], seconds: float, *, as_json: bool) -> int:
    """Examine, print, and return the exit code."""
    try:
        report = examine(pid, ports, seconds)
    except CannotLook as error:
        told = {"verdict": "could not look", "reason": str(error), "exit_code": 2}
        _write(sys.stdout, json.dumps(told) + "\n" if as_json else "")
        _write(sys.stderr, "" if as_json else f"{error}\n")
        return 2
    except KeyboardInterrupt:
        _write(sys.stderr, "Interrupted.\n")
        return 2
    _write(sys.stdout, (report.as_json() if as_json else report.as_text()) + "\n")
    return report.exit_code


def _write(stream: Any, text: str) -> None:
    """Write at once; a reader that has gone, as `head` does, is no error of ours."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or the interpreter complains at its end


if __name__ == "__main__":
    sys.exit(main())
