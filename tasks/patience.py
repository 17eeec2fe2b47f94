"""For tasks whose message is all there is, until their transaction commits: no row exists yet that could hold a retry."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from celery.exceptions import Reject, SoftTimeLimitExceeded

from app import database
from app.errors import DriveUnavailable
from tasks import shutdown

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2
PATIENCE_SECONDS = 10  # far below the soft limit, and short: this child could serve other drives meanwhile

Result = TypeVar("Result")


def patiently(work: Callable[[], Result]) -> Result:
    """Do what may be done twice; while PostgreSQL or a drive is away, again and again.

    After a while, or if this process must end meanwhile, the message goes back into its queue, behind all others: it
    is lost no more than a row would be, and keeps no child from what can be done.
    """
    began = time.monotonic()
    while True:
        try:
            return work()
        except Exception as error:
            if not database.is_passing(error) and not isinstance(error, DriveUnavailable):
                raise
            log.warning("PostgreSQL or the drive is away, or busy with others; this task waits: %s", error)
            _pause(error, is_last=time.monotonic() - began >= PATIENCE_SECONDS)


def _pause(error: Exception, *, is_last: bool) -> None:
    """Wait before the next try, or before the message goes back: in an empty queue it would come again at once."""
    if shutdown.is_announced():
        raise Reject(error, requeue=True) from error
    try:
        time.sleep(PAUSE_SECONDS)
    except SoftTimeLimitExceeded:
        is_last = True
    if is_last:
        raise Reject(error, requeue=True) from error
