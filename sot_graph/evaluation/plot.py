"""The summary of a comparison as an SVG picture: speed-up by category, and verdicts by aspect."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import svg

from sot_graph.evaluation.drawing import BASE_STYLE, style, text, ticks, vertical_line
from sot_graph.evaluation.judge import OUTCOMES
from sot_graph.evaluation.summary import TITLE, groups
from sot_graph.evaluation.text import fit, one_line

WIDTH, LEFT, RIGHT, FIGURES, LETTERS = 900, 200, 606, 648, 24
"""The width of the picture, where bars begin and end, where figures begin, and the maximum length of a name."""
HEAD, ROW, ASPECT, GAP = 76, 24, 38, 84
"""The heights of the header, of a row in each chart, and of the gap between the charts."""
STYLE = """
.spread { stroke: $call; stroke-width: 6; stroke-linecap: round; opacity: .45 }
.median { fill: $call }
.even { stroke: $dim; stroke-dasharray: 4 3 }
.win { fill: $call }
.tie { fill: $dim }
.lose { fill: $retry }
.edge { stroke: $page; stroke-width: 4 }
.interval { stroke: $ink; stroke-width: 2 }
"""


def summary_svg(summary: Mapping[str, Any]) -> str:
    """Draw a summary as an SVG picture for light and dark themes.

    Args:
        summary: The result of `summarize_comparisons`.
    """
    rows, verdicts = groups(summary), summary["verdicts"]
    below = HEAD + ROW * len(rows)
    height = below + (GAP + ASPECT * len(verdicts) + 24 if verdicts else 24)
    elements: list[svg.Element] = [
        svg.Title(text=TITLE),
        svg.Style(text=style(BASE_STYLE + STYLE)),
        svg.Rect(width=WIDTH, height=height, class_=["page"]),
        text(16, 28, "Speed-up: the time of the plain answer divided by that of the SoT answer", "head"),
        *_speed_ups(rows, below),
        *_verdicts(verdicts, below + GAP),
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


def _verdicts(verdicts: Mapping[str, Any], top: float) -> Iterator[svg.Element]:
    """One row per aspect: a bar for each outcome, with its confidence interval."""
    if not verdicts:
        return
    bottom = top + ASPECT * len(verdicts)
    yield text(16, top - 46, "Verdicts: the SoT answer against the plain answer", "head")
    for tick in range(0, 101, 25):
        yield vertical_line(_x(tick / 100), top - 10, bottom, "grid")
        yield text(_x(tick / 100), top - 16, f"{tick} %", "dim", "middle")
    for column, name in enumerate(OUTCOMES):
        yield svg.Rect(x=FIGURES + 80 * column, y=top - 24, width=9, height=9, class_=[name])
        yield text(FIGURES + 80 * column + 14, top - 16, name, "dim")
    for number, (aspect, outcomes) in enumerate(verdicts.items()):
        y = top + ASPECT * number
        yield text(16, y + 20, aspect)
        for column, name in enumerate(OUTCOMES):
            low, high = outcomes[name]["interval"]
            middle = y + 6 + 10 * column
            width = _x(outcomes[name]["share"]) - LEFT
            yield svg.Rect(x=LEFT, y=middle - 4, width=round(width, 1), height=8, class_=[name])
            for kind in ("edge", "interval"):  # the edge makes the interval visible on the bar
                yield svg.Line(x1=_x(low), x2=_x(high), y1=middle, y2=middle, class_=[kind])
            yield text(FIGURES + 80 * column, y + 20, f"{outcomes[name]['share']:.0%} ({outcomes[name]['count']})")


def _x(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 1)
