"""Haulage's worker, whose children write down at their end what they asked of PostgreSQL and of the disk."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from celery import signals
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tasks.worker import app

__all__ = ["app"]

counted: Counter[str] = Counter()
_fsync = os.fsync


def counting_fsync(fd: Any) -> None:
    counted["fsyncs"] += 1
    _fsync(fd)


def count_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    counted["statements"] += 1
    counted[" ".join(statement.split()[:3])] += 1  # UPDATE corporate.uploads SET, INSERT INTO corporate...


def count_connection(dialect: Any, *_: Any) -> None:
    """Count the pre-pings of the engine that connects here; they pass every event by."""
    counted["connects"] += 1
    ping = dialect.do_ping
    if getattr(ping, "is_counted", False):
        return

    def counting(connection: Any) -> bool:
        counted["pings"] += 1
        return bool(ping(connection))

    counting.is_counted = True  # type: ignore[attr-defined]
    dialect.do_ping = counting


def begin_anew(**_: Any) -> None:
    counted.clear()


def count_task(**_: Any) -> None:
    counted["tasks"] += 1


def write_down(**_: Any) -> None:
    Path(os.environ["BENCH_COUNTS"], f"{os.getpid()}.json").write_text(json.dumps(counted))


os.fsync = counting_fsync
signals.worker_process_init.connect(begin_anew, weak=False)
signals.task_postrun.connect(count_task, weak=False)
signals.worker_process_shutdown.connect(write_down, weak=False)
event.listen(Engine, "before_cursor_execute", count_statement)
event.listen(Engine, "do_connect", count_connection)
event.listen(Engine, "begin", lambda _connection: counted.update(["transactions"]))
event.listen(Engine, "commit", lambda _connection: counted.update(["commits"]))
event.listen(Engine, "rollback", lambda _connection: counted.update(["rollbacks"]))
