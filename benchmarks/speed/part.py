"""What one part of the benchmark has found: tables, figures, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.report import Table
from benchmarks.speed.chart import Chart


@dataclass(frozen=True)
class Part:
    name: str
    tables: Sequence[Table]
    figures: Mapping[str, object]
    charts: Mapping[str, Chart] = field(default_factory=dict)
    notes: Sequence[str] = ()  # what could not be measured, and why
    wrong: Sequence[str] = ()  # what was measured and may not be
