"""Turns the lab's findings into tables: for a terminal, and in Markdown."""

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from benchmarks.findings import Findings, Result
from benchmarks.outcome import Outcome
from benchmarks.recipes import RECIPES
from benchmarks.states import IDLE, STATES
from benchmarks.verdict import classic_fault, conclusion
from benchmarks.wires import WIRES

WIDTH = 118  # columns of a terminal
HEADINGS = {  # in a terminal: in Markdown
    "recipe": "recipe",
    "child": "errors in children",
    "parent": "errors in the parent",
    "wrong": "wrong answers",
    "hung": "hung",
    "missing": "rows missing",
    "open tx": "parent's open transaction",
    "sockets": "parent's sockets left in children",
    "sessions": "server sessions",
    "tx/s": "transactions/s",
}
EXPLAINED = {
    "wrong": "answers to somebody else's question",
    "hung": "processes that hung or crashed",
    "missing": "rows that were not written, or not kept",
    "open tx": "what became of the transaction that the parent had open while its children worked",
    "sockets": "the parent's PostgreSQL sockets that all its children together still hold when they begin to work",
}
STATES_LEGEND = (
    "clean: nothing of what follows. a+b: errors in children + in the parent; lost: the parent's open transaction; "
    "w: wrong answers; h: hung; m: rows missing with no error to tell of it."
)


@dataclass(frozen=True)
class Table:
    """Cells as plain text; the first column is written to the left, the others to the right."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: str

    def for_terminal(self) -> str:
        lines = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = "\n".join(_aligned(line, widths) for line in lines) if self.rows else ""
        legend = "\n".join(map(_wrapped, self.legend.splitlines()))
        return "\n\n".join(filter(None, [self.title, body, legend]))

    def in_markdown(self) -> str:
        rules = ["---", *["---:"] * (len(self.headings) - 1)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in (self.headings, rules, *self.rows))
        body = body if self.rows else ""
        first, *items = self.legend.splitlines() or [""]
        legend = "\n".join([first, *(["", *(f"* {item}" for item in items)] if items else [])])
        return "\n\n".join(filter(None, [f"### {self.title}", body, legend]))


def terminal(findings: Findings) -> str:
    shown = [
        table.for_terminal() for table in tables(findings, plain_title, {short: short for short in HEADINGS})
    ]
    last = "\n".join(map(_wrapped, _last_words(findings)))
    return "\n\n".join([_wrapped(described(findings)), *shown, last])


def markdown(findings: Findings) -> str:
    shown = [table.in_markdown() for table in tables(findings, title, HEADINGS)]
    heading = "## A database pool meets a fork: what each recipe does"
    return "\n\n".join([heading, described(findings), *shown, "### In words", *_last_words(findings)]) + "\n"


def described(findings: Findings) -> str:
    size = findings.sizes[IDLE]
    return (
        f"A parent with two idle pooled connections forks {size.children} children; each runs {size.tasks_per_child} "
        f"transactions, the parent {size.tasks_of_parent} at the same time. {findings.wires.versions}; "
        f"{findings.cores} cores, {findings.seconds:.0f} seconds. A row shows the worst run of its recipe, and the speed "
        "of the best: a ratio to read, not to quote."
    )


def title(recipe: str) -> str:
    return RECIPES[recipe].title


def plain_title(recipe: str) -> str:
    return RECIPES[recipe].plain_title


def tables(findings: Findings, name: Callable[[str], str], headings: Mapping[str, str]) -> list[Table]:
    made: list[Table] = []
    for wire in WIRES:
        caption = f"Idle connections in the parent, {WIRES[wire]}"
        if wire in findings.wires.left_out:
            made.append(Table(caption, list(headings.values()), [], findings.wires.left_out[wire]))
            continue
        rows = [
            [name(one), *figures(result)]
            for one in findings.recipes
            for result in findings.of(one, IDLE, wire)
        ]
        legend = "" if any(table.rows for table in made) else _legend(headings)
        made.append(Table(caption, list(headings.values()), rows, legend))
    states = [_states(findings, name, wire) for wire in findings.wires.urls]
    return [*made, *states, _messages(findings, name)]


def _legend(headings: Mapping[str, str]) -> str:
    return "; ".join(f"{headings[short]}: {meaning}" for short, meaning in EXPLAINED.items()) + "."


def figures(result: Result) -> list[str]:
    run = result.shown
    return [
        str(sum(run.child_errors.values())),
        str(sum(run.parent_errors.values())),
        str(run.wrong_answers),
        str(run.hung),
        str(run.rows_missing),
        "lost" if run.transaction_lost else "kept",
        "not known" if run.sockets_kept is None else str(run.sockets_kept),
        str(run.sessions),
        str(round(result.speed)),
    ]


def _states(findings: Findings, name: Callable[[str], str], wire: str) -> Table:
    others = [state for state in findings.sizes if state != IDLE]
    rows = [
        [name(recipe), *(cell(findings.shown(recipe, state, wire)[0]) for state in others)]
        for recipe in findings.recipes
    ]
    explained = "; ".join(f"{STATES[state].title}: {STATES[state].explained}" for state in others)
    return Table(
        f"Other states of the parent at the fork, {WIRES[wire]}",
        ["recipe", *(STATES[state].title for state in others)],
        rows,
        f"{STATES_LEGEND} The states: {explained}." if wire == findings.main_wire else "",
    )


def cell(run: Outcome) -> str:
    """One run in a few letters."""
    children, parent = sum(run.child_errors.values()), sum(run.parent_errors.values())
    silent = run.rows_missing if not (children or parent or run.hung) else 0
    parts = [f"{children}+{parent}" if children or parent else "", "lost" if run.transaction_lost else ""]
    parts += [f"{n}{letter}" for n, letter in ((run.wrong_answers, "w"), (run.hung, "h"), (silent, "m")) if n]
    return " ".join(filter(None, parts)) or "clean"


def _messages(findings: Findings, name: Callable[[str], str]) -> Table:
    counted = {recipe: findings.messages(recipe) for recipe in findings.recipes}
    every = sum((children + parent for children, parent in counted.values()), Counter[str]())
    letters = dict(zip(sorted(every), ascii_uppercase + ascii_lowercase, strict=False))
    rows = [
        [name(recipe), *(_both(children[message], parent[message]) for message in letters)]
        for recipe, (children, parent) in counted.items()
    ]
    explained = [f"{letter}: {message}" for message, letter in letters.items()]
    legend = "\n".join(["In children + in the parent, its open transaction included.", *explained])
    return Table(
        "Every error by its message, all states and runs together",
        ["recipe", *letters.values()],
        rows,
        legend,
    )


def _both(children: int, parent: int) -> str:
    return f"{children}+{parent}" if children or parent else "-"


def _last_words(findings: Findings) -> list[str]:
    return [*classic_fault(findings), conclusion(findings)]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([line[0].ljust(widths[0]), *cells])


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, WIDTH)
