"""The summary of a comparison as a picture: speed-up by category, and verdicts by aspect."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import svg

from sot_graph.console.drawing import BASE_STYLE, style, text, upright
from sot_graph.console.timeline import fit, one_line, ticks
from sot_graph.evaluation.judge import OUTCOMES
from sot_graph.evaluation.summary import groups

WIDTH, LEFT, RIGHT, FIGURES, LETTERS = 900, 200, 606, 648, 24
"""The picture's width, where its bars begin and end, where the figures stand, and how long a name may be."""
HEAD, ROW, ASPECT, GAP = 76, 24, 38, 84
"""The heights of what stands above the bars, of a row of each kind, and between the two parts."""
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
    """Draw a summary as a picture that suits light and dark pages.

    Args:
        summary: What `summarize_comparisons` gave.
    """
    rows, verdicts = groups(summary), summary["verdicts"]
    below = HEAD + ROW * len(rows)
    height = below + (GAP + ASPECT * len(verdicts) + 24 if verdicts else 24)
    elements: list[svg.Element] = [
        svg.Title(text="Answers by an outline beside plain ones"),
        svg.Style(text=style(BASE_STYLE + STYLE)),
        svg.Rect(width=WIDTH, height=height, class_=["page"]),
        text(16, 28, "Speed-up: how many times sooner the answer by an outline is there", "head"),
        *_speed_ups(rows, below),
        *_verdicts(verdicts, below + GAP),
    ]
    return str(svg.SVG(width=WIDTH, height=height, viewBox=svg.ViewBoxSpec(0, 0, WIDTH, height), elements=elements))


def _speed_ups(rows: Sequence[tuple[str, Any]], bottom: float) -> Iterator[svg.Element]:
    """A row for each category: the median as a dot, the quartiles as the ends of a line."""
    most = max([2.0, *(group["speed_up"]["high"] for _, group in rows)]) * 1.05
    for tick in ticks(most, 7):
        yield upright(_x(tick / most), HEAD - 14, bottom, "grid")
        yield text(_x(tick / most), HEAD - 20, f"{tick:g}", "dim", "middle")
    yield upright(_x(1 / most), HEAD - 14, bottom, "even")
    yield text(FIGURES, HEAD - 20, "median (quartiles), questions", "dim")
    for number, (name, group) in enumerate(rows):
        y, speed_up = HEAD + ROW * number + 8, group["speed_up"]
        low, middle, high = (speed_up[key] for key in ("low", "median", "high"))
        yield text(16, y + 4, fit(one_line(name), LETTERS))
        yield svg.Line(x1=_x(low / most), x2=_x(high / most), y1=y, y2=y, class_=["spread"])
        yield svg.Circle(cx=_x(middle / most), cy=y, r=5, class_=["median"])
        yield text(FIGURES, y + 4, f"{middle:.2f} ({low:.2f} to {high:.2f}), {group['questions']}")


def _verdicts(verdicts: Mapping[str, Any], top: float) -> Iterator[svg.Element]:
    """A row for each aspect: a bar for each outcome, with its interval."""
    if not verdicts:
        return
    bottom = top + ASPECT * len(verdicts)
    yield text(16, top - 46, "Verdicts: the answer by an outline against the plain one", "head")
    for tick in range(0, 101, 25):
        yield upright(_x(tick / 100), top - 10, bottom, "grid")
        yield text(_x(tick / 100), top - 16, f"{tick} %", "dim", "middle")
    for place, name in enumerate(OUTCOMES):
        yield svg.Rect(x=FIGURES + 80 * place, y=top - 24, width=9, height=9, class_=[name])
        yield text(FIGURES + 80 * place + 14, top - 16, name, "dim")
    for number, (aspect, outcomes) in enumerate(verdicts.items()):
        y = top + ASPECT * number
        yield text(16, y + 20, aspect)
        for place, name in enumerate(OUTCOMES):
            low, high = outcomes[name]["interval"]
            middle = y + 6 + 10 * place
            width = _x(outcomes[name]["share"]) - LEFT
            yield svg.Rect(x=LEFT, y=middle - 4, width=round(width, 1), height=8, class_=[name])
            for kind in ("edge", "interval"):  # a line on a bar is seen by what is around it
                yield svg.Line(x1=_x(low), x2=_x(high), y1=middle, y2=middle, class_=[kind])
            yield text(FIGURES + 80 * place, y + 20, f"{outcomes[name]['share']:.0%} ({outcomes[name]['count']})")


def _x(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 1)
