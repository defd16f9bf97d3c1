"""The plot of docs/performance.md: seconds over the number of points, for light and dark themes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import svg

from sot_graph.evaluation.drawing import BASE_STYLE, style, text, ticks, vertical_line
from tests.benchmarks import ways as names
from tests.benchmarks.figures import Spread
from tests.benchmarks.latency import IDEAL

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 56, 550, 60, 350
TITLE = "Seconds until the whole answer is there, over its points"
LINES = {
    names.PLAIN: ("plain", "one plain call"),
    names.OURS: ("ours", "sot_graph"),
    IDEAL: ("ideal", "outline + one point"),
}
"""The class and the label of each line."""
STYLE = """
polyline { fill: none; stroke-width: 2 }
polyline.plain { stroke: $retry }
polyline.ours { stroke: $call }
polyline.ideal { stroke: $dim; stroke-dasharray: 4 3 }
circle.plain { fill: $retry }
circle.ours { fill: $call }
"""
Point = tuple[float, float]


def latency_svg(points: Sequence[int], lines: Mapping[str, Sequence[Spread]]) -> str:
    """Draw the medians of each line over the numbers of points.

    Args:
        points: The numbers of points, from the lowest.
        lines: The seconds at each of them, by the names of `LINES`.
    """
    most = 1.05 * max(each.median for values in lines.values() for each in values)
    elements: list[svg.Element] = [
        svg.Title(text=TITLE),
        svg.Style(text=style(BASE_STYLE + STYLE)),
        svg.Rect(width=WIDTH, height=HEIGHT, class_=["page"]),
        text(16, 28, TITLE, "head"),
        *_grid(points, most),
        *(element for name, values in lines.items() for element in _line(name, points, values, most)),
        *_labels(lines, most),
    ]
    return str(svg.SVG(width=WIDTH, height=HEIGHT, viewBox=svg.ViewBoxSpec(0, 0, WIDTH, HEIGHT), elements=elements))


def _grid(points: Sequence[int], most: float) -> Iterator[svg.Element]:
    for tick in ticks(most, 6):
        y = _y(tick / most)
        yield svg.Line(x1=LEFT, x2=RIGHT, y1=y, y2=y, class_=["grid"])
        yield text(LEFT - 8, y + 4, f"{tick:g} s", "dim", "end")
    for number in points:
        x = _x(number / points[-1])
        yield vertical_line(x, BOTTOM, BOTTOM + 5, "grid")
        yield text(x, BOTTOM + 20, f"{number}", "dim", "middle")
    yield text((LEFT + RIGHT) / 2, BOTTOM + 40, "points", "dim", "middle")


def _line(name: str, points: Sequence[int], values: Sequence[Spread], most: float) -> Iterator[svg.Element]:
    kind, label = LINES[name]
    places = [_place(number / points[-1], value.median / most) for number, value in zip(points, values, strict=True)]
    flat: list[Any] = [each for place in places for each in place]
    yield svg.Polyline(points=flat, class_=[kind], elements=[svg.Title(text=label)])
    if kind != "ideal":
        yield from (svg.Circle(cx=x, cy=y, r=3, class_=[kind]) for x, y in places)


def _labels(lines: Mapping[str, Sequence[Spread]], most: float) -> Iterator[svg.Element]:
    """The name of each line at its end, none over another."""
    ends = sorted((_y(values[-1].median / most), LINES[name][1], values[-1].median) for name, values in lines.items())
    lowest = 0.0
    for y, label, seconds in ends:
        lowest = max(y + 4, lowest + 16)
        yield text(_x(1) + 10, round(lowest, 1), f"{label}, {seconds:.1f} s")


def _place(x: float, y: float) -> Point:
    return _x(x), _y(y)


def _x(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 1)


def _y(share: float) -> float:
    return round(BOTTOM - share * (BOTTOM - TOP), 1)
