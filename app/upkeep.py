"""Sees to it that what time sets off runs no oftener than it is meant to, however many of its messages have gathered."""

from datetime import timedelta

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.models import UpkeepRun


def is_due(session: Session, task: str, interval: timedelta) -> bool:
    """Note that a task runs now, and return True; or return False if it ran less than half its interval ago."""
    now = insert(UpkeepRun).values(task=task, ran_at=func.clock_timestamp())
    unless_just_run = now.on_conflict_do_update(
        index_elements=[UpkeepRun.task],
        set_={"ran_at": now.excluded.ran_at},
        where=UpkeepRun.ran_at < now.excluded.ran_at - interval / 2,
    )
    return session.scalar(unless_just_run.returning(UpkeepRun.task)) is not None
