"""Runs of one recipe, each watched from outside until everybody has ended or hangs: then it counts, and kills by pid.

A process of its own (`measure` starts it): a recipe may hang, and some change the whole process.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.outcome import Outcome, Size
from benchmarks.recipes import RECIPES
from benchmarks.states import IDLE, STATES
from benchmarks.transaction import how_lost
from benchmarks.workers import LONGEST_LIFE, Trial, Worker, be_mortal, be_parent, ended, first_line, open_id

ROOT = Path(__file__).parents[1]
TABLE = "CREATE TABLE IF NOT EXISTS fork_lab (run text, worker int, number int)"
DROP = "DROP TABLE IF EXISTS fork_lab"
COUNT = "SELECT count(*) FROM fork_lab WHERE run = :run"
OPEN = "SELECT number FROM fork_lab WHERE run = :run"


class BrokenOff(RuntimeError):
    """A run did not come to its end; the message names the recipe and gives the last words of its process."""


def measure(recipe: str, url: str, size: Size, state: str = IDLE) -> Outcome:
    """Run the recipe in a clean process. The url names the driver (postgresql+psycopg2)."""
    return measure_each(recipe, url, {state: size})[state]


def measure_each(recipe: str, url: str, sizes: Mapping[str, Size]) -> dict[str, Outcome]:
    """Run the recipe in each state that a size is given for, one after the other, in one process that installed nothing.

    No process of it is left when this returns or raises. Raises BrokenOff.
    """
    order = {"recipe": recipe, "url": url, "sizes": {state: asdict(size) for state, size in sizes.items()}}
    # A session of its own, so that an interrupt reaches nobody there, and one signal reaches everybody.
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.workload"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            said, complaints = process.communicate(json.dumps(order), timeout=LONGEST_LIFE)
        except subprocess.TimeoutExpired as error:
            raise BrokenOff(f"{recipe}: not ended after {LONGEST_LIFE} seconds") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise BrokenOff(f"{recipe}: {(complaints.strip().splitlines() or ['ended without a word'])[-1]}")
    return {state: Outcome(**outcome) for state, outcome in json.loads(said).items()}


def run(trial: Trial) -> Outcome:
    """Watch over the parent, which is a process of its own too since it may hang like its children."""
    run_id = f"{os.getpid()}-{time.time_ns()}"
    execute(trial.url, TABLE)
    with tempfile.TemporaryFile() as counter:
        reader, writer = os.pipe()
        parent = os.fork()
        if parent == 0:
            with ended():
                be_parent(trial, Worker(writer, run_id), counter.fileno())
        os.close(writer)
        outcome, is_ours = watch(reader, trial.size)
        os.close(reader)
        os.waitpid(parent, 0)
        outcome.sessions = os.fstat(counter.fileno()).st_size
    outcome.rows_missing = trial.size.tasks - execute(trial.url, COUNT, run=run_id)[0]
    if outcome.transaction_lost is None:
        rows = execute(trial.url, OPEN, run=open_id(run_id))
        outcome.transaction_lost = how_lost(set(rows), is_ours=is_ours)
    execute(trial.url, DROP)
    return outcome


def watch(reader: int, size: Size) -> tuple[Outcome, bool]:
    """Count what the workers tell, until the last has ended or nobody says a word; then kill the rest by pid.

    The second is True if the parent's transaction was, at its end, the one that it had begun.
    """
    outcome, is_ours, working, untouched = Outcome(), False, dict[int, int](), 0
    times, kept = list[float](), list[int | None]()
    for said in lines_of(reader, size.patience):
        if "pid" in said:
            working[said["worker"]] = said["pid"]
        elif "kept" in said:
            kept.append(said["kept"])
        elif "transaction" in said:
            outcome.transaction_lost, is_ours = said["transaction"], said.get("is_ours", False)
        elif "untouched" in said:
            untouched = said["untouched"]
        elif "end" in said:
            del working[said["worker"]]
        else:
            outcome.add(said)
            times.append(time.monotonic())
    kill(working.values())
    outcome.hung = len(working)
    if untouched and not working:
        outcome.parent_errors["it committed before every child had worked: a machine too busy to tell"] = 1
    outcome.sockets_kept = None if None in kept or not kept else sum(filter(None, kept))
    done = len(times) - outcome.messages.total()
    outcome.tasks_per_second = round(done / (times[-1] - times[0]), 1) if done > 1 else 0.0
    return outcome, is_ours


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lines_of(reader: int, patience: float) -> Iterator[dict[str, Any]]:
    rest = b""
    while select.select([reader], [], [], patience)[0]:
        received = os.read(reader, 65536)
        if not received:
            return
        *lines, rest = (rest + received).split(b"\n")
        yield from map(json.loads, lines)


def execute(url: str, statement: str, **parameters: Any) -> list[int]:
    """Run one statement on an engine of its own and return the numbers it gives."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        # A run whose processes were killed may still hold a lock for a moment; nothing waits for ever.
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        result = connection.execute(text(statement), parameters)
        return [int(number) for number in result.scalars()] if result.returns_rows else []


def main() -> None:
    be_mortal()
    order = json.load(sys.stdin)
    outcomes = {}
    for state, size in order["sizes"].items():
        trial = Trial(RECIPES[order["recipe"]], STATES[state], order["url"], Size(**size))
        try:
            outcomes[state] = asdict(run(trial))
        except SQLAlchemyError as error:
            sys.exit(first_line(error))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
