"""Haulage's worker with the classic recipe in the place of its pool: an engine made and disposed for every task."""

from typing import Any

from celery import signals
from sqlalchemy import Engine, create_engine

from app import database
from app.settings import settings
from tasks.worker import app

__all__ = ["app"]

_now: dict[str, Engine] = {}


def make_an_engine(**_: Any) -> None:
    _now["engine"] = create_engine(database.engine_url(settings().database_url))


def dispose_of_it(**_: Any) -> None:
    _now.pop("engine").dispose()


signals.task_prerun.connect(make_an_engine, weak=False)
signals.task_postrun.connect(dispose_of_it, weak=False)
database.engine = lambda: _now["engine"]
