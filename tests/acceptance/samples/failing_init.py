"""A worker whose children cannot be given a pool of their own, from the moment that a file says so.

With FAILING=at once such a child ends without a pause and is not counted; with FAILING=unchecked it only raises.
"""

import os
from pathlib import Path

from app import database
from tasks import worker
from tasks.worker import app  # noqa: F401
from tests.acceptance.samples import fork_markers  # noqa: F401  the marking task

_renew = database.renew_in_child


def renew():
    if Path(os.environ["SAMPLE_DIR"], "fail").exists():
        with Path(os.environ["SAMPLE_DIR"], "broken").open("a") as file:
            file.write(f"{os.getpid()}\n")
        raise RuntimeError("as the sample says")
    _renew()


def end_at_once():
    os._exit(os.EX_SOFTWARE)


def raise_():
    raise RuntimeError("as the sample says")


database.renew_in_child = renew
if how := os.environ.get("FAILING"):
    worker._end_this_child = {"at once": end_at_once, "unchecked": raise_}[how]
