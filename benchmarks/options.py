"""Options that several benchmarks have."""

import argparse
from pathlib import Path


def writable(path: str) -> Path:
    """Find out before the run, not after it, that there is no folder for its figures."""
    if not Path(path).parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {Path(path).parent}")
    return Path(path)
