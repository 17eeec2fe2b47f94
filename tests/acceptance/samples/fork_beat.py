"""A worker with beat inside, whose scheduler asks PostgreSQL at every tick, as schedulers with tables do."""

import os

from celery import signals
from celery.beat import Scheduler
from sqlalchemy import create_engine

from app import database
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_before import use_before_every_fork
from tests.acceptance.samples.fork_without import app

# Without the pre-ping of ours, which would hide an error.
_plain = create_engine(database.engine_url(os.environ["DATABASE_URL"]))

use_before_every_fork("parent")
use_before_every_fork("parent, plain", _plain)


class AskingScheduler(Scheduler):
    def tick(self, *arguments, **options):
        fork_markers.mark("beat, plain", _plain)
        fork_markers.mark("beat")
        return super().tick(*arguments, **options)


app.conf.beat_scheduler = AskingScheduler


@signals.worker_shutdown.connect
def ask_at_the_end(**_):
    fork_markers.mark("parent")
    fork_markers.mark("parent, plain", _plain)
