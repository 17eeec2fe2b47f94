"""Haulage's worker with tasks of our own: `celery -A letters.worker worker`, and `celery -A letters.worker beat`."""

from letters import tasks  # noqa: F401
from tasks.worker import app  # with Haulage's safeguards

app.conf.beat_schedule["letters"] = {
    "task": "letters.tasks.send_overdue",
    "schedule": 10,
    "options": {"queue": "letters", "expires": 70},
}
