"""Measures side by side what a fork does to a connection pool, over TLS and without: `python -m benchmarks.lab`."""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import URL, make_url

from benchmarks.open_transaction import lost_to_a_child
from benchmarks.recipes import RECIPES
from benchmarks.report import Result, markdown, table
from benchmarks.workload import Outcome, Size, measure
from local.servers import throwaway

WHOLE, QUICK = Size(), Size(tasks_per_child=40, tasks_of_parent=20, patience=2)
TRIES = 5  # runs without TLS in which the plain inheritance may show its wrong answers


def main() -> None:
    options = parsed()
    size = QUICK if options.quick else WHOLE
    began = time.monotonic()
    with throwaway(plaintext=True) as servers:
        results = [result for name in RECIPES for result in measured(name, servers.owner_url, size)]
    print(f"\n{described(size)}\n\n{table(results)}\n\n{time.monotonic() - began:.0f} seconds")
    if options.json:
        record = {"size": asdict(size), "results": [result.as_json() for result in results]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(f"{described(size)}\n\n{markdown(results)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE")
    parser.add_argument("--quick", action="store_true", help="fewer transactions and less patience")
    return parser.parse_args()


def described(size: Size) -> str:
    return (
        f"A parent with two idle pooled connections forks {size.children} children; each runs {size.tasks_per_child} "
        f"transactions, the parent {size.tasks_of_parent} at the same time. One run; a ratio to read, not a speed to quote. "
        "Open transaction: the parent inserts, forks a child that calls `Session.remove()` and works, then commits."
    )


def measured(name: str, url: str, size: Size) -> Iterator[Result]:
    with_tls = make_url(url).set(drivername="postgresql+psycopg2")
    without = with_tls.set(query={"sslmode": "disable"})
    print(f"{RECIPES[name].title} ...", flush=True)
    tls = measure(name, shown(with_tls), size)
    plain = list(plain_runs(name, shown(without), size))
    yield Result(name, tls, plain, lost_to_a_child(name, shown(with_tls)))


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def plain_runs(name: str, url: str, size: Size) -> Iterator[Outcome]:
    """One run; for plain inheritance, whose wrong answers are a matter of luck, several until one comes."""
    for _ in range(TRIES if name == "inherit" else 1):
        outcome = measure(name, url, size)
        yield outcome
        if outcome.wrong_answers:
            return


if __name__ == "__main__":
    main()
