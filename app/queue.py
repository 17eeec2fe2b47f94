"""The one door to Celery: the application object, the names of tasks and queues, one function per message."""

import threading
from collections.abc import Iterable
from enum import StrEnum
from typing import Any
from uuid import UUID

from celery import Celery
from celery.states import SUCCESS
from kombu import Connection
from kombu.exceptions import OperationalError
from redis import RedisError

TRANSFER_UPLOAD = "tasks.uploads.transfer_upload"
UPLOAD_FILE = "tasks.uploads.upload_file"
RECORD_ITEM = "tasks.catalogue.record_item"
RECOUNT = "tasks.catalogue.recount"
SWEEP = "tasks.upkeep.sweep"
CLEAN_UP = "tasks.upkeep.clean_up"
PURGE = "tasks.upkeep.purge"


class Queue(StrEnum):
    UPLOADS = "uploads"  # uploads on their first way, and everything that other applications send
    RESUME = "resume"  # transfers that go on: a half-moved file does not wait behind the backlog
    UPKEEP = "upkeep"  # the sweep and its kin: a sweep behind the backlog could not see to it


celery = Celery("haulage")
celery.config_from_object("celeryconfig")

# For messages that somebody waits behind. With a worker's own options a frozen Redis holds a sender for 30 s; with
# these, 1 s at worst.
_IMPATIENT = {
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "retry_on_timeout": False,
    "max_retries": 0,
}
UNREACHABLE = (OperationalError, RedisError, OSError)

_mine = threading.local()


def wake(upload_ids: Iterable[UUID], queue: Queue = Queue.UPLOADS) -> None:
    """Tell the workers that these uploads may be ready. A hint: it may be lost, doubled or late without harm.

    Raises one of UNREACHABLE after about a second without Redis.
    """
    for upload_id in upload_ids:
        _send(TRANSFER_UPLOAD, [str(upload_id)], queue)


def waiting(queue: Queue = Queue.UPLOADS) -> int:
    """Return how many messages wait in a queue. Raises one of UNREACHABLE."""
    connection = _connection()
    try:
        return int(connection.default_channel.client.llen(queue.value))
    except Exception:
        _drop()
        raise


def _send(name: str, arguments: list[Any], queue: Queue) -> None:
    try:
        celery.send_task(
            name,
            arguments,
            queue=queue.value,
            connection=_connection(),
            retry=False,
            ignore_result=True,
            # Said outright: where the sender knows the task, Celery would send its limits along, and they would stand
            # above those of the worker that gets it.
            time_limit=None,
            soft_time_limit=None,
        )
    except Exception:
        _drop()
        raise


def ask_for_sweep() -> None:
    """Have a worker sweep now. Raises one of UNREACHABLE."""
    _send(SWEEP, [], Queue.UPKEEP)


def report(task_id: str, result: dict[str, Any]) -> None:
    """Store the result that the sender of `upload_file` waits for."""
    celery.backend.store_result(task_id, result, SUCCESS)


def _connection() -> Connection:
    """Return this thread's own connection: one frozen send must not hold up the others."""
    if not hasattr(_mine, "connection"):
        _mine.connection = Connection(
            celery.conf.broker_url,
            transport_options=_IMPATIENT,
            connect_timeout=1,
            failover_strategy="round-robin",
        )
    return _mine.connection


def _drop() -> None:
    connection = _mine.__dict__.pop("connection", None)
    if connection is not None:
        connection.release()
