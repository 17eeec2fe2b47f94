"""Figures of things that were run side by side, in rounds: their medians, how far they spread, and their ratios."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

HEADINGS = ("of the rounds", "ratio", "ratios of the rounds")  # after the unit


@dataclass
class Rounds:
    """One kind of figure: for each row one number for each round."""

    unit: str
    base: str  # the row that the others are compared with
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, row: str, figure: float) -> None:
        self.figures.setdefault(row, []).append(figure)

    def middle(self, row: str) -> float:
        return median(self.figures[row])

    def spread(self, row: str) -> tuple[float, float]:
        return min(self.figures[row]), max(self.figures[row])

    def ratios(self, row: str) -> list[float]:
        """Return the ratios to the base, each taken within one round."""
        return [one / other for one, other in zip(self.figures[row], self.figures[self.base], strict=True)]

    def ratio(self, row: str) -> float:
        return median(self.ratios(row))

    def cells(self, row: str) -> list[str]:
        """Return what a table shows under HEADINGS."""
        least, most = self.spread(row)
        ratios = self.ratios(row)
        apart = f"{min(ratios):.2f} to {max(ratios):.2f}"
        return [shown(self.middle(row)), f"{shown(least)} to {shown(most)}", f"{self.ratio(row):.2f}", apart]

    def as_json(self) -> dict[str, object]:
        rows = {
            row: {
                "rounds": rounded(figures),
                "median": rounded([self.middle(row)])[0],
                "ratio": self.ratio(row),
                "ratios": rounded(self.ratios(row)),
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
    """Yield every variant's figure, once in each round."""
    for number in range(rounds):
        for name in turned(list(variants), number):
            figure = variants[name]()
            tell(f"  round {number + 1} of {rounds}: {name}: {shown(figure)}")
            yield name, figure


def turned(names: Sequence[str], number: int) -> Sequence[str]:
    """Return the order of a round, A B C, B C A, C A B, and so on: nobody always comes after the same one."""
    first = number % len(names)
    return [*names[first:], *names[:first]]
