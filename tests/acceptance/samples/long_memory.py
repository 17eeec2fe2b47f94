"""A worker whose tasks grow: three of them are more than a child may hold."""

import psutil

from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.long_parent import app

MIB = 1024  # in KiB
# Not ru_maxrss: it counts what this process was before it became a worker, a fork of whoever started it.
app.conf.worker_max_memory_per_child = psutil.Process().memory_info().rss // 1024 + 50 * MIB
_grown = []


@app.task(name="long.grow")
def grow():
    _grown.append(b"x" * (20 * 2**20))
    fork_markers.mark("child")
