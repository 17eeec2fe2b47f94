"""A PostgreSQL with TLS and a Valkey or Redis of one's own: start, stop, restart, or only for the length of a block."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from local import discovery, given, postgres, process, redis, state
from local import home as homes
from local.home import PROJECT, default_home
from local.state import ADMIN, OWNER, WEB, WORKER, State


@dataclass(frozen=True)
class Servers:
    """Two running servers. The admin is a superuser; the owner may create schemas in the database haulage."""

    home: Path
    admin_url: str
    owner_url: str
    web_url: str
    worker_url: str
    redis_url: str
    postgres_pid: int
    redis_pid: int
    postgres_log: Path
    ca_file: Path


def start(home: Path | None = None, *, plaintext: bool = False) -> Servers:
    """Start what does not run yet in this home, whose data, ports and passwords are kept from one start to the next.

    plaintext counts when PostgreSQL is started, not for one that runs already.
    With DATABASE_URL and REDIS_URL set it is these that are returned, and nothing is started.
    Raises NoServer, NoAccount or NotStarted.
    """
    if named := given.urls():
        return _given(home or default_home(), *named)
    return _start(home or default_home(), kept=True, plaintext=plaintext)


def status(home: Path | None = None) -> Servers | None:
    """The servers of this home, or None unless both run."""
    home = home or default_home()
    known = state.load(home)
    return _servers(home, known) if known and _both_live(known) else None


def stop(home: Path | None = None) -> None:
    """Stop what runs in this home; nothing is not an error."""
    home = home or default_home()
    if state.load(home) is None:
        return
    with homes.locked(home):
        known = _state(home)
        process.end(known.redis, redis.STOP)
        process.end(known.postgres, postgres.FAST)
        state.save(home, replace(known, postgres=None, redis=None))


@contextmanager
def throwaway(*, plaintext: bool = False) -> Iterator[Servers]:
    """Servers in a temporary home for the length of the block; they and the home go even if this process is killed.

    With DATABASE_URL and REDIS_URL set: a database of our own on that PostgreSQL, and that Redis, which had better be
    empty.
    """
    if named := given.urls():
        with given.throwaway_database(named[0]) as database_url:
            yield _given(homes.default_home(), database_url, named[1])
        return
    launcher, home = os.getpid(), homes.temporary()
    guard = _guard(launcher, home)
    try:
        yield _start(home, kept=False, plaintext=plaintext)
    finally:
        if os.getpid() == launcher:  # a forked child that unwinds this block leaves the servers to its parent
            stop(home)
            homes.remove(home)
            guard.terminate()
            guard.wait()


def restart_postgres(servers: Servers, *, immediate: bool = False) -> Servers:
    """Stop PostgreSQL and start it on the same port and data; immediate makes it recover as after a crash."""
    with homes.locked(servers.home):
        known = _state(servers.home)
        process.end(known.postgres, postgres.IMMEDIATE if immediate else postgres.FAST)
        cluster = postgres.cluster(discovery.find().postgres, servers.home)
        known = replace(known, postgres=postgres.restart(cluster, known))
        state.save(servers.home, known)
        postgres.wait(servers.home, known)
    return _servers(servers.home, known)


def known(servers: Servers) -> Servers:
    """Return the same servers with the processes that they are now: a restart gives them other ones."""
    with homes.locked(servers.home):
        return _servers(servers.home, _state(servers.home))


def restart_redis(servers: Servers) -> Servers:
    """Stop Redis and start it on the same port; in a throw-away home it comes back empty."""
    with homes.locked(servers.home):
        known = _state(servers.home)
        process.end(known.redis, redis.STOP)
        store = redis.store(discovery.find().redis, servers.home)
        known = replace(known, redis=redis.start(store, known))
        state.save(servers.home, known)
        redis.wait(servers.home, known)
    return _servers(servers.home, known)


def _start(home: Path, *, kept: bool, plaintext: bool) -> Servers:
    homes.make(home)
    with homes.locked(home), ExitStack() as undo:
        known = state.load(home) or state.fresh(kept=kept)
        if not _answer(home, known):
            known = _start_missing(home, known, undo, plaintext=plaintext)
        undo.pop_all()
    return _servers(home, known)


def _answer(home: Path, known: State) -> bool:
    """True if clients can use both. A process alone proves nothing: one that was just killed is still listed."""
    if not _both_live(known):
        return False
    try:
        postgres.wait(home, known)
        redis.wait(home, known)
    except process.NotStarted:
        return False
    return True


def _start_missing(home: Path, known: State, undo: ExitStack, *, plaintext: bool) -> State:
    """Start one or both; what this call started is stopped again if the rest fails."""
    found = discovery.find()
    cluster, store = postgres.cluster(found.postgres, home), redis.store(found.redis, home)
    if not process.alive(known.postgres):
        known = replace(known, postgres_port=state.free_port(state.POSTGRES_PORTS, known.postgres_port))
        state.save(home, known)  # the passwords must outlive an interruption right after initdb
        known = replace(known, postgres=postgres.start(cluster, known, plaintext=plaintext))
        undo.callback(process.end, known.postgres, postgres.FAST)
        state.save(home, known)
    if not process.alive(known.redis):
        known = replace(known, redis_port=state.free_port(state.REDIS_PORTS, known.redis_port))
        known = replace(known, redis=redis.start(store, known))
        undo.callback(process.end, known.redis, redis.STOP)
        state.save(home, known)
    postgres.wait(home, known)
    postgres.prepare(home, known)
    redis.wait(home, known)
    return known


def _both_live(known: State) -> bool:
    return process.alive(known.postgres) and process.alive(known.redis)


def _state(home: Path) -> State:
    known = state.load(home)
    if known is None:
        raise FileNotFoundError(f"no servers were ever started in {home}")
    return known


def _servers(home: Path, known: State) -> Servers:
    if known.postgres is None or known.redis is None:
        raise RuntimeError(f"the servers in {home} were stopped meanwhile")
    return Servers(
        home=home,
        admin_url=postgres.url(home, known, ADMIN),
        owner_url=postgres.url(home, known, OWNER),
        web_url=postgres.url(home, known, WEB),
        worker_url=postgres.url(home, known, WORKER),
        redis_url=redis.url(known),
        postgres_pid=known.postgres.pid,
        redis_pid=known.redis.pid,
        postgres_log=postgres.log(home),
        ca_file=postgres.ca_file(home),
    )


def _given(home: Path, database_url: str, redis_url: str) -> Servers:
    return Servers(
        home=home,
        admin_url=database_url,
        owner_url=database_url,
        web_url=database_url,
        worker_url=database_url,
        redis_url=redis_url,
        postgres_pid=given.NOT_OURS,
        redis_pid=given.NOT_OURS,
        postgres_log=Path(os.devnull),
        ca_file=given.ca_file(database_url),
    )


def _guard(launcher: int, home: Path) -> subprocess.Popen[bytes]:
    """Start the process that clears the home away when its launcher dies without a word."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "local.guard", str(launcher), home],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )
