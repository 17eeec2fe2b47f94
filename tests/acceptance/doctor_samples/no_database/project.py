"""No database at all."""

import os
from pathlib import Path

from celery import Celery

app = Celery("sample", broker=os.environ["SAMPLE_BROKER"])
app.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]


@app.task(ignore_result=True)
def work():
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
