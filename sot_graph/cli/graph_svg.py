"""The graph as an SVG picture, from left to right."""

from collections.abc import Iterator, Sequence

import svg
from langgraph.graph import END, START

from sot_graph.evaluation.drawing import BASE_STYLE, style, text

WIDTH, HEIGHT, COLUMN, LANE, MARGIN, HEAD = 96, 34, 144, 76, 24, 8
"""The size of a node, from one column or lane to the next, the space around the picture, and the head of an arrow."""
LANES = (1, -1, 2, -2)
"""Where nodes beside the longest way from start to end are drawn, in this order; below it is 1."""
STYLE = """
.node { fill: $wait; stroke: $call }
.end { text-anchor: middle }
.edge { fill: none; stroke: $dim; stroke-width: 1.5 }
.conditional { stroke-dasharray: 5 4 }
.head { fill: $dim }
"""
Edge = tuple[str, str, bool]
"""Where it starts, where it ends, and whether it is conditional."""
Place = tuple[float, float]
"""The middle of a node."""


def graph_svg(edges: Sequence[Edge]) -> str:
    """Draw a graph as an SVG picture for light and dark themes. Edges to an earlier node go above the others."""
    longest = _longest_way(edges)
    columns = _columns(edges, longest)
    lanes = dict.fromkeys(longest, 0)
    beside = iter(LANES)
    lanes |= {node: next(beside) for node in columns if node not in lanes}
    top = min(*lanes.values(), *(-1 for source, target, _ in edges if columns[source] >= columns[target]), 0)
    places = {node: _place(columns[node], lanes[node] - top) for node in columns}
    width = MARGIN * 2 + COLUMN * max(columns.values()) + WIDTH
    height = MARGIN * 2 + LANE * (max(lanes.values()) - top) + HEIGHT
    elements: list[svg.Element] = [
        svg.Style(text=style(BASE_STYLE + STYLE)),
        svg.Rect(width=width, height=height, class_=["page"]),
    ]
    for source, target, is_conditional in edges:
        elements += _edge(places[source], places[target], is_conditional=is_conditional)
    for node, (x, y) in places.items():
        left, upper, round_by = x - WIDTH / 2, y - HEIGHT / 2, HEIGHT / 2 if node in {START, END} else 6
        elements.append(svg.Rect(x=left, y=upper, width=WIDTH, height=HEIGHT, rx=round_by, class_=["node"]))
        elements.append(text(x, y + 4, node.strip("_"), "middle"))
    return str(svg.SVG(width=width, height=height, viewBox=svg.ViewBoxSpec(0, 0, width, height), elements=elements))


def _longest_way(edges: Sequence[Edge], way: tuple[str, ...] = (START,)) -> tuple[str, ...]:
    """The longest way from start to end that passes no node twice."""
    nexts = [target for source, target, _ in edges if source == way[-1] and target not in way]
    ways = [_longest_way(edges, (*way, node)) for node in nexts]
    return max((each for each in ways if each[-1] == END), key=len, default=way)


def _columns(edges: Sequence[Edge], longest: Sequence[str]) -> dict[str, int]:
    """The column of each node: its place on the longest way, or the one after the first node that leads to it."""
    columns = {node: column for column, node in enumerate(longest)}
    while missing := [(source, target) for source, target, _ in edges if source in columns and target not in columns]:
        for source, target in missing:
            columns.setdefault(target, columns[source] + 1)
    return columns


def _place(column: int, lane: int) -> Place:
    return MARGIN + WIDTH / 2 + COLUMN * column, MARGIN + HEIGHT / 2 + LANE * lane


def _edge(source: Place, target: Place, *, is_conditional: bool) -> Iterator[svg.Element]:
    """An edge with its head. It stays in its own lane until the column before its target."""
    (x, y), (end, below) = source, target
    if end <= x:
        y, below, above = y - HEIGHT / 2, below - HEIGHT / 2, y - LANE
        path: list[svg.PathData] = [svg.M(x, y), svg.C(x, above, end, above, end, below - HEAD)]
        corners = [(end - HEAD / 2, below - HEAD), (end + HEAD / 2, below - HEAD)]
    else:
        x, end = x + WIDTH / 2, end - WIDTH / 2
        turn = max(x, end - (COLUMN - WIDTH))
        middle = (turn + end) / 2
        path = [svg.M(x, y), svg.H(turn), svg.C(middle, y, middle, below, end - HEAD, below)]
        corners = [(end - HEAD, below - HEAD / 2), (end - HEAD, below + HEAD / 2)]
    yield svg.Path(d=path, class_=["edge", "conditional"] if is_conditional else ["edge"])
    yield svg.Path(d=[svg.M(end, below), *(svg.L(*corner) for corner in corners), svg.Z()], class_=["head"])
