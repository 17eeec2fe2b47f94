"""Draws one kind of figure as bars in SVG: readable on light and on dark pages, and without colours."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.speed.rounds import Rounds, shown

MARGIN, TITLE, BARS, FIGURE, ROW, HEAD, FOOT = 16, 310, 380, 150, 30, 58, 40  # pixels

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; fill: #1f2328 }
.card { fill: #ffffff; stroke: #d0d7de } .line { stroke: #d8dee4 } .ours { fill: #eef4fc }
.head { font-size: 12px; fill: #59636e } .title { font-size: 16px; font-weight: 600 } .strong { font-weight: 600 }
.bar { fill: #a8b5c4 } .bar.base { fill: #3b78c9 } .spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .card { fill: #0d1117; stroke: #3d444d } .line { stroke: #2a313c } .ours { fill: #15233a }
.head { fill: #9198a1 } .bar { fill: #55606e } .bar.base { fill: #4a8be0 } .spread { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True)
class Chart:
    """Bars from nothing to each row's median, with a line from its least to its most; `ours` is set off."""

    title: str
    rounds: Rounds
    ours: str

    def drawn(self) -> str:
        rows = list(self.rounds.figures)
        width = 2 * MARGIN + TITLE + BARS + FIGURE
        height = HEAD + len(rows) * ROW + FOOT
        box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            _text(MARGIN, 32, self.title, "title"),
        ]
        for number, row in enumerate(rows):
            parts += self._row(HEAD + number * ROW, row)
        words = f"Bar: the median of the rounds, in {self.rounds.unit}; line: the least and the most. In brackets: the ratio "
        parts.append(_text(MARGIN, HEAD + len(rows) * ROW + 24, f"{words}to “{self.rounds.base}”.", "head"))
        return "\n".join([*parts, "</svg>", ""])

    def _row(self, top: int, row: str) -> Iterator[str]:
        width, ours = TITLE + BARS + FIGURE, row == self.ours
        if ours:
            yield f'<rect class="ours" x="{MARGIN - 8}" y="{top}" width="{width + 16}" height="{ROW}" rx="4"/>'
        yield f'<line class="line" x1="{MARGIN}" y1="{top}" x2="{MARGIN + width}" y2="{top}"/>'
        yield _text(MARGIN, top + 20, row, "strong" if ours else "")
        left, least, most = MARGIN + TITLE, *map(self._long, self.rounds.spread(row))
        long = self._long(self.rounds.middle(row))
        kind = "bar base" if ours else "bar"
        yield f'<rect class="{kind}" x="{left}" y="{top + 7}" width="{long:.1f}" height="{ROW - 14}" rx="3"/>'
        middle = top + ROW / 2
        yield f'<line class="spread" x1="{left + least:.1f}" y1="{middle}" x2="{left + most:.1f}" y2="{middle}"/>'
        figure = f"{shown(self.rounds.middle(row))}  ({self.rounds.ratio(row):.2f})"
        yield _text(MARGIN + width, top + 20, figure, "strong" if ours else "", anchor="end")

    def _long(self, figure: float) -> float:
        """Return how many pixels a figure is long; the greatest fills the space."""
        return figure / max(max(figures) for figures in self.rounds.figures.values()) * BARS


def _text(x: int, y: int, words: str, kind: str = "", anchor: str = "start") -> str:
    kinds = f' class="{kind}"' if kind else ""
    return f'<text{kinds} x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
