# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Haulage developers
"""Keeps database connections from crossing a fork, for every SQLAlchemy engine of the process.

`install()` once, early, in the first process. The module needs nothing but SQLAlchemy (1.4.24 to 2.1) and may be copied.

Covered: every pool of every engine, whoever made it and however it is used; connections that are idle, checked out or
being made at the fork; the pools' own locks; forks of forks.

Not covered: connections that no SQLAlchemy pool made. Sockets of drivers whose connections have no `fileno()` (asyncpg,
pg8000): they are forgotten, but stay open. Locks that other code holds in another thread at the fork, and an engine
whose very first connection another thread is making then. After a fork that bypasses Python (`clone(2)` from C): a
`Connection` or `Session` that was open and is used or closed there. What was detached from its pool: the parent is safe,
but in the child closing it raises. An in-memory SQLite database starts empty in a child.
"""

# ruff: noqa: SLF001  SQLAlchemy has no public way from a record to its pool, nor from a pool to its dialect.

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import stat
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError, InvalidRequestError
from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import _ConnectionRecord

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Birth:
    """In which process a connection was made, and as which socket."""

    record: weakref.ref[_ConnectionRecord]
    pid: int
    fd: int
    socket: tuple[int, int] | None  # None: the driver does not tell
    contested: bool  # a child was forked while the connection was made, and holds its socket too

    @property
    def is_mine(self) -> bool:
        return self.pid == os.getpid()

    @property
    def holder(self) -> Any | None:
        """The pool's record of the connection; None once it has let go of it."""
        record = self.record()
        if record is None or record.info.get(__name__) is not self or record.dbapi_connection is None:
            return None
        return record

    @property
    def has_socket(self) -> bool:
        """False once the socket is closed or cut; its number may be a stranger's by now."""
        return self.socket is not None and _socket_at(self.fd) == self.socket

    @property
    def is_reachable(self) -> bool:
        return self.has_socket or self.holder is not None

    def cut(self) -> None:
        """Put a dead socket in place of the inherited one: what is written there reaches nobody."""
        if self.has_socket:
            # Not /dev/null: drivers recognise a closed socket as a disconnect.
            dead, peer = socket.socketpair()
            peer.close()
            with dead:
                os.dup2(dead.fileno(), self.fd, inheritable=False)


# Plain sets: adding, discarding and copying are each one step, whatever other threads do.
_births: set[_Birth] = set()
_pools: set[weakref.ref[Pool]] = set()
_last_fork = SimpleNamespace(ended=-math.inf)
# What another process owns is kept, unused, and not dropped: some drivers say goodbye on the wire when they are collected.
_kept: list[object] = []
_TRIES = 20  # a connection takes a fraction of the time between two forks


def install() -> None:
    """Guard every engine of this process and of all processes forked from it. May be called again at will.

    Raises RuntimeError where SQLAlchemy is too old to be guarded.
    """
    if not hasattr(_ConnectionRecord, "driver_connection"):
        raise RuntimeError("forksafe needs SQLAlchemy 1.4.24 or newer")
    if event.contains(Pool, "connect", _note_birth):
        return
    event.listen(Engine, "do_connect", _note_pool)
    event.listen(Pool, "connect", _note_birth, insert=True)  # before any listener that talks to the server
    event.listen(Pool, "checkout", _refuse_foreign, insert=True)
    event.listen(Pool, "reset", _cut_foreign, insert=True)
    event.listen(Pool, "close", _cut_foreign, insert=True)
    for thing in gc.get_objects():  # connections older than this call
        if type(thing) is _ConnectionRecord and thing.dbapi_connection is not None:
            _note_birth(thing.dbapi_connection, thing)
    os.register_at_fork(
        before=partial(setattr, _last_fork, "ended", math.inf),
        after_in_parent=lambda: setattr(_last_fork, "ended", time.time()),
        after_in_child=_after_fork_in_child,
    )


def dispose_all() -> None:
    """Close the idle connections of every pool: for a parent, right before it forks.

    Connections that are checked out stay open, and are an error of the parent: their number is logged. Pools of async
    engines cannot be closed from here; their children are protected all the same.
    """
    holders = [birth.holder for birth in list(_births) if birth.is_mine]
    busy = sum(record is not None and record.in_use for record in holders)
    if busy:
        log.error("%d database connections are checked out in a process that is about to fork", busy)
    for pool in _known_pools():
        if not pool._dialect.is_async:
            pool.dispose()


