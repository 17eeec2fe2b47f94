"""Celery's Redis transport, made to survive what is no message.

With the stock transport one LPUSH of anything that is not a message's JSON ends the worker: "Unrecoverable error".
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

log = logging.getLogger(__name__)


class Channel(redis.Channel):  # type: ignore[misc]  # kombu is untyped
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # It has left the queue, and nobody could have answered for it: say so and go on.
            log.error("threw away something that is no message: %.200r", error)  # noqa: TRY400  a stack tells no more
            raise Empty from error


class Transport(redis.Transport):  # type: ignore[misc]
    Channel = Channel


def install() -> None:
    """Use this transport for every redis:// and rediss:// URL of this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
