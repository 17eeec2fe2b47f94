"""A worker whose children cannot be given a pool of their own, from the moment that a file says so."""

import os
from pathlib import Path

from app import database
from tasks.worker import app  # noqa: F401

_renew = database.renew_in_child


def renew():
    if Path(os.environ["SAMPLE_DIR"], "fail").exists():
        raise RuntimeError("as the sample says")
    _renew()


database.renew_in_child = renew
