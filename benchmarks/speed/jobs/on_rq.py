"""The bare job on rq: `rq worker-pool bench`; as a program it sends so many jobs."""

import os
import sys

from redis import Redis
from rq import Queue  # type: ignore[import-not-found]  # lives in an environment of its own

from benchmarks.speed.jobs import bare

if __name__ == "__main__":
    queue = Queue("bench", connection=Redis.from_url(os.environ["REDIS_URL"]))
    for number in range(int(sys.argv[1])):
        queue.enqueue(bare.work, number, result_ttl=0)
