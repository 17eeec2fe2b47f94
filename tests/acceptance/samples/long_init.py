"""A worker whose children take five seconds to begin, and LIMIT seconds to do so if that is set."""

import os
import time

from celery import signals

from tests.acceptance.samples.long_parent import app

if "LIMIT" in os.environ:
    app.conf.worker_proc_alive_timeout = float(os.environ["LIMIT"])


@signals.worker_process_init.connect
def take_your_time(**_):
    time.sleep(5)
