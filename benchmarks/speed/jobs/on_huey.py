"""The bare job on huey: `huey_consumer benchmarks.speed.jobs.on_huey.queue`; as a program it sends so many jobs."""

import os
import sys

from huey import RedisHuey  # type: ignore[import-not-found]  # lives in an environment of its own

from benchmarks.speed.jobs import bare

queue = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)
work = queue.task()(bare.work)

if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        work(number)
