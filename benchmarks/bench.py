"""Measures how fast Haulage is, as ratios of things run side by side in one run: `python -m benchmarks.bench`."""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.report import Table
from benchmarks.speed import drain, memory, onedrive, over_http, path, queues
from benchmarks.speed.part import Part
from benchmarks.speed.stand import Stand, say, stand
from local import endings
from local.account import NoAccount
from local.discovery import NoServer
from local.process import NotStarted
from local.system import NotUp

READ_SO = (
    "Ratios are to the row with 1.00, the median of those of the rounds, then the least and the most of them: the wider these "
    "lie apart, the less the median says. Figures of two machines, or of two runs, are not to be compared."
)
REFUSED, INTERRUPTED = 2, 130
REFUSALS = (NoServer, NoAccount, NotStarted, NotUp, psycopg2.OperationalError, OSError, RuntimeError)
Measure = Callable[[Stand, argparse.Namespace], Part]

PARTS: dict[str, Measure] = {
    "drain": lambda on, given: drain.measure(on, given.uploads, given.rounds),
    "queues": lambda on, given: queues.measure(on, given.jobs, given.rounds),
    "http": lambda on, given: over_http.measure(on, given.requests, given.rounds),
    "memory": lambda on, given: memory.measure(on, given.mebibytes),
    "path": lambda on, given: path.measure(on, given.profiled, given.py_spy),
    "onedrive": lambda on, given: onedrive.measure(
        on, onedrive.Sizes(given.files, given.large, given.small, given.rounds)
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, 1 if something was measured that may not be, or 2 if the benchmark could not go on."""
    options = parsed(arguments)
    endings.heed()
    try:
        found = [_measured(name, options) for name in dict.fromkeys(options.only)]
    except REFUSALS as problem:
        print(f"The benchmark cannot go on: {problem}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    wrong = [f"WRONG: {one}" for part in found for one in part.wrong]
    print("\n".join([*(note for part in found for note in part.notes), *wrong]))
    return 1 if wrong else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument(
        "--into", type=_folder, metavar="FOLDER", help="write figures.json, tables.md and pictures there"
    )
    parser.add_argument(
        "--py-spy", default=shutil.which("py-spy"), metavar="PATH", help="for the costliest lines"
    )
    numbers = {
        "rounds": (4, "how often each thing is measured, in turn with the others"),
        "uploads": (1000, "uploads that a worker drains in a round"),
        "jobs": (2000, "bare jobs that a queue gets in a round"),
        "requests": (800, "uploads over HTTP in each state of Redis in a round; at most 1000 wait in Redis"),
        "mebibytes": (2048, "the size of the large file"),
        "profiled": (400, "uploads whose cost is counted"),
        "files": (100, "files for each child that sends them to OneDrive"),
        "large": (1024, "the size of the large file for OneDrive, in MiB"),
        "small": (2000, "small files for OneDrive, beside rclone"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(
            f"--{name}", type=_number, default=default, metavar="N", help=f"{meaning} ({default})"
        )
    return parser.parse_args(arguments)


def _number(given: str) -> int:
    if not (given.isascii() and given.isdigit() and 0 < int(given) <= 10**6):
        raise argparse.ArgumentTypeError("a whole number is wanted, from 1 to a million")
    return int(given)


def _folder(given: str) -> Path:
    if not Path(given).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {given}")
    return Path(given)


def _measured(name: str, options: argparse.Namespace) -> Part:
    """Measure one part, on servers of its own: none finds what another has left behind. Tell it, and write it down."""
    say(f"{name} ...")
    began, before = time.monotonic(), os.getloadavg()[0]
    with stand() as own:
        found = PARTS[name](own, options)
    said = conditions(time.monotonic() - began, before, os.getloadavg()[0])
    print("\n\n".join([*(table.for_terminal() for table in found.tables), said, ""]), flush=True)
    if options.into:
        publish(options.into, found, said)
    return found


def conditions(seconds: float, before: float, after: float) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {_system()}, Python {platform.python_version()}; "
        f"{seconds / 60:.1f} minutes; load average {before:.1f} before it and {after:.1f} at its end."
    )


def _system() -> str:
    try:
        known = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{known['NAME'].removesuffix(' GNU/Linux')} {known.get('VERSION_ID', '')}".strip()


def publish(folder: Path, found: Part, said: str) -> None:
    """Write what was measured now; what is known of other parts stays as it is."""
    if not found.tables:
        return
    figures = folder / "figures.json"
    known = json.loads(figures.read_text()) if figures.exists() else {}
    known[found.name] = {"conditions": said, "tables": list(map(asdict, found.tables)), **found.figures}
    figures.write_text(json.dumps(known, indent=2) + "\n")
    (folder / "tables.md").write_text(markdown(known))
    for name, chart in found.charts.items():
        (folder / f"{name}.svg").write_text(chart.drawn())


def markdown(known: Mapping[str, Any]) -> str:
    """Return the tables of all parts that are known, each with the conditions of its run."""
    sections = ["# Tables of `make bench`", READ_SO]
    for name in (name for name in PARTS if name in known):
        sections += [Table(**one).in_markdown() for one in known[name]["tables"]]
        sections.append(known[name]["conditions"])
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    sys.exit(main())
