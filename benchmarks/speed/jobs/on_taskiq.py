"""The bare job on taskiq: `taskiq worker benchmarks.speed.jobs.on_taskiq:broker`; as a program it sends so many jobs."""

import asyncio
import os
import sys

from taskiq_redis import RedisStreamBroker  # type: ignore[import-not-found]  # lives in an environment of its own

from benchmarks.speed.jobs import bare

broker = RedisStreamBroker(os.environ["REDIS_URL"], queue_name="bench")
work = broker.task(task_name="work")(bare.work)


async def send(number: int) -> None:
    await broker.startup()
    for one in range(number):
        await work.kiq(one)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1])))
