"""For tasks whose message is all there is, until their transaction commits: no row exists yet that could hold a retry."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from celery.exceptions import Reject, SoftTimeLimitExceeded

from app import database
from app.errors import DriveUnavailable
from tasks import shutdown

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2
MOMENT = timedelta(minutes=1)

Result = TypeVar("Result")


def patiently(work: Callable[[], Result]) -> Result:
    """Do what may be done twice; while PostgreSQL is away, or a drive for a moment, again and again.

    A drive that is away for longer is raised: to wait for it would keep a child from the uploads to all others.

    If this process must end while it waits, or time is up then, the message goes back into its queue.
    """
    while True:
        try:
            return work()
        except Exception as error:
            if not database.is_passing(error) and not _is_momentary(error):
                raise
            log.warning("PostgreSQL or the drive is away, or busy with others; this task waits: %s", error)
            _pause(error)


def _is_momentary(error: Exception) -> bool:
    return isinstance(error, DriveUnavailable) and error.delay <= MOMENT


def _pause(error: Exception) -> None:
    if shutdown.is_announced():
        raise Reject(error, requeue=True) from error
    try:
        time.sleep(PAUSE_SECONDS)
    except SoftTimeLimitExceeded:
        raise Reject(error, requeue=True) from error
