"""Outlives a launcher that was killed, to stop its throw-away servers and delete their home."""

import os
import sys
import time
from pathlib import Path

from local import home as homes
from local import servers


def main(launcher: int, home: Path) -> None:
    """Wait until our parent is no longer the launcher.

    Looking beats the kernel's death signal here: that one is lost when a server changes its user, comes
    when a mere thread ends, exists on Linux alone, and deletes no directory.
    """
    while os.getppid() == launcher:
        time.sleep(0.2)
    servers.stop(home)
    homes.remove(home)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
