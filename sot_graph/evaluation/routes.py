"""How well a router decides labelled questions: a confusion table, and how sure it is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sot_graph.evaluation.labelled import Labelled

HALF = 0.5
Rows = list[list[str]]
"""The header and the lines of a table."""


@dataclass(frozen=True)
class Decided:
    """A labelled question, and how likely a router thinks that it suits an outline."""

    labelled: Labelled
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the likelier of both ways is the label's."""
        return (self.probability > HALF) == self.labelled.suits

    @property
    def certainty(self) -> float:
        """How certain the router is of the likelier way."""
        return max(self.probability, 1 - self.probability)


def confusion_rows(decided: Sequence[Decided]) -> Rows:
    """Both ways in rows and columns, with how many questions are where."""

    def count(*, suits: bool, outline: bool) -> str:
        return f"{sum(each.labelled.suits == suits and (each.probability > HALF) == outline for each in decided)}"

    lines = (("suits an outline", True), ("does not", False))
    return [
        ["", "outline", "direct"],
        *([name, count(suits=suits, outline=True), count(suits=suits, outline=False)] for name, suits in lines),
    ]


def part_rows(decided: Sequence[Decided], threshold: float, name: str, part: Callable[[Labelled], str | None]) -> Rows:
    """For each kind, or each language, of question: how many there are, are right, are sure, and right among the sure.

    Empty unless the questions have at least two of them.
    """
    parts = list(dict.fromkeys(part(each.labelled) or "" for each in decided))
    if len(parts) < 2:  # noqa: PLR2004 - one part is the whole
        return []
    rows = [[name, "questions", "right", "sure", "right if sure"]]
    for each in parts:
        own = [one for one in decided if (part(one.labelled) or "") == each]
        sure = _sure(own, threshold)
        rows.append([each or "(none)", f"{len(own)}", _share(own), _part(len(sure), len(own)), _share(sure)])
    return rows


def notes(decided: Sequence[Decided], threshold: float) -> list[str]:
    """The figures below the table, as sentences."""
    sure = _sure(decided, threshold)
    right = sum(each.is_right for each in decided)
    left = len(decided) - len(sure)
    right_if_sure = f"{sum(each.is_right for each in sure)} are right ({_share(sure)})"
    return [
        f"{right} of {len(decided)} right ({_share(decided)}), {len(decided) - right} wrong",
        f"sure of {len(sure)} ({_part(len(sure), len(decided))}, threshold {threshold:g}), of which {right_if_sure}",
        f"{left} left to the outline's call ({_part(left, len(decided))})",
    ]


def wrong_lines(decided: Iterable[Decided], threshold: float) -> list[str]:
    """The questions on which the router is wrong, the surest first."""
    wrong = sorted((each for each in decided if not each.is_right), key=lambda each: -each.certainty)
    return [
        f"{each.probability:.2f} {'suits' if each.labelled.suits else 'does not suit'}"
        f"{'' if each.certainty >= threshold else ' (left to the call)'}: {each.labelled.question}"
        for each in wrong
    ]


def _sure(decided: Iterable[Decided], threshold: float) -> list[Decided]:
    return [each for each in decided if each.certainty >= threshold]


def _share(decided: Sequence[Decided]) -> str:
    return _part(sum(each.is_right for each in decided), len(decided))


def _part(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"
