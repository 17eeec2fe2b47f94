"""The bare job on Haulage's worker without two of its choices: four messages ahead for each child, and no events for Flower."""

from benchmarks.speed.jobs import on_haulage
from tasks.worker import app

__all__ = ["app", "on_haulage"]  # which registers its tasks

app.conf.update(worker_prefetch_multiplier=4, worker_send_task_events=False)
