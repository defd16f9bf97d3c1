"""What CPU an answer costs the client, in a run and for each token that is streamed, and whose code takes it."""

import cProfile
import pstats
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks import ways as names
from tests.benchmarks.bench import Bench, Cost
from tests.benchmarks.figures import Section, Table, Target, ratio, spread
from tests.benchmarks.load import Load
from tests.benchmarks.ways import Way

ROUNDS = 10
AT_ONCE, LONGER = Load(), Load(8, (240,))
"""The server answers at once, so that what is left is this process's work."""
PROFILED = 20
"""Runs under the profiler."""
PYTHON, CALL_DEPTH = "Python", 30
Function = tuple[str, int, str]
"""A file, a line and a name, as the profiler knows it."""
Stats = Mapping[Function, tuple[int, int, float, float, Mapping[Function, tuple[int, int, float, float]]]]
PROFILED_WAYS = (names.SDK, names.BY_HAND, names.OURS, names.SDK_STREAMED, names.CHAT_STREAMED, names.STREAMED)


def measure(bench: Bench, rounds: int | None) -> Section:
    section = Section()
    ways = bench.every_way(AT_ONCE)
    _per_run(bench, ways, rounds or ROUNDS, section)
    _per_token(bench, ways, rounds or ROUNDS, section)
    _profile(bench, ways, section)
    return section


def _cpu(runs: list[dict[str, Cost]], name: str) -> list[float]:
    return [1000 * run[name].cpu for run in runs]


def _per_run(bench: Bench, ways: Mapping[str, Way], rounds: int, section: Section) -> None:
    _check(bench, ways)
    runs = bench.in_turn(ways, rounds)
    bench.server.report()
    table = Table(
        f"CPU of a run: 1 outline and {AT_ONCE.points} points of {AT_ONCE.lengths[0]} tokens, answered at once",
        ("", "CPU, ms", "times the SDK", "wall, ms"),
    )
    for name in ways:
        baseline = names.SDK_STREAMED if name in names.STREAMS else names.SDK
        cpu, of_sdk = spread(_cpu(runs, name)), ratio(_cpu(runs, name), _cpu(runs, baseline))
        wall = spread(1000 * run[name].wall for run in runs)
        table.rows.append((name, cpu.shown(1), of_sdk.shown(), wall.shown(1)))
        section.figures[name] = {"cpu_ms": cpu, "of_sdk": of_sdk, "wall_ms": wall}
    section.tables.append(table)
    section.targets.append(Target("CPU / bare SDK's", section.figures[names.OURS]["of_sdk"], 1.4))
    if names.INSTRUCTOR in ways:
        of_instructor = ratio(_cpu(runs, names.OURS), _cpu(runs, names.INSTRUCTOR))
        section.targets.append(Target("CPU / instructor's", of_instructor, 0.85))
    section.targets += [
        Target(f"CPU of {name} / SDK's stream", section.figures[name]["of_sdk"], 1.15)
        for name in (names.STREAMED, names.MESSAGES)
    ]


def _check(bench: Bench, ways: Mapping[str, Way]) -> None:
    """All ways send as many requests: what sends others compares with none."""
    expected = {names.PLAIN: 1, names.PLAIN_STREAMED: 1, names.LEAD: 2 + AT_ONCE.points}
    for name, way in ways.items():
        bench.server.report()
        bench.wait(way())
        calls, _most = bench.server.report()
        if name != names.HEDGE and len(calls) != expected.get(name, 1 + AT_ONCE.points):
            print(f"{name} has sent {len(calls)} requests: it compares with no other.")


def _per_token(bench: Bench, ways: Mapping[str, Way], rounds: int, section: Section) -> None:
    """The CPU that each further token takes: by runs of longer points."""
    streamed = (names.SDK_STREAMED, names.CHAT_STREAMED, names.STREAMED, names.MESSAGES)
    longer = {f"{name}, longer": way for name, way in bench.compared(LONGER, streamed).items()}
    both = {**{name: ways[name] for name in streamed}, **longer}
    runs = bench.in_turn(both, max(2, rounds // 3))
    bench.server.report()
    tokens = sum(LONGER.tokens) - sum(AT_ONCE.tokens)
    table = Table("CPU of a streamed token", ("", "CPU, µs", "times the SDK"))

    def each(name: str) -> list[float]:
        pairs = zip(_cpu(runs, f"{name}, longer"), _cpu(runs, name), strict=True)
        return [1000 * (long - short) / tokens for long, short in pairs]

    for name in streamed:
        cpu, of_sdk = spread(each(name)), ratio(each(name), each(names.SDK_STREAMED))
        table.rows.append((name, cpu.shown(0), of_sdk.shown()))
        section.figures[name]["cpu_us_a_token"] = cpu
        section.figures[name]["of_sdk_a_token"] = of_sdk
    section.tables.append(table)


def _profile(bench: Bench, ways: Mapping[str, Way], section: Section) -> None:
    """Under a profiler everything is slower, and short functions most of all: read the shares, not the sums."""
    shares = {name: _shares(bench, ways[name]) for name in PROFILED_WAYS}
    bench.server.report()
    packages = sorted({each for found in shares.values() for each in found}, key=lambda each: -shares[names.OURS][each])
    packages = [each for each in packages if max(found[each] for found in shares.values()) >= 1]
    table = Table("Whose code takes the CPU: ms of a run, under a profiler", ("", *shares))
    table.rows += [(each, *(f"{found[each]:.1f}" for found in shares.values())) for each in packages]
    table.rows.append(("all", *(f"{sum(found.values()):.1f}" for found in shares.values())))
    section.tables.append(table)
    section.figures["profile_ms"] = {name: dict(found) for name, found in shares.items()}


def _shares(bench: Bench, way: Way) -> defaultdict[str, float]:
    """Milliseconds of each package in a run, with what its code calls of Python's own."""
    profile = cProfile.Profile()
    for _ in range(PROFILED):
        profile.runcall(bench.wait, way())
    stats: Stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {function: 1000 * figures[2] / PROFILED for function, figures in stats.items() if not _waits(function)}
    found: defaultdict[str, float] = defaultdict(float)
    for function, spent in _passed_on(own, stats).items():
        found[_package(function)] += spent
    return found


def _passed_on(own: Mapping[Function, float], stats: Stats) -> Mapping[Function, float]:
    """Charge what Python's own functions take to those who call them, however far up they are."""
    for _ in range(CALL_DEPTH):
        charged: defaultdict[Function, float] = defaultdict(float)
        for function, spent in own.items():
            callers = {caller: figures[3] for caller, figures in stats[function][4].items()}
            total = sum(callers.values())
            if _package(function) != PYTHON or not total:
                charged[function] += spent
                continue
            for caller, share in callers.items():
                charged[caller] += spent * share / total
        own = charged
    return own


def _waits(function: Function) -> bool:
    return "select." in function[2]


def _package(function: Function) -> str:
    parts = Path(function[0]).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    return next((name for name in ("sot_graph", "tests", "asyncio") if name in parts), PYTHON)
