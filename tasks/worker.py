"""Entry point of `celery -A tasks.worker`: what its processes do at their start, at every fork and at their end.

Imported by nobody. Receivers stand at module level: Celery holds them weakly, and one defined inside a function vanishes
without a word.
"""

import logging
import mmap
import os
import time
from typing import Any

from celery import signals
from celery.worker import state
from sqlalchemy.exc import SQLAlchemyError

from app import asked, database, forksafe, logs, queue, readiness
from app.drive_settings import drive_settings
from app.errors import Unfit
from app.settings import settings
from tasks import flower, quiet, shutdown, transport

log = logging.getLogger(__name__)

app = queue.celery  # the name that `celery -A` looks for
try:
    settings()
except Unfit as unfit:
    raise SystemExit(str(unfit)) from None
database.play("worker")
forksafe.install()
flower.refuse_without_password()
transport.install()
quiet.install()

CHILDREN_THAT_MAY_FAIL = 5
_failed_in_a_row = mmap.mmap(-1, 1)  # shared with the children


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def say_what_a_line_is_about(logger: Any = None, **_: object) -> None:
    logs.adorn(logger, settings().log_format)


@signals.worker_init.connect
def check_that_we_may_run(sender: Any = None, **_: object) -> None:
    children = getattr(sender, "concurrency", None) or 1
    try:
        drive_settings()  # a bad one would fail every task, the sweep among them
        readiness.check(settings(), children * settings().db_pool_size)
    except (Unfit, SQLAlchemyError) as error:
        # Celery would swallow anything less, and the worker would take messages that it can do nothing about.
        raise SystemExit(f"This worker cannot start: {getattr(error, 'orig', None) or error}") from error
    finally:
        database.dispose()


@signals.worker_before_create_process.connect
def close_before_the_fork(**_: object) -> None:
    """The parent owns no connection when a child is made. Forks happen all day, by recycling and autoscale."""
    if _failed_in_a_row[0] >= CHILDREN_THAT_MAY_FAIL:
        log.critical(
            "%d children in a row could not be given a pool of their own; this worker stops",
            _failed_in_a_row[0],
        )
        state.should_stop = os.EX_SOFTWARE
    forksafe.dispose_all()


@signals.worker_process_init.connect
def give_the_child_its_own_pool(**_: object) -> None:
    """Dispose the inherited engine without closing its connections; the next session opens a connection of this child."""
    try:
        database.renew_in_child()
        if foreign := forksafe.inherited():
            raise RuntimeError(f"{foreign} connection(s) of another process are still within reach")  # noqa: TRY301
    except Exception:  # whatever it is, this child must not serve tasks, and Celery would let it
        log.critical("this child could not be given a pool of its own; it ends", exc_info=True)
        _end_this_child()
    _failed_in_a_row[0] = 0


def _end_this_child() -> None:
    _failed_in_a_row[0] = min(_failed_in_a_row[0] + 1, 255)
    time.sleep(1)  # a child that ends at once is replaced at once: hundreds of forks in seconds
    os._exit(os.EX_SOFTWARE)


@signals.worker_process_shutdown.connect
def say_goodbye(**_: object) -> None:
    """Children leave by os._exit: without this the server would only see the connection drop."""
    asked.note_at_end()
    database.dispose()


@signals.worker_shutting_down.connect
def end_slices_early(**_: object) -> None:
    shutdown.announce()
