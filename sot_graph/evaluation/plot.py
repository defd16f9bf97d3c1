"""The summary of a comparison as an SVG picture: speed-up by category, and verdicts by aspect."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import svg

from sot_graph.evaluation.drawing import BASE_STYLE, clean, style, text, ticks, vertical_line
from sot_graph.evaluation.judge import OUTCOMES
from sot_graph.evaluation.sides import sides
from sot_graph.evaluation.summary import groups
from sot_graph.evaluation.text import fit, one_line

WIDTH, LEFT, RIGHT, FIGURES, LETTERS = 900, 200, 606, 648, 24
"""The width of the picture, where bars begin and end, where figures begin, and the maximum length of a name."""
HEAD, ROW, ASPECT, GAP = 76, 24, 40, 84
"""The heights of the header, of a row in each chart, and of the gap between the charts."""
BAR, INTERVALS, CAP = 14, (20, 26), 2
"""The height of a bar of verdicts, the distance of the intervals below its top, and half the height of their ends."""
INTERVAL_NOTE = "Lines: 95 % intervals of where the bar of wins ends, and of where that of losses begins."
STYLE = """
.spread { stroke: $call; stroke-width: 6; stroke-linecap: round; opacity: .45 }
.median { fill: $call }
.even { stroke: $dim; stroke-dasharray: 4 3 }
.win { fill: $call }
.tie { fill: $grid }
.lose { fill: $retry }
.interval { fill: none; stroke-width: 2 }
.interval.win { stroke: $call }
.interval.lose { stroke: $retry }
"""


def summary_svg(summary: Mapping[str, Any]) -> str:
    """Draw a summary as an SVG picture for light and dark themes.

    Args:
        summary: The result of `summarize_comparisons`.
    """
    rows, verdicts, names = groups(summary), summary["verdicts"], sides(summary["settings"])
    below = HEAD + ROW * len(rows)
    height = below + (GAP + ASPECT * len(verdicts) + 40 if verdicts else 24)
    elements: list[svg.Element] = [
        svg.Title(text=clean(names.title)),
        svg.Style(text=style(BASE_STYLE + STYLE)),
        svg.Rect(width=WIDTH, height=height, class_=["page"]),
        text(16, 28, f"Speed-up: {names.speed_up}", "head"),
        *_speed_ups(rows, below),
        *_verdicts(verdicts, f"Verdicts: {names.answers[1]} against {names.answers[0]}", below + GAP),
    ]
    return str(svg.SVG(width=WIDTH, height=height, viewBox=svg.ViewBoxSpec(0, 0, WIDTH, height), elements=elements))


def _speed_ups(rows: Sequence[tuple[str, Any]], bottom: float) -> Iterator[svg.Element]:
    """One row per category: the median as a dot, the quartiles as the ends of a line."""
    most = max([2.0, *(group["speed_up"]["high"] for _, group in rows)]) * 1.05
    for tick in ticks(most, 7):
        yield vertical_line(_x(tick / most), HEAD - 14, bottom, "grid")
        yield text(_x(tick / most), HEAD - 20, f"{tick:g}", "dim", "middle")
    yield vertical_line(_x(1 / most), HEAD - 14, bottom, "even")
    yield text(FIGURES, HEAD - 20, "median (quartiles), questions", "dim")
    for number, (name, group) in enumerate(rows):
        y, speed_up = HEAD + ROW * number + 8, group["speed_up"]
        low, middle, high = (speed_up[key] for key in ("low", "median", "high"))
        yield text(16, y + 4, fit(one_line(name), LETTERS))
        yield svg.Line(x1=_x(low / most), x2=_x(high / most), y1=y, y2=y, class_=["spread"])
        yield svg.Circle(cx=_x(middle / most), cy=y, r=5, class_=["median"])
        yield text(FIGURES, y + 4, f"{middle:.2f} ({low:.2f} to {high:.2f}), {group['questions']}")


def _verdicts(verdicts: Mapping[str, Any], head: str, top: float) -> Iterator[svg.Element]:
    """One row per aspect: a bar of its outcomes, with confidence intervals below it."""
    if not verdicts:
        return
    bottom = top + ASPECT * len(verdicts)
    yield text(16, top - 46, head, "head")
    for tick in range(0, 101, 25):
        yield vertical_line(_x(tick / 100), top - 10, bottom - 8, "grid")
        yield text(_x(tick / 100), top - 16, f"{tick} %", "dim", "middle")
    for column, name in enumerate(OUTCOMES):
        yield svg.Rect(x=FIGURES + 80 * column, y=top - 24, width=9, height=9, class_=[name])
        yield text(FIGURES + 80 * column + 14, top - 16, name, "dim")
    for number, (aspect, outcomes) in enumerate(verdicts.items()):
        y = top + ASPECT * number
        yield text(16, y + BAR - 3, aspect)
        yield from _shares(outcomes, y)
        for column, name in enumerate(OUTCOMES):
            figure = f"{outcomes[name]['share']:.0%} ({outcomes[name]['count']})"
            yield text(FIGURES + 80 * column, y + BAR - 3, figure)
    yield text(16, bottom + 16, INTERVAL_NOTE, "dim")


def _shares(outcomes: Mapping[str, Any], y: float) -> Iterator[svg.Element]:
    """One bar of all outcomes, and below it the intervals of wins, from the left, and of losses, from the right."""
    left = 0.0
    for name in OUTCOMES:
        right = left + outcomes[name]["share"]
        yield svg.Rect(x=_x(left), y=y, width=round(_x(right) - _x(left), 1), height=BAR, class_=[name])
        left = right
    lose = [1 - bound for bound in reversed(outcomes["lose"]["interval"])]
    for name, ends, below in zip(("win", "lose"), (outcomes["win"]["interval"], lose), INTERVALS, strict=True):
        x, end, at = _x(ends[0]), _x(ends[1]), y + below
        path: list[Any] = [
            svg.M(x, at - CAP),
            svg.V(at + CAP),
            svg.M(x, at),
            svg.H(end),
            svg.M(end, at - CAP),
            svg.V(at + CAP),
        ]
        yield svg.Path(d=path, class_=["interval", name])


def _x(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 1)
