"""What a home remembers between runs: ports, passwords, and which processes are ours."""

import json
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from local.home import write_private
from local.process import Running

ADMIN, OWNER, WEB, WORKER = "postgres", "haulage_owner", "haulage_web", "haulage_worker"
REDIS = "redis"
# Below the range from which systems pick the ports of outgoing connections, so that a stopped server's port stays free.
POSTGRES_PORTS = range(20000, 26000)
REDIS_PORTS = range(26000, 32000)


@dataclass(frozen=True)
class State:
    """Passwords are by role, Redis' own among them. A throw-away home is one that is not kept."""

    kept: bool
    postgres_port: int
    redis_port: int
    passwords: dict[str, str]
    postgres: Running | None = None
    redis: Running | None = None


def fresh(*, kept: bool) -> State:
    return State(
        kept=kept,
        postgres_port=free_port(POSTGRES_PORTS),
        redis_port=free_port(REDIS_PORTS),
        passwords={role: secrets.token_urlsafe(24) for role in (ADMIN, OWNER, WEB, WORKER, REDIS)},
    )


def load(home: Path) -> State | None:
    """The home's state, or None if nothing was ever started there."""
    try:
        fields = json.loads((home / "state.json").read_text())
    except FileNotFoundError:
        return None
    for server in ("postgres", "redis"):
        fields[server] = Running(**fields[server]) if fields[server] else None
    return State(**fields)


def save(home: Path, state: State) -> None:
    write_private(home / "state.json", json.dumps(asdict(state), indent=2))


def free_port(among: range, preferred: int | None = None) -> int:
    """The preferred port if nobody listens on it, else some other one among these."""
    if preferred is not None and _is_free(preferred):
        return preferred
    while not _is_free(port := secrets.choice(among)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections still linger on it
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
