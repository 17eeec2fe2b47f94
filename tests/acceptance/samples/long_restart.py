"""A worker whose first child that records a file waits inside that transaction until it is told to go on."""

import os
import time
from pathlib import Path

from app import catalogue
from tests.acceptance.samples.long_parent import app  # noqa: F401

_record = catalogue.record


def record(session, *arguments, **options):
    recorded = _record(session, *arguments, **options)
    session.flush()
    inside, go = (Path(os.environ["SAMPLE_DIR"], name) for name in ("inside", "go"))
    if not inside.exists():
        inside.touch()
        while not go.exists():
            time.sleep(0.05)
    return recorded


catalogue.record = record
