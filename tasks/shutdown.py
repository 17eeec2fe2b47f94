"""One byte that a worker shares with its children: set when it is told to end, so that long transfers end early.

Without it a warm shutdown never reaches a busy child: the signal tells the parent alone.
"""

import mmap

_shared = mmap.mmap(-1, 1)  # an anonymous page; children made by a fork see what the parent writes


def announce() -> None:
    _shared[0] = 1


def is_announced() -> bool:
    return _shared[0] == 1
