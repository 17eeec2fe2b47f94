"""Turns the lab's results into a table for a terminal and one for the README."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.recipes import RECIPES
from benchmarks.workload import Outcome

COLUMNS = {  # heading in a terminal: heading in the README
    "recipe": "recipe",
    "children": "errors in children",
    "parent": "errors in the parent",
    "wrong": "wrong answers",
    "missing": "rows missing",
    "sessions": "server sessions",
    "tx/s": "transactions/s",
    "sockets": "parent's sockets left in children",
    "open tx": "parent's open transaction",
    "wrong*": "without TLS: wrong answers",
    "errors*": "without TLS: errors",
    "hung*": "without TLS: hung",
}


@dataclass(frozen=True)
class Result:
    """One recipe's row: a run over TLS and one or more without it."""

    recipe: str
    tls: Outcome
    plain: Sequence[Outcome]
    transaction_error: str | None

    @property
    def runs_until_wrong(self) -> int | None:
        """How many runs without TLS it took until an answer was wrong; None if none was."""
        wrong = (number for number, run in enumerate(self.plain, 1) if run.wrong_answers)
        return next(wrong, None)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "runs_until_wrong": self.runs_until_wrong}


def row(result: Result) -> list[str]:
    tls, plain = result.tls, result.plain
    figures = [
        tls.child_errors,
        tls.parent_errors,
        tls.wrong_answers,
        tls.rows_missing,
        tls.sessions,
        round(tls.tasks_per_second),
        tls.sockets_kept,
        "lost" if result.transaction_error else "kept",
        sum(run.wrong_answers for run in plain),
        sum(run.child_errors + run.parent_errors for run in plain),
        sum(run.hung for run in plain),
    ]
    return [RECIPES[result.recipe].title, *map(str, figures)]


def table(results: Sequence[Result]) -> str:
    """For a terminal; the columns with a star are those without TLS."""
    lines = [list(COLUMNS), *(row(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([*(aligned(line, widths) for line in lines), "", "* without TLS", "", *notes(results)])


def aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([line[0].ljust(widths[0]), *cells])


def markdown(results: Sequence[Result]) -> str:
    lines = [COLUMNS.values(), ["---", *["---:"] * (len(COLUMNS) - 1)], *(row(result) for result in results)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *notes(results), ""])


def notes(results: Iterable[Result]) -> list[str]:
    """What the figures alone do not tell: the messages, and how long the wrong answers took to come."""
    said = []
    for result in results:
        title = RECIPES[result.recipe].title
        if result.transaction_error:
            said.append(f"* {title}, the parent's open transaction: `{result.transaction_error}`.")
        if result.tls.hung:
            said.append(f"* {title}: {result.tls.hung} processes hung over TLS and were killed.")
        for where, runs in (("over TLS", [result.tls]), ("without TLS", result.plain)):
            messages = dict.fromkeys(message for run in runs for message in run.messages)
            if messages:
                said.append(f"* {title}, {where}: {'; '.join(f'`{message}`' for message in messages)}.")
        if len(result.plain) > 1 or result.runs_until_wrong:
            came = f"in run {result.runs_until_wrong}" if result.runs_until_wrong else "in none"
            said.append(f"* {title}, without TLS: wrong answers came {came} of {len(result.plain)}.")
    return said
