"""What the lab found: every run of every recipe, and the questions that tables, picture and verdict ask of them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.outcome import Outcome, Size
from benchmarks.states import IDLE, STATES
from benchmarks.wires import PLAIN, TLS, Wires


@dataclass(frozen=True)
class Result:
    """One recipe in one state of the parent on one wire, in one run or more."""

    recipe: str
    state: str
    wire: str
    tries: list[Outcome]

    @property
    def shown(self) -> Outcome:
        """The worst run is the one to show."""
        return max(self.tries, key=lambda outcome: outcome.badness)

    @property
    def speed(self) -> float:
        """Transactions per second, of the fastest run: the others shared the machine with somebody."""
        return max(outcome.tasks_per_second for outcome in self.tries)


@dataclass
class Findings:
    wires: Wires
    sizes: Mapping[str, Size]
    cores: int
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def recipes(self) -> list[str]:
        return list(dict.fromkeys(result.recipe for result in self.results))

    @property
    def main_wire(self) -> str:
        """The wire whose speed counts."""
        return TLS if TLS in self.wires.urls else PLAIN

    def of(self, recipe: str, state: str | None = None, wire: str | None = None) -> Iterator[Result]:
        """Yield the recipe's results, all or those in one state or on one wire."""
        for result in self.results:
            if result.recipe == recipe and state in {None, result.state} and wire in {None, result.wire}:
                yield result

    def shown(self, recipe: str, state: str | None = None, wire: str | None = None) -> list[Outcome]:
        return [result.shown for result in self.of(recipe, state, wire)]

    def tries(self, recipe: str, wire: str) -> Sequence[Outcome]:
        """Return all runs with idle connections, which are those that may be repeated."""
        return [outcome for result in self.of(recipe, IDLE, wire) for outcome in result.tries]

    def is_clean(self, recipe: str, state: str | None = None) -> bool:
        return all(outcome.is_clean for result in self.of(recipe, state) for outcome in result.tries)

    def sockets_kept(self, recipe: str, state: str | None = None, wire: str | None = None) -> int | None:
        """Sum up the most that any run kept; None if it is not known."""
        results = list(self.of(recipe, state, wire))
        if not results or any(run.sockets_kept is None for result in results for run in result.tries):
            return None
        return sum(max(run.sockets_kept or 0 for run in result.tries) for result in results)

    def speed(self, recipe: str) -> float:
        """Transactions per second with idle connections."""
        return next((result.speed for result in self.of(recipe, IDLE, self.main_wire)), 0.0)

    def messages(self, recipe: str) -> tuple[Counter[str], Counter[str]]:
        """Return how often each came in children and in the parent, its open transaction included, in all runs."""
        runs = [outcome for result in self.of(recipe) for outcome in result.tries]
        children = sum((Counter(run.child_errors) for run in runs), Counter[str]())
        parent = sum((Counter(run.parent_errors) for run in runs), Counter[str]())
        parent.update(run.transaction_lost for run in runs if run.transaction_lost)
        return children, parent

    def as_json(self, verdict: str) -> dict[str, Any]:
        return {
            "versions": self.wires.versions,
            "cores": self.cores,
            "seconds": round(self.seconds),
            "left_out": dict(self.wires.left_out),
            "states": {name: state.explained for name, state in STATES.items()},
            "sizes": {state: asdict(size) for state, size in self.sizes.items()},
            "verdict": verdict,
            "results": [asdict(result) for result in self.results],
        }
