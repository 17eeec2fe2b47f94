"""A worker with two engines: ours, and one that somebody made with create_engine and uses in the parent too."""

import os

from sqlalchemy import create_engine

from app import database
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_before import use_before_every_fork
from tests.acceptance.samples.fork_without import app

_second = create_engine(database.engine_url(os.environ["DATABASE_URL"]))

use_before_every_fork("parent, first")
use_before_every_fork("parent, second", _second)


@app.task(name="fork_two_engines.ask")
def ask():
    fork_markers.mark("child, first")
    fork_markers.mark("child, second", _second)
