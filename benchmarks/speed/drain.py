"""The real worker draining small staged uploads: with 1, 2 and 4 children, and with an engine made for every task."""

from functools import partial

from benchmarks.report import Table
from benchmarks.speed.chart import Chart
from benchmarks.speed.part import Part
from benchmarks.speed.rounds import HEADINGS, Rounds, interleaved
from benchmarks.speed.stand import Stand, say

SIZE = 4096  # bytes of a file
BASE = "2 children"
CLASSIC = "2 children, an engine per task"
CLASSIC_SHARE = 0.25  # of the uploads of a round: the slowest need not take most of the time
WORKERS = {
    "1 child": (1, "tasks.worker"),
    BASE: (2, "tasks.worker"),
    "4 children": (4, "tasks.worker"),
    CLASSIC: (2, "benchmarks.speed.classic_worker"),
}


def measure(stand: Stand, uploads: int, rounds: int) -> Part:
    """Drain so many uploads in each round with each worker."""
    few = max(int(uploads * CLASSIC_SHARE), 10)
    variants = {
        title: partial(stand.drain, children, sample, few if title == CLASSIC else uploads, SIZE)
        for title, (children, sample) in WORKERS.items()
    }
    found = Rounds("uploads/s", BASE)
    for title, figure in interleaved(variants, rounds, say):
        found.add(title, figure)
    table = Table(
        "The real worker draining small staged uploads",
        ["worker", "uploads/s", *HEADINGS],
        [[title, *found.cells(title)] for title in WORKERS],
        f"{rounds} rounds of {uploads:,} files of {SIZE:,} bytes in 16 folders ({few:,} with an engine per task), wake-ups "
        "sent before; from the worker's ready to the last one stored. Filesystem drive, every flush included.",
    )
    chart = Chart("A worker draining small staged uploads: uploads a second", found, BASE)
    return Part("drain", [table], {"rounds": found.as_json()}, {"drain": chart})
