"""The bare job on dramatiq: `dramatiq benchmarks.speed.jobs.on_dramatiq`; as a program it sends so many jobs."""

import os
import sys

import dramatiq  # type: ignore[import-not-found]  # lives in an environment of its own
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]

from benchmarks.speed.jobs import bare

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
# Named outright: the sender's own module is called __main__.
work = dramatiq.actor(bare.work, actor_name="work", queue_name="bench")

if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        work.send(number)
