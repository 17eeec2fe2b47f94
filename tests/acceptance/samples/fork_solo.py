"""A solo worker: `worker_process_init` fires in the live process, whose pool holds a connection by then.

With BLIND set the pool is renewed there without a look at whose it is, as popular receivers do.
"""

import gc
import os

from celery import signals

from app import database
from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.fork_without import app  # noqa: F401

if os.environ.get("BLIND"):
    database.renew_in_child = lambda: database.engine().dispose(close=False)


@signals.worker_init.connect
def use(**_):
    fork_markers.mark("before")
    gc.freeze()  # as many parents do; a collection would close a leaked connection some time, and hide the leak
