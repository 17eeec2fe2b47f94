"""A worker whose tasks last until a file says that they may end."""

import os
import time
from pathlib import Path

from tests.acceptance.samples import fork_markers
from tests.acceptance.samples.long_parent import app


@app.task(name="long.last")
def last(until):
    fork_markers.mark("child")
    while not Path(os.environ["SAMPLE_DIR"], until).exists():
        time.sleep(0.05)
    fork_markers.mark("child")
