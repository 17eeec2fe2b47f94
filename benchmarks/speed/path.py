"""What one small upload costs a worker: statements, round trips, flushes, and in which lines its time goes."""

import json
import signal
import subprocess
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.report import Table
from benchmarks.speed.drain import SIZE
from benchmarks.speed.part import Part
from benchmarks.speed.stand import Stand, say

FRAMES = 10
RATE = 200  # samples a second
RECYCLED = 1000  # a child ends after so many tasks, and with it whoever watches it
NO_SPY = "The costliest lines were not looked for: give --py-spy the path of py-spy (not a part of Haulage)"


def measure(stand: Stand, uploads: int, spy: str | None) -> Part:
    """Drain so many uploads with one child that counts, and again under py-spy if it is there."""
    counted = _counted(stand, uploads)
    tables, notes = [_costs(counted, uploads)], []
    figures: dict[str, object] = {"uploads": uploads, "counted": counted}
    if spy is None:
        notes.append(NO_SPY)
    else:
        found, samples = _profiled(stand, min(uploads, RECYCLED - 1), spy)
        tables.append(_frames(found, samples))
        figures["frames"] = {"samples": samples, "of": dict(found.most_common(3 * FRAMES))}
    return Part("path", tables, figures, notes=notes)


def _counted(stand: Stand, uploads: int) -> Counter[str]:
    counts = Path(tempfile.mkdtemp(dir=stand.system.data))
    stand.prepare(uploads, SIZE)
    before = _log_flushes(stand)
    stand.start_worker(1, "benchmarks.speed.counting_worker", BENCH_COUNTS=str(counts))
    stand.wait_until_stored()
    stand.system.stop("worker")
    counted = Counter[str]()
    for file in counts.glob("*.json"):
        counted.update(json.loads(file.read_text()))
    after = _log_flushes(stand)
    if before is not None and after is not None:
        counted["flushes of PostgreSQL's log"] = after - before
    say(f"  counted: {counted['tasks']} tasks")
    return counted


def _log_flushes(stand: Stand) -> int | None:
    """Return how often PostgreSQL has flushed its log; None where the server does not tell (before 14, from 18)."""
    known = (
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'pg_stat_wal'::regclass AND attname = 'wal_sync'"
    )
    if not stand.ask(known)[0][0]:
        return None
    return int(stand.ask("SELECT wal_sync FROM pg_stat_wal")[0][0])


def _costs(counted: Counter[str], uploads: int) -> Table:
    """Every transaction is a BEGIN, its statements and a COMMIT or ROLLBACK: psycopg2 sends each of them alone."""
    trips = (
        counted["statements"]
        + counted["pings"]
        + counted["transactions"]
        + counted["commits"]
        + counted["rollbacks"]
    )
    costs = {
        "transactions": counted["transactions"],
        "statements": counted["statements"],
        "pings of an idle connection": counted["pings"],
        "round trips to PostgreSQL (also BEGIN, COMMIT)": trips,
        "flushes of PostgreSQL's log": counted["flushes of PostgreSQL's log"],
        "flushes of drive and staging by the worker": counted["fsyncs"],
    }
    return Table(
        "What one small upload costs a worker",
        ["", "for each upload"],
        [[name, f"{number / uploads:.1f}"] for name, number in costs.items()],
        f"{uploads} uploads of {SIZE:,} bytes, one folder deep, one child. What receiving them cost is not in it.",
    )


def _profiled(stand: Stand, uploads: int, spy: str) -> tuple[Counter[str], int]:
    """Return the samples of each line, of the child's main thread alone, waiting included; and how many there were."""
    stand.prepare(uploads, SIZE)
    stand.start_worker(1)
    child = psutil.Process(stand.system.processes["worker"].pid).children()[0].pid
    raw = stand.system.data / "frames"
    options = (
        "-p",
        str(child),
        "-r",
        str(RATE),
        "-d",
        "3600",
        "-f",
        "raw",
        "-o",
        str(raw),
        "--threads",
        "--idle",
    )
    with subprocess.Popen([spy, "record", *options], stdout=-3, stderr=-3) as watching:
        try:
            stand.wait_until_stored()
        finally:
            watching.send_signal(signal.SIGINT)  # it writes down what it has
            with suppress(subprocess.TimeoutExpired):
                watching.wait(60)
            watching.kill()
    stand.system.stop("worker")
    return read_frames(raw.read_text())


def read_frames(raw: str) -> tuple[Counter[str], int]:
    """Count the innermost line of each stack of the main thread, which begins with the thread's name.

    A line of the file: frames from the outermost, with semicolons; a number.
    """
    found, samples = Counter[str](), 0
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if "MainThread" in thread and frames:
            found[frames[-1]] += int(number)
            samples += int(number)
    return found, samples


def _frames(found: Counter[str], samples: int) -> Table:
    return Table(
        "The ten costliest lines of a worker's child",
        ["line", "of its time"],
        [[frame, f"{number / max(samples, 1):.1%}"] for frame, number in found.most_common(FRAMES)],
        f"py-spy, {samples:,} samples of the main thread, waiting included: a line that asks PostgreSQL waits for its answer.",
    )
