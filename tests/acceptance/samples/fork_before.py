"""Makes the parent of a worker use PostgreSQL right before every fork, whatever was closed before: the worst moment."""

import os

from tests.acceptance.samples import fork_markers

_parent = os.getpid()


def use_before_every_fork(who, through=None):
    """Leave an idle connection in the pool for each child to find."""

    def use():
        if os.getpid() == _parent:
            fork_markers.mark(who, through)

    os.register_at_fork(before=use)
