"""Keeps the tasks that come every few seconds out of the workers' logs, as long as nothing is wrong with them."""

import logging

from app import queue

_NAMES = {queue.SWEEP, queue.CLEAN_UP}
_LOGGERS = ("celery.worker.strategy", "celery.app.trace")  # "received" and "succeeded"


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    told = record.args
    return record.levelno > logging.INFO or not isinstance(told, dict) or told.get("name") not in _NAMES


def install() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_worth_a_line)
