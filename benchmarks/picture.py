"""Draws the lab's findings as a small matrix in SVG: readable on light and on dark pages, and without colours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from xml.sax.saxutils import escape

from benchmarks.findings import Findings
from benchmarks.outcome import Outcome
from benchmarks.recipes import RECIPES
from benchmarks.states import IDLE, STATES
from benchmarks.verdict import OURS
from benchmarks.wires import WIRES

MARGIN, TITLE, COLUMN, ROW, HEAD, FOOT = 16, 296, 94, 28, 96, 58  # pixels
HEADINGS = (
    ("errors in", "children"),
    ("errors in", "the parent"),
    ("wrong", "answers"),
    ("hung", "processes"),
    ("transaction", "open at the fork"),
    ("a second", "engine"),
    ("parent's", "sockets left"),
    ("speed", ""),
)
SLOW = 0.25  # of the fastest; what is nearer may be noise

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; fill: #1f2328 }
.card { fill: #ffffff; stroke: #d0d7de } .line { stroke: #d8dee4 } .ours { fill: #eef4fc }
.head { font-size: 12px; fill: #59636e } .title { font-size: 16px; font-weight: 600 } .strong { font-weight: 600 }
.good { fill: #dafbe1 } .bad { fill: #ffe2df } .unknown { fill: #eaeef2 }
.mark { fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round }
.mark.good { stroke: #1a7f37; fill: none } .mark.bad { stroke: #cf222e; fill: none }
.mark.unknown { stroke: #59636e; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .card { fill: #0d1117; stroke: #3d444d } .line { stroke: #2a313c } .ours { fill: #15233a }
.head { fill: #9198a1 } .good { fill: #12361f } .bad { fill: #4a1b1b } .unknown { fill: #262c36 }
.mark.good { stroke: #3fb950 } .mark.bad { stroke: #ff7b72 } .mark.unknown { stroke: #9198a1 }
}
"""


class Kind(Enum):
    """How a cell is meant; the value is its mark, drawn in a square of ten pixels: no font need have it."""

    good = "M1 5.5 L4 8.5 L9 2"
    bad = "M2 2 L8 8 M8 2 L2 8"
    unknown = "M2 5 L8 5"


@dataclass(frozen=True)
class Cell:
    kind: Kind
    text: str


def drawn(findings: Findings) -> str:
    """Return the whole picture; Haulage's row is set off from the others."""
    recipes = findings.recipes
    width = 2 * MARGIN + TITLE + len(HEADINGS) * COLUMN
    height = HEAD + len(recipes) * ROW + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<title>What each recipe does when a database pool meets a fork</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        _text(MARGIN, 30, "A database pool meets a fork: what each recipe does", "title"),
        *_headings(),
    ]
    for number, recipe in enumerate(recipes):
        parts += _row(
            HEAD + number * ROW, RECIPES[recipe].plain_title, cells(findings, recipe), recipe == OURS
        )
    below = HEAD + len(recipes) * ROW
    parts += [
        _text(MARGIN, below + 24 + 17 * at, line, "head") for at, line in enumerate(_explained(findings))
    ]
    return "\n".join([*parts, "</svg>", ""])


def cells(findings: Findings, recipe: str) -> list[Cell]:
    """Return one cell for each heading."""
    idle = findings.shown(recipe, IDLE)
    open_at_fork = [run for state in STATES if STATES[state].begin for run in findings.shown(recipe, state)]
    return [
        _count(sum(sum(run.child_errors.values()) for run in idle)),
        _count(sum(sum(run.parent_errors.values()) for run in idle)),
        _count(sum(run.wrong_answers for run in idle)),
        _count(sum(run.hung for run in idle)),
        _transaction(open_at_fork),
        _second(findings.shown(recipe, "second")),
        _count(findings.sockets_kept(recipe, IDLE, findings.main_wire)),
        _speed(findings, recipe),
    ]


def _count(number: int | None) -> Cell:
    if number is None:
        return Cell(Kind.unknown, "not known")
    return Cell(Kind.bad, str(number)) if number else Cell(Kind.good, "none")


def _transaction(runs: Sequence[Outcome]) -> Cell:
    lost = sum(run.transaction_lost is not None for run in runs)
    return Cell(Kind.bad, f"lost {lost}/{len(runs)}") if lost else Cell(Kind.good, "kept")


def _second(runs: Sequence[Outcome]) -> Cell:
    return Cell(Kind.good, "safe") if all(run.is_clean for run in runs) else Cell(Kind.bad, "broken")


def _speed(findings: Findings, recipe: str) -> Cell:
    fastest = max(map(findings.speed, findings.recipes))
    if not fastest:
        return Cell(Kind.unknown, "not known")
    share = findings.speed(recipe) / fastest
    return Cell(Kind.good if share >= SLOW else Kind.bad, f"{share:.0%}")


def _headings() -> Iterator[str]:
    for number, lines in enumerate(HEADINGS):
        middle = MARGIN + TITLE + number * COLUMN + COLUMN // 2
        for at, line in enumerate(filter(None, lines)):
            yield _text(middle, 62 + 16 * at, line, "head", anchor="middle")


def _row(top: int, name: str, row: Sequence[Cell], ours: bool) -> Iterator[str]:
    width = TITLE + len(row) * COLUMN
    if ours:
        yield f'<rect class="ours" x="{MARGIN - 8}" y="{top}" width="{width + 16}" height="{ROW}" rx="4"/>'
    yield f'<line class="line" x1="{MARGIN}" y1="{top}" x2="{MARGIN + width}" y2="{top}"/>'
    yield _text(MARGIN, top + 19, name, "strong" if ours else "")
    for number, cell in enumerate(row):
        yield from _cell(MARGIN + TITLE + number * COLUMN + 4, top + 3, cell)


def _cell(left: int, top: int, cell: Cell) -> Iterator[str]:
    kind, wide, high = cell.kind.name, COLUMN - 8, ROW - 6
    yield f'<rect class="{kind}" x="{left}" y="{top}" width="{wide}" height="{high}" rx="4"/>'
    yield f'<path class="mark {kind}" transform="translate({left + 6} {top + 6})" d="{cell.kind.value}"/>'
    yield _text(left + 21, top + 16, cell.text)


def _explained(findings: Findings) -> Iterator[str]:
    wires = " and ".join(WIRES[wire] for wire in findings.wires.urls)
    yield (
        f"Errors, wrong answers, hung: idle connections in the parent, {wires} together. Transaction: the child lets go "
        "of it, closes it, removes it."
    )
    yield (
        f"Sockets and speed: {WIRES[findings.main_wire]}, four children; speed against the fastest. "
        f"{findings.wires.versions}."
    )


def _text(x: int, y: int, words: str, kind: str = "", anchor: str = "start") -> str:
    kinds = f' class="{kind}"' if kind else ""
    return f'<text{kinds} x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
