"""What one run is asked to do, and what it gave."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.transaction import NEVER_FINISHED

PARENT = 0  # the number of the parent among the workers


@dataclass(frozen=True)
class Size:
    """How much work a run is; after `patience` seconds without a word from anybody, who still works counts as hung."""

    children: int = 4
    tasks_per_child: int = 250
    tasks_of_parent: int = 100
    patience: float = 3.0

    @property
    def tasks(self) -> int:
        return self.children * self.tasks_per_child + self.tasks_of_parent


@dataclass
class Outcome:
    """What one run gave. Messages are the first lines of the errors, with how often each came."""

    child_errors: dict[str, int] = field(default_factory=dict)
    parent_errors: dict[str, int] = field(default_factory=dict)
    wrong_answers: int = 0
    hung: int = 0
    rows_missing: int = 0
    transaction_lost: str | None = NEVER_FINISHED  # how; None if the parent's open transaction stood
    sockets_kept: int | None = None  # of the parent's, in all its children together; None: not known
    sessions: int = 0
    tasks_per_second: float = 0.0

    @property
    def messages(self) -> Counter[str]:
        return Counter(self.child_errors) + Counter(self.parent_errors)

    @property
    def is_clean(self) -> bool:
        """True if nothing went wrong; sockets that were merely kept are no fault yet."""
        return not any(self.badness)

    @property
    def badness(self) -> tuple[int, ...]:
        """The greater of two is the worse run; wrong answers are the worst."""
        return (
            self.wrong_answers,
            self.hung,
            self.messages.total(),
            self.rows_missing,
            bool(self.transaction_lost),
        )

    def add(self, said: dict[str, Any]) -> None:
        """Count what a worker tells of one of its tasks."""
        if "error" not in said:
            self.wrong_answers += not said["right"]
            return
        errors = self.parent_errors if said["worker"] == PARENT else self.child_errors
        errors[said["error"]] = errors.get(said["error"], 0) + 1
