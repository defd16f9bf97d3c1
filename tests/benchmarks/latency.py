"""How long an answer takes: beside a plain call, beside its slowest calls, until its first text, and over points."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from typing import Any

from sot_graph import astream_answer
from tests.benchmarks import ways as names
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Section, Spread, Table, Target, column, ratio, spread
from tests.benchmarks.load import Load
from tests.benchmarks.ways import Way, Ways

ROUNDS = 3
PACED = Load(8, (60,), first_token=0.3, per_token=0.01)
UNEVEN = Load(6, (30, 5, 90, 60, 15, 45), first_token=0.3, per_token=0.01)
"""Points of other lengths, as a reader meets them."""
POINTS = (1, 2, 4, 8, 16, 32)
IDEAL = "ideal"
LEFT_OUT = {names.PLAIN_STREAMED, names.CHAT, names.SYNC_TRACED, names.UNTAKEN} | names.STREAMS - {names.STREAMED}
"""What the time of a paced answer does not tell apart."""


def measure(bench: Bench, rounds: int | None) -> Section:
    section = Section()
    _speed(bench, rounds or ROUNDS, section)
    _reading(bench, rounds or ROUNDS, section)
    _over_points(bench, rounds or ROUNDS, section)
    return section


def _speed(bench: Bench, rounds: int, section: Section) -> None:
    ways = {name: way for name, way in bench.every_way(PACED).items() if name not in LEFT_OUT}
    _warm_up(bench, ways)
    runs = [{name: _timed(bench, way) for name, way in ways.items()} for _ in range(rounds)]
    plain = [run[names.PLAIN][0] for run in runs]
    figures: dict[str, dict[str, Spread]] = {}
    for name in ways:
        walls, critical = zip(*(run[name] for run in runs), strict=True)
        of_critical = {} if name == names.PLAIN else {"of_critical_path": ratio(walls, critical)}
        figures[name] = {"seconds": spread(walls), "speed_up": ratio(plain, walls), **of_critical}
    title = f"{_told(PACED)}. A plain call: {PACED.plain_seconds:.2f} s; the least: {PACED.ideal_seconds:.2f} s"
    table = Table(title, ("", "seconds", "speed-up", "of critical path"))
    for name, each in figures.items():
        path = each["of_critical_path"].shown(3) if "of_critical_path" in each else ""
        table.rows.append((name, each["seconds"].shown(3), each["speed_up"].shown(), path))
    section.tables.append(table)
    section.figures["answers"] = figures
    ours, sync = figures[names.OURS], figures[names.SYNC]
    section.targets += [
        Target("speed-up over a plain call", ours["speed_up"], 3.3, at_most=False),
        Target("wall / critical path, async", ours["of_critical_path"], 1.03),
        Target("wall / critical path, sync", sync["of_critical_path"], 1.05),
    ]


def _told(load: Load) -> str:
    lengths = "/".join(map(str, load.lengths))
    pace = f"{1000 * load.first_token:.0f} ms to the first token and {1000 * load.per_token:.0f} ms a token"
    return f"{load.points} points of {lengths} tokens, {pace}"


def _warm_up(bench: Bench, ways: Mapping[str, Way]) -> None:
    """All at once, since most of it is waiting."""

    async def all_at_once() -> None:
        begun: list[Any] = [asyncio.to_thread(way) if name == names.SYNC else way() for name, way in ways.items()]
        await asyncio.gather(*begun)

    bench.wait(all_at_once())
    bench.server.report()


def _timed(bench: Bench, way: Way) -> tuple[float, float]:
    """The seconds of a run, and those of its critical path as the server saw it: the outline's, the slowest point's."""
    wall = bench.cost(way).wall
    calls, _most = bench.server.report()
    outline, *points = [ended - began for _stage, _title, began, ended in sorted(calls, key=lambda call: call[2])]
    return wall, outline + max(points, default=0.0)


def _reading(bench: Bench, rounds: int, section: Section) -> None:
    ways = bench.ways(UNEVEN)
    graph, led = ways.graph(), ways.graph(lead=True)
    streams: dict[str, Callable[[], AsyncIterator[str]]] = {
        names.PLAIN_STREAMED: ways.plain_texts,
        names.STREAMED: lambda: astream_answer(graph, ways.given),
        names.MESSAGES: lambda: _message_texts(graph, ways),
        names.LEAD: lambda: astream_answer(led, ways.given),
    }
    runs = [{name: bench.wait(_read(start())) for name, start in streams.items()} for _ in range(rounds + 1)][1:]
    plain = [run[names.PLAIN_STREAMED]["first"] for run in runs]
    figures: dict[str, dict[str, Spread]] = {}
    table = Table(
        f"What a reader sees: {_told(UNEVEN)}", ("", "first text, s", "of plain", "longest pause, s", "total, s")
    )
    for name in streams:
        seen = [run[name] for run in runs]
        of_plain = {"first_of_plain": ratio(column(seen, "first"), plain)}
        figures[name] = {key: spread(column(seen, key)) for key in seen[0]} | of_plain
        keys = ("first", "first_of_plain", "pause", "total")
        table.rows.append((name, *(figures[name][key].shown() for key in keys)))
    section.tables.append(table)
    section.figures["reading"] = figures
    first = figures[names.LEAD]["first_of_plain"]
    section.targets.append(Target("first text with lead / of a plain stream", first, 1.05))


async def _message_texts(graph: Any, ways: Ways) -> AsyncIterator[str]:
    async for message, _metadata in graph.astream(ways.given, stream_mode="messages"):
        yield message.text


async def _read(chunks: AsyncIterator[str]) -> dict[str, float]:
    """Read to the end."""
    began = time.perf_counter()
    times = [time.perf_counter() - began async for chunk in chunks if chunk]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    return {"first": times[0], "pause": max(pauses, default=0.0), "total": times[-1]}


def _over_points(bench: Bench, rounds: int, section: Section) -> None:
    """The plain calls wait beside each other, once: they take as long as the server's pace says, and no CPU."""
    loads = [Load(points, PACED.lengths, PACED.first_token, PACED.per_token) for points in POINTS]
    ways = [bench.ways(load) for load in loads]
    graphs = [each.graph(min_points=1) for each in ways]

    async def plain(each: Ways) -> float:
        began = time.perf_counter()
        await each.model.ainvoke(each.plain)
        return time.perf_counter() - began

    async def all_plain() -> list[float]:
        return await asyncio.gather(*map(plain, ways))

    def ours(graph: Any) -> float:
        return bench.cost(lambda: graph.ainvoke(ways[0].given)).wall

    plain_walls = bench.wait(all_plain())
    walls = [[ours(graph) for graph in graphs] for _ in range(min(rounds, 2))]
    bench.server.report()
    found = {
        names.PLAIN: [spread([wall]) for wall in plain_walls],
        names.OURS: [spread(each) for each in zip(*walls, strict=True)],
        IDEAL: [spread([load.ideal_seconds]) for load in loads],
    }
    table = Table("Seconds over the number of points", ("points", *found))
    for points, *cells in zip(POINTS, *found.values(), strict=True):
        table.rows.append((f"{points}", *(cell.shown() for cell in cells)))
    section.tables.append(table)
    section.figures["over_points"] = {"points": POINTS, **found}
