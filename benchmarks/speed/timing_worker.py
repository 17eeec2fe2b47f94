"""Haulage's worker, whose children write down at their end where their time went: transactions, requests, the rest."""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import requests
from celery import signals
from sqlalchemy.orm import Session

from app import database
from app.graph import http
from tasks.worker import app

__all__ = ["app"]

TRANSACTIONS, REQUESTS, TASKS, WORKING, SINCE, UNTIL = (
    "transactions",
    "requests",
    "tasks",
    "working",
    "since",
    "until",
)

spent: Counter[str] = Counter()  # seconds, and the number of tasks
_now: dict[str, float] = {}
_session_scope, _request = database.session_scope, http.Session.request


@contextmanager
def timed_scope() -> Iterator[Session]:
    began = perf_counter()
    try:
        with _session_scope() as session:
            yield session
    finally:
        _add(TRANSACTIONS, began)


def timed_request(self: http.Session, *given: Any, **more: Any) -> requests.Response:
    began = perf_counter()
    try:
        return _request(self, *given, **more)
    finally:
        _add(REQUESTS, began)


def _add(kind: str, began: float) -> None:
    if threading.current_thread() is threading.main_thread():  # heartbeats cost the upload nothing
        spent[kind] += perf_counter() - began  # type: ignore[assignment]


def begin(**_: Any) -> None:
    """Everything is imported by now: whoever has taken session_scope by its name gets the one with a clock."""
    spent.clear()
    http.Session.request = timed_request  # type: ignore[method-assign]
    known: Callable[[], Any] = _session_scope
    for module in list(sys.modules.values()):
        if getattr(module, "session_scope", None) is known:
            module.session_scope = timed_scope  # type: ignore[attr-defined]


def begin_task(**_: Any) -> None:
    _now["task"] = perf_counter()
    _now.setdefault(SINCE, perf_counter())


def end_task(**_: Any) -> None:
    _now[UNTIL] = perf_counter()
    spent[WORKING] += _now[UNTIL] - _now["task"]  # type: ignore[assignment]
    spent[TASKS] += 1


def write_down(**_: Any) -> None:
    told = {**spent, "life": _now.get(UNTIL, 0.0) - _now.get(SINCE, 0.0)}
    Path(os.environ["BENCH_COUNTS"], f"{os.getpid()}.json").write_text(json.dumps(told))


signals.worker_process_init.connect(begin, weak=False)
signals.task_prerun.connect(begin_task, weak=False)
signals.task_postrun.connect(end_task, weak=False)
signals.worker_process_shutdown.connect(write_down, weak=False)
