"""Measures side by side what a fork does to a connection pool, over TLS and without: `python -m benchmarks.lab`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import psycopg2
from sqlalchemy.exc import ArgumentError

from benchmarks import picture, report, verdict
from benchmarks.classic import NAMES, named
from benchmarks.findings import Findings, Result
from benchmarks.options import writable
from benchmarks.outcome import Outcome, Size
from benchmarks.recipes import RECIPES
from benchmarks.states import IDLE, STATES
from benchmarks.wires import PLAIN, TLS, NoWire, open_ways
from benchmarks.workload import BrokenOff, measure, measure_each
from local import endings
from local.account import NoAccount
from local.discovery import NoServer
from local.process import NotStarted
from local.servers import throwaway

# One child is enough to end a transaction that is not its own; more would only make luck of who finds out.
ONE_CHILD, TWO_CHILDREN = Size(1, 20, 10), Size(2, 40, 20)
WHOLE = {
    state: Size() if state == IDLE else TWO_CHILDREN if STATES[state].second_engine else ONE_CHILD
    for state in STATES
}
_FEWER = WHOLE | {IDLE: Size(tasks_per_child=40, tasks_of_parent=20)}
QUICK = {state: replace(size, patience=2.0) for state, size in _FEWER.items()}
# The fault is a matter of luck: so many runs of plain inheritance may be made until it has shown all it is known for.
TRIES = {TLS: 10, PLAIN: 5}
SPEED_RUNS, QUICK_ENOUGH = 3, 500  # runs; transactions/s from which another run costs little
ENOUGH_SECONDS = 200  # a machine this slow measures no speed worth repeating
REFUSED, INTERRUPTED = 2, 130


def main() -> int:
    options = parsed()
    endings.heed()
    try:
        with throwaway(plaintext=True) as servers:
            findings = experiment(servers.owner_url, options)
        publish(findings, options)
    except (
        NoServer,
        NoAccount,
        NotStarted,
        NoWire,
        BrokenOff,
        psycopg2.OperationalError,
        OSError,
    ) as problem:
        print(f"The lab cannot run: {problem}", file=sys.stderr)
        return REFUSED
    except ArgumentError:  # its own text may hold a password
        print(
            "The lab cannot run: DATABASE_URL is no URL like postgresql://user:password@host:5432/database",
            file=sys.stderr,
        )
        return REFUSED
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    return 0 if verdict.passed(findings) else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab", description=__doc__)
    parser.add_argument("--json", type=writable, metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--markdown", type=writable, metavar="FILE", help="write the tables to FILE")
    parser.add_argument("--svg", type=writable, metavar="FILE", help="write a picture to FILE")
    parser.add_argument("--quick", action="store_true", help="fewer transactions")
    parser.add_argument(
        "--only", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="RECIPE", help=", ".join(RECIPES)
    )
    return parser.parse_args()


def experiment(database_url: str, options: argparse.Namespace) -> Findings:
    began = time.monotonic()
    findings = Findings(open_ways(database_url), QUICK if options.quick else WHOLE, os.cpu_count() or 1)
    print(
        *findings.wires.left_out.values(), sep="\n", end="\n" if findings.wires.left_out else "", flush=True
    )
    for recipe in dict.fromkeys(options.only):
        print(f"{RECIPES[recipe].plain_title} ...", flush=True)
        for wire in findings.wires.urls:
            findings.results += measured(findings, recipe, wire)
    for _ in range(0 if options.quick else SPEED_RUNS - 1):
        if time.monotonic() - began < ENOUGH_SECONDS:
            measure_speed_again(findings)
    findings.seconds = time.monotonic() - began
    return findings


def measured(findings: Findings, recipe: str, wire: str) -> Iterator[Result]:
    url, sizes = findings.wires.urls[wire], dict(findings.sizes)
    idle = sizes.pop(IDLE)
    yield Result(recipe, IDLE, wire, list(runs(recipe, wire, lambda: measure(recipe, url, idle))))
    for state, outcome in measure_each(recipe, url, sizes).items():
        yield Result(recipe, state, wire, [outcome])


def runs(recipe: str, wire: str, one_run: Callable[[], Outcome]) -> Iterator[Outcome]:
    """One run; for plain inheritance several, until all that it is known for has come."""
    made: list[Outcome] = []
    for _ in range(TRIES[wire] if recipe == verdict.CONTROL else 1):
        made.append(one_run())
        yield made[-1]
        if has_shown_all(wire, made):
            return


def measure_speed_again(findings: Findings) -> None:
    """Run once more what is quick, at another moment: whatever else this machine does may have passed."""
    wire = findings.main_wire
    for result in findings.results:
        is_idle = (result.state, result.wire) == (IDLE, wire)
        if is_idle and result.recipe != verdict.CONTROL and result.speed > QUICK_ENOUGH:
            result.tries.append(measure(result.recipe, findings.wires.urls[wire], findings.sizes[IDLE]))


def has_shown_all(wire: str, made: Sequence[Outcome]) -> bool:
    if wire == PLAIN:
        return bool(made[-1].wrong_answers)
    return len(named(message for run in made for message in run.messages)) == len(NAMES)


def publish(findings: Findings, options: argparse.Namespace) -> None:
    if options.json:
        record = findings.as_json(verdict.conclusion(findings))
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(findings))
    if options.svg:
        options.svg.write_text(picture.drawn(findings))
    print(f"\n{report.terminal(findings)}")


if __name__ == "__main__":
    sys.exit(main())
