"""The bare job on Haulage's own worker: `celery -A benchmarks.speed.jobs.on_haulage`, with the pool that Haulage gives.

As a program it sends so many jobs of a name, `pooled` or `classic`.
"""

import os
import sys

from benchmarks.speed.jobs import bare

if __name__ == "__main__":
    from celery import Celery  # a sender needs nothing of ours

    sender = Celery(broker=os.environ["REDIS_URL"], set_as_current=False)
    for number in range(int(sys.argv[1])):
        sender.send_task(f"bench.{sys.argv[2]}", [number], queue="uploads", ignore_result=True)
    sender.close()
else:
    from app import database
    from tasks.worker import app

    def pooled(number: int) -> None:
        bare.insert(database.engine(), number)

    app.task(name="bench.pooled")(pooled)
    app.task(name="bench.classic")(bare.work_classically)
