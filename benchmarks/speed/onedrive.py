"""Files on their way to OneDrive, as the simulator has it: how near to what its slowness allows, and beside rclone."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import httpx

from benchmarks.report import Table
from benchmarks.speed import memory
from benchmarks.speed.library import CORP, SHARES, SIZE, Drained, drain, fill, library
from benchmarks.speed.memory import BEFORE, MIB, RECEIVING, TRANSFERRING, Watch
from benchmarks.speed.part import Part
from benchmarks.speed.rounds import HEADINGS, Rounds, interleaved, shown
from benchmarks.speed.stand import Stand, say
from local import rclone, system
from local.rclone import NoRclone, Rclone
from local.simulator import Simulator

LATENCY = 0.1  # seconds that a request takes
WORKERS = (1, 2, 4, 8)
TRANSFERS = 4
ALLOWED_MIB = 200  # for each process of ours
OURS, RCLONE = "Haulage", "rclone copy"


@dataclass(frozen=True)
class Sizes:
    files: int  # for each child
    large: int  # MiB
    small: int  # files
    rounds: int


@dataclass
class Bench:
    stand: Stand
    simulator: Simulator
    sizes: Sizes
    rclone: Rclone
    drained: dict[str, Drained] = field(default_factory=dict)  # the last one of each kind

    def drain(self, title: str, children: int, files: int) -> Drained:
        done = self.drained[title] = drain(self.stand, children, files)
        return done

    def rclone_copies(self, source: Path) -> float:
        """Return the seconds that rclone takes to copy a folder into a new one."""
        to = f"{rclone.REMOTE}copied {time.monotonic_ns()}"
        began = time.monotonic()
        self.rclone.run("copy", "--transfers", str(TRANSFERS), source, to)
        seconds = time.monotonic() - began
        self.simulator.control("POST delete", path=to.removeprefix(rclone.REMOTE))
        return seconds


def measure(stand: Stand, sizes: Sizes) -> Part:
    """Measure all three; where rclone is not to be had nothing is compared with it."""
    with library(stand) as simulator:
        try:
            other = rclone.of(simulator, stand.system.data / "rclone")
        except NoRclone as problem:
            return Part("onedrive", [], {}, notes=[str(problem)])
        bench = Bench(stand, simulator, sizes, other)
        parts = [_waiting(bench), _large(bench), _small(bench)]
    return Part(
        "onedrive",
        [table for part in parts for table in part.tables],
        {part.name: part.figures for part in parts},
        wrong=[wrong for part in parts for wrong in part.wrong],
    )


# Files a second, where every request takes its time


def _waiting(bench: Bench) -> Part:
    """Each child sends one request at a time, so that there is a bound: as many as there are children, by the latency."""
    found = Rounds("of the ideal", _title(WORKERS[0]))
    variants = {_title(children): partial(_of_ideal, bench, children) for children in WORKERS}
    bench.simulator.control("POST settings", latency=LATENCY)
    for title, figure in interleaved(variants, bench.sizes.rounds, say):
        found.add(title, figure)
    bench.simulator.control("POST settings", latency=0)
    table = Table(
        f"Small files to OneDrive, where each request takes {LATENCY * 1000:.0f} ms",
        ["a worker with", "ideal, files/s", "files/s", "of the ideal", "of the rounds", *SHARES],
        [_row(bench, found, children) for children in WORKERS],
        f"{bench.sizes.rounds} rounds of {bench.sizes.files} files of {SIZE:,} bytes for each child, one request for each file, "
        f"on one connection for each child. Ideal: children ÷ {LATENCY} s. The first and the last files are not in it. The "
        "last four columns: what the time of a child went into, in the last round. Simulator, PostgreSQL, Redis and worker "
        "share the cores.",
    )
    return Part("waiting", [table], {"of_ideal": found.as_json(), "shares": _shares(bench)})


def _title(children: int) -> str:
    return "1 child" if children == 1 else f"{children} children"


def _of_ideal(bench: Bench, children: int) -> float:
    done = bench.drain(_title(children), children, bench.sizes.files * children)
    return done.rate * LATENCY / children


def _row(bench: Bench, found: Rounds, children: int) -> list[str]:
    title, ideal = _title(children), children / LATENCY
    least, most = found.spread(title)
    middle = found.middle(title)
    apart = f"{least:.2f} to {most:.2f}"
    parts = bench.drained[title].shares.cells()
    return [title, shown(ideal), shown(middle * ideal), f"{middle:.2f}", apart, *parts]


def _shares(bench: Bench) -> dict[str, object]:
    return {title: asdict(done.shares) for title, done in bench.drained.items()}


# One large file


def _large(bench: Bench) -> Part:
    source = bench.stand.system.data / "large"
    source.mkdir()
    _write(source / "large.bin", bench.sizes.large)
    most: dict[str, float] = {}
    variants = {
        OURS: partial(_send_large, bench, most),
        RCLONE: partial(_copy_large, bench, source),
    }
    found = Rounds("MiB/s", RCLONE)
    for title, figure in interleaved(variants, bench.sizes.rounds, say):
        found.add(title, figure)
    shutil.rmtree(source)
    peaks = ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in most.items())
    table = Table(
        f"One file of {bench.sizes.large:,} MiB to OneDrive",
        ["", "MiB/s", *HEADINGS],
        [[title, *found.cells(title)] for title in variants],
        f"{bench.sizes.rounds} rounds, no latency, the simulator's bytes in memory where there is such a place. Haulage: from the "
        "answer that says the file is safe to the row that says it is stored. rclone: from its start to its end. Both send "
        f"fragments of 10 MiB and compare quickXorHash. The most memory (RSS), in MiB: {peaks}; allowed: {ALLOWED_MIB} each.",
    )
    over = [name for name, mebibytes in most.items() if mebibytes >= ALLOWED_MIB]
    wrong = [f"{name} took {most[name]:.0f} MiB; {ALLOWED_MIB} are allowed" for name in over]
    return Part("large", [table], {"speed": found.as_json(), "most_mib": most}, wrong=wrong)


def _copy_large(bench: Bench, source: Path) -> float:
    return bench.sizes.large / bench.rclone_copies(source)


def _write(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))


def _send_large(bench: Bench, most: dict[str, float]) -> float:
    """Send one file through HTTP into staging, and return the speed at which it went on from there; keep the most memory."""
    stand = bench.stand
    token = stand.system.run("token", "create", "--corp", CORP, "--label", "bench").strip()
    url = f"{stand.system.start_web(system.free_port())}/api/v1/corporations/{CORP}/uploads"
    name = f"large {time.monotonic_ns()}"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=600, trust_env=False) as client:
        stand.start_worker(1)
        stand.system.start_beat()
        try:
            memory._send(client, url, f"first {name}", 1)  # noqa: SLF001  connections and tokens are made with it
            stand.wait_until_stored()
            watch = Watch(memory._processes(stand))  # noqa: SLF001
            with watch.during():
                watch.phase = RECEIVING
                memory._send(client, url, name, bench.sizes.large)  # noqa: SLF001
                safe = stand.ask("SELECT clock_timestamp()")[0][0]
                watch.phase = TRANSFERRING
                stand.wait_until_stored()
        finally:
            stand.system.stop("web", "beat", "worker")
    stored = stand.ask("SELECT finished_at FROM corporate.uploads WHERE name = %s", name)[0][0]
    bench.simulator.control("POST delete", path=f"Haulage/{CORP}/{name}")
    for process, phases in watch.most.items():
        peak = max(phases.get(phase, 0.0) for phase in (BEFORE, RECEIVING, TRANSFERRING))
        most[process] = max(peak, most.get(process, 0.0))
    return float(bench.sizes.large / (stored - safe).total_seconds())


# Many small files


def _small(bench: Bench) -> Part:
    files = {0.0: bench.sizes.small, LATENCY: max(bench.sizes.small // 4, 16)}
    sources = {latency: fill(bench.stand.system.data / f"{n} small", n) for latency, n in files.items()}
    tables, figures = [], {}
    for latency, number in files.items():
        title = f"{TRANSFERS} children, {latency * 1000:.0f} ms"
        variants = {
            OURS: partial(_ours, bench, title, number),
            RCLONE: partial(_theirs, bench, sources[latency], number),
        }
        found = Rounds("files/s", RCLONE)
        bench.simulator.control("POST settings", latency=latency)
        for name, figure in interleaved(variants, bench.sizes.rounds if not latency else 1, say):
            found.add(name, figure)
        tables.append(_small_table(bench, found, latency, number, title))
        figures[title] = found.as_json()
    bench.simulator.control("POST settings", latency=0)
    for source in sources.values():
        with suppress(OSError):
            shutil.rmtree(source)
    return Part("small", tables, {**figures, "shares": _shares(bench)})


def _ours(bench: Bench, title: str, files: int) -> float:
    return files / bench.drain(title, TRANSFERS, files).seconds


def _theirs(bench: Bench, source: Path, files: int) -> float:
    return files / bench.rclone_copies(source)


def _small_table(bench: Bench, found: Rounds, latency: float, files: int, title: str) -> Table:
    parts = bench.drained[title].shares.cells()
    slow = f", where each request takes {latency * 1000:.0f} ms" if latency else ", no latency"
    rows = [
        [OURS, *found.cells(OURS), *parts],
        [RCLONE, *found.cells(RCLONE), *("" for _ in parts)],
    ]
    return Table(
        f"{files:,} small files to OneDrive beside rclone{slow}",
        [f"{TRANSFERS} at once", "files/s", *HEADINGS, *SHARES],
        rows,
        f"{SIZE:,} bytes each, in 16 folders. Haulage: from the worker's ready to the last one stored and catalogued, one PUT "
        "each; the folders are there. rclone: from its start to its end; it keeps no catalogue, makes the folders, and opens "
        "an upload session for each file. What the catalogue takes is the column of transactions.",
    )