def inherited() -> int:
    """Count the connections of other processes that this one can still reach: 0, or the guarantee is broken."""
    return sum(not birth.is_mine and birth.is_reachable for birth in list(_births))


def _note_pool(_dialect: object, record: Any, *_arguments: object) -> None:
    # Before connecting: a fork during a pool's first connect must find the pool, whose counters include that connect.
    _pools.add(weakref.ref(record._ConnectionRecord__pool, _pools.discard))


def _note_birth(_connection: object, record: Any) -> None:
    fd = _descriptor(record)
    forking = _last_fork.ended == math.inf
    contested = forking or record.starttime <= _last_fork.ended <= time.time()  # else the clock was set back
    birth = _Birth(weakref.ref(record), os.getpid(), fd, _socket_at(fd), contested)
    record.info[__name__] = birth
    _births.difference_update([old for old in list(_births) if not old.is_reachable])
    _births.add(birth)
    _note_pool(None, record)  # pools with a creator of their own announce no connect
    dialect = record._ConnectionRecord__pool._dialect
    vars(dialect).setdefault("do_ping", partial(_ping_own, dialect.do_ping))


def _refuse_foreign(_connection: object, record: Any, proxy: Any) -> None:
    birth = record.info.get(__name__)
    if birth is None or not birth.is_mine:
        _cut_foreign(None, record)
        _kept.append(record.dbapi_connection)
        record.dbapi_connection = proxy.dbapi_connection = None
        raise DisconnectionError("this connection was made by another process")
    for _ in range(_TRIES):  # the pool itself would try once more: too little where forks come close together
        if not birth.contested:
            return
        record.invalidate()
        proxy.dbapi_connection = record.get_connection()
        birth = record.info[__name__]
    raise DisconnectionError("children were forked whenever this connection was made")


def _ping_own(ping: Callable[[Any], bool], connection: object) -> bool:
    # The pre-ping comes before `checkout`: it must not write to what _refuse_foreign is about to refuse.
    foreign = (birth.holder for birth in list(_births) if not birth.is_mine)
    return any(record and record.dbapi_connection is connection for record in foreign) or ping(connection)


def _cut_foreign(*arguments: Any) -> None:
    # The last chance before the pool writes ROLLBACK or a goodbye. (Some events have a third argument since 2.0.)
    birth = arguments[1] and arguments[1].info.get(__name__)
    if birth is not None and not birth.is_mine:
        with suppress(OSError):
            birth.cut()


def _after_fork_in_child() -> None:
    # Runs at a delicate time: every step on its own, nothing raised, and no log handler called.
    _last_fork.ended = -math.inf
    foreign = [birth for birth in list(_births) if not birth.is_mine]
    for step in (_Birth.cut, _forget):
        for birth in foreign:
            with suppress(Exception):
                step(birth)
    threshold = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for pool in _known_pools():
            with suppress(Exception):
                _renew(pool)
    finally:
        logging.disable(threshold)


def _forget(birth: _Birth) -> None:
    """Part record, proxy and connection, so that closing or collecting any of them in this process does nothing."""
    record = birth.holder
    if record is None:
        return
    _kept.append(record.dbapi_connection)
    proxy = record.fairy_ref and record.fairy_ref()
    record.dbapi_connection = record.fairy_ref = None
    if proxy:
        proxy.dbapi_connection = proxy._connection_record = None
        proxy.cursor = proxy.commit = _refuse_use


def _refuse_use(*_arguments: object, **_options: object) -> Any:
    raise InvalidRequestError(
        "This Session or Connection was open when its process was forked, and its transaction is the parent's: "
        "end it here with close() (a Session with rollback(), too), then begin anew"
    )


def _renew(pool: Pool) -> None:
    # What Engine.dispose(close=False) does, but in place, for engines that nobody told us about: no old lock is taken,
    # and none is kept, since another thread may have held it at the fork.
    pool.__dict__ = vars(pool.recreate())


def _known_pools() -> list[Pool]:
    return [pool for reference in list(_pools) if (pool := reference()) is not None]


def _descriptor(record: Any) -> int:
    with suppress(Exception):  # whatever a driver may say instead of having one
        return int(record.driver_connection.fileno())
    return -1


def _socket_at(fd: int) -> tuple[int, int] | None:
    with suppress(OSError):
        found = os.fstat(fd)
        if stat.S_ISSOCK(found.st_mode):
            return found.st_dev, found.st_ino
    return None
