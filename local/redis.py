"""One Valkey or Redis on loopback, behind a password and without TLS: the wheel's build has none."""

import json
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local import account, discovery, process
from local.account import Account
from local.home import write_private
from local.process import Running
from local.state import REDIS, State

STOP = signal.SIGTERM


@dataclass(frozen=True)
class Store:
    home: Path
    program: Path
    data: Path
    account: Account


def log(home: Path) -> Path:
    return home / "redis.log"


def url(state: State) -> str:
    return f"redis://:{quote(state.passwords[REDIS], safe='')}@127.0.0.1:{state.redis_port}/0"


def store(found: discovery.Redis, home: Path) -> Store:
    """The store of this home for this program: an older or foreign server may not read its files."""
    data = home / f"{found.program.name}{found.major}"
    owner = account.for_directory(data)
    copy = home / f"programs-{found.program.name}{found.version}"
    return Store(home, account.reachable(owner, found.program, [found.program], copy), data, owner)


def start(store: Store, state: State) -> Running:
    """Start the server. Its password is in a file of its own: command lines are public."""
    if not store.data.exists():
        store.data.mkdir(mode=0o700)
        store.account.give(store.data)
    process.evict(store.program.name, store.data)
    configuration = store.data / "server.conf"
    write_private(configuration, _configuration(store, state))
    store.account.give(configuration)
    return process.spawn([store.program, configuration], log(store.home), store.account)


def _configuration(store: Store, state: State) -> str:
    settings = {
        "bind": "127.0.0.1",
        "port": str(state.redis_port),
        "requirepass": state.passwords[REDIS],
        "dir": str(store.data),
        "save": "",
        "appendonly": "yes" if state.kept else "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # an evicted key would be a lost message
    }
    return "".join(f"{name} {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items())


def wait(home: Path, state: State) -> None:
    """Return when the server answers PING; raises NotStarted."""

    def ping() -> None:
        with closing(
            redis.Redis.from_url(url(state), retry=Retry(NoBackoff(), 0), socket_timeout=5)
        ) as client:
            client.ping()

    process.wait_until(ping, (redis.RedisError,), state.redis, log(home))
