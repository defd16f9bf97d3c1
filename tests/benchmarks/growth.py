"""What grows with the number of points: time, CPU, and what a checkpointer stores."""

from tests.benchmarks import ways as names
from tests.benchmarks.bench import STORED, Bench
from tests.benchmarks.figures import Section, Table, Target, of_median, ratio, spread
from tests.benchmarks.load import Load

ROUNDS = 3
POINTS = (8, 32, 128, 512)
FEW, MANY = POINTS[0], POINTS[-1]
COMPARED = (names.SDK, names.BY_HAND, names.OURS)


def measure(bench: Bench, rounds: int | None) -> Section:
    section = Section()
    _costs(bench, rounds or ROUNDS, section)
    _stored(bench, section)
    return section


def _costs(bench: Bench, rounds: int, section: Section) -> None:
    """Few points first: many leave a hundred open connections behind, and each later request looks at all of them."""
    runs = {
        points: bench.in_turn(bench.compared(Load(points, (60,)), COMPARED), rounds * (2 if points < MANY else 1))
        for points in POINTS
    }
    bench.server.report()

    def each_point(points: int, name: str) -> list[float]:
        return [1000 * run[name].cpu / points for run in runs[points]]

    table = Table(
        "Over the number of points, answered at once", ("", "points", "wall, s", "CPU a point, ms", "of that at 8")
    )
    for name in COMPARED:
        for points in POINTS:
            wall, cpu = spread(run[name].wall for run in runs[points]), each_point(points, name)
            of_few = of_median(cpu, each_point(FEW, name))
            table.rows.append((name, f"{points}", wall.shown(), spread(cpu).shown(), of_few.shown()))
            figures = {"wall_s": wall, "cpu_ms_a_point": spread(cpu), "of_few": of_few}
            section.figures.setdefault(name, {})[f"{points} points"] = figures
    section.tables.append(table)
    of_few = section.figures[names.OURS][f"{MANY} points"]["of_few"]
    section.targets.append(Target(f"CPU a point, {MANY} points / {FEW}", of_few, 1.3))
    of_sdk = ratio(each_point(MANY, names.OURS), each_point(MANY, names.SDK))
    section.targets.append(Target(f"CPU / bare SDK's, {MANY} points", of_sdk, None))


def _stored(bench: Bench, section: Section) -> None:
    """One run each: it stores the same bytes every time."""
    table = Table("What a checkpointer stores, a point", ("", *(f"{points} points, bytes" for points in POINTS)))
    for name in [each for each in STORED if each in bench.savers]:
        sizes = [_size(bench, points, name) / points for points in POINTS]
        table.rows.append((name, *(f"{size:,.0f}" for size in sizes)))
        section.figures[f"stored bytes a point, {name}"] = dict(zip(POINTS, sizes, strict=True))
        growth = spread([sizes[-1] / sizes[0]])
        section.targets.append(Target(f"stored bytes a point in {name}, {MANY} points / {FEW}", growth, 1.2))
    section.tables.append(table)


def _size(bench: Bench, points: int, name: str) -> int:
    way = bench.ways(Load(points, (60,))).stored({name: bench.savers[name]})[f"ours, {name}"]
    before = bench.stored_bytes(name)
    bench.wait(way())
    bench.server.report()
    return bench.stored_bytes(name) - before
