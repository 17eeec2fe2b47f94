"""A worker whose tasks grow: three of them are more than a child may hold."""

import resource

from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.long_parent import app

MIB = 1024  # in KiB
app.conf.worker_max_memory_per_child = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 50 * MIB
_grown = []


@app.task(name="long.grow")
def grow():
    _grown.append(b"x" * (20 * 2**20))
    fork_markers.mark("child")
