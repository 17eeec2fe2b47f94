"""Figures of things that were run side by side, in rounds: their medians, how far they spread, and their ratios."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Rounds:
    """One kind of figure: for each row one number for each round, all rows in the same order in every round."""

    unit: str
    base: str  # the row that the others are compared with
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, row: str, figure: float) -> None:
        self.figures.setdefault(row, []).append(figure)

    def middle(self, row: str) -> float:
        return median(self.figures[row])

    def spread(self, row: str) -> tuple[float, float]:
        return min(self.figures[row]), max(self.figures[row])

    def ratio(self, row: str) -> float:
        """Return the median of the ratios to the base, each taken within one round: what disturbs a round disturbs both."""
        pairs = zip(self.figures[row], self.figures[self.base], strict=True)
        return median(one / other for one, other in pairs)

    def cells(self, row: str) -> list[str]:
        """Return median, spread and ratio as a table shows them."""
        least, most = self.spread(row)
        return [shown(self.middle(row)), f"{shown(least)} to {shown(most)}", f"{self.ratio(row):.2f}"]

    def as_json(self) -> dict[str, object]:
        rows = {
            row: {
                "rounds": rounded(figures),
                "median": rounded([self.middle(row)])[0],
                "ratio": self.ratio(row),
            }
            for row, figures in self.figures.items()
        }
        return {"unit": self.unit, "base": self.base, "rows": rows}


def shown(figure: float) -> str:
    """Write a figure with about three digits: the rest is noise."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def rounded(figures: Sequence[float]) -> list[float]:
    return [round(figure, 3) for figure in figures]


def interleaved(
    variants: Mapping[str, Callable[[], float]], rounds: int, tell: Callable[[str], None]
) -> Iterator[tuple[str, float]]:
    """Yield every variant's figure, once in each round: A B C, A B C, and so on."""
    for number in range(rounds):
        for name, measure in variants.items():
            figure = measure()
            tell(f"  round {number + 1} of {rounds}: {name}: {shown(figure)}")
            yield name, figure
