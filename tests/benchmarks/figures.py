"""What all sections share: medians with quartiles, tables, and targets that are met or not."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median of several measurements, with their quartiles."""

    low: float
    median: float
    high: float

    def shown(self, digits: int = 2) -> str:
        if self.low == self.high:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def spread(values: Iterable[float]) -> Spread:
    """The quartiles of one value or more."""
    found = [*values]
    if len(found) == 1:
        found *= 2
    return Spread(*statistics.quantiles(found, n=4, method="inclusive"))


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """How many times the one is the other, round by round: both met the same noise."""
    return spread(one / other for one, other in zip(above, below, strict=True))


def of_median(above: Sequence[float], below: Sequence[float]) -> Spread:
    """How many times the one is the other's median: of what did not take turns."""
    return spread(one / spread(below).median for one in above)


def column(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """One figure of all rounds."""
    return [row[name] for row in rows]


class Target(NamedTuple):
    """A bound for a figure; without a bound the figure is told, and judged by nobody."""

    name: str
    measured: Spread
    bound: float | None
    at_most: bool = True

    @property
    def is_met(self) -> bool | None:
        if self.bound is None:
            return None
        return self.measured.median <= self.bound if self.at_most else self.measured.median >= self.bound

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "MISSED"}[self.is_met]

    @property
    def wanted(self) -> str:
        return "" if self.bound is None else f"{'at most' if self.at_most else 'at least'} {self.bound:g}"


@dataclass
class Table:
    """A table for people, in plain text."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def text(self) -> str:
        """The first column to the left, the others to the right."""
        lines = [[str(cell) for cell in row] for row in [self.columns, *self.rows]]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join([self.title, "", *(_aligned(line, widths) for line in lines), ""])


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


@dataclass
class Section:
    """What one section has measured."""

    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """The same as in the tables, each as a `Spread` or a number, for a machine."""


def targets_table(targets: Sequence[Target]) -> Table:
    rows = [(each.name, each.wanted, each.measured.shown(), each.verdict) for each in targets]
    return Table("Targets: medians (quartiles)", ("target", "wanted", "measured", ""), [*rows])


def as_json(value: Any) -> Any:
    """Figures as JSON has them: a spread as an object, a target with its verdict."""
    if isinstance(value, Target):
        return {**as_json(value._asdict()), "is_met": value.is_met}
    if isinstance(value, Spread):
        return {name: round(each, 6) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list | tuple) else value
