"""What a long conversation costs: how many copies of it there are in memory, in a checkpoint and in a trace."""

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from tests.benchmarks import ways as names
from tests.benchmarks.bench import STORED, Bench
from tests.benchmarks.figures import Section, Spread, Table, Target, spread
from tests.benchmarks.load import QUESTION, Load, text_of
from tests.benchmarks.throughput import peak_bytes

ROUNDS = 2
TOKENS = (1_000, 10_000, 100_000)
TURN = 250
"""Tokens of a message."""
FEW, MANY = 8, 16
"""Numbers of points: what there is N times grows from the one to the other."""
COMPARED = (names.SDK, names.CHAT, names.OURS)


def conversation_of(tokens: int) -> list[BaseMessage]:
    """A conversation of so many tokens, each a word, that ends with the question."""
    kinds = (HumanMessage, AIMessage)
    turns = [kinds[turn % 2](f"{turn}: {text_of(TURN)}", id=f"turn-{turn}") for turn in range(tokens // TURN)]
    return [*turns, HumanMessage(QUESTION, id="question")]


def measure(bench: Bench, rounds: int | None) -> Section:
    section = Section()
    _costs(bench, rounds or ROUNDS, section)
    _copies(bench, rounds or ROUNDS, section)
    return section


def _costs(bench: Bench, rounds: int, section: Section) -> None:
    table = Table(
        f"Over the length of the conversation, {FEW} points, answered at once", ("", "tokens", "wall, s", "CPU, ms")
    )
    for tokens in TOKENS:
        runs = bench.in_turn(bench.compared(Load(FEW, (60,)), COMPARED, conversation_of(tokens)), rounds + 1)
        bench.server.report()
        for name in COMPARED:
            wall, cpu = spread(run[name].wall for run in runs), spread(1000 * run[name].cpu for run in runs)
            table.rows.append((name, f"{tokens:,}", wall.shown(), cpu.shown(1)))
            section.figures.setdefault(name, {})[f"{tokens} tokens"] = {"wall_s": wall, "cpu_ms": cpu}
    table.rows.sort(key=lambda row: COMPARED.index(row[0]))
    section.tables.append(table)


def _copies(bench: Bench, rounds: int, section: Section) -> None:
    conversation = conversation_of(TOKENS[-1])
    size = sum(len(message.text) for message in conversation)
    found = {points: _sizes(bench, points, conversation, rounds) for points in (FEW, MANY)}
    table = Table(
        f"Copies of a conversation of {TOKENS[-1]:,} tokens ({size:,} bytes)",
        ("", f"{FEW} points", f"{MANY} points", "a point"),
    )
    growth: dict[str, Spread] = {}
    for where in found[FEW]:
        few, many = ([each / size for each in found[points][where]] for points in (FEW, MANY))
        growth[where] = spread((more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True))
        table.rows.append((where, spread(few).shown(), spread(many).shown(), growth[where].shown()))
        section.figures[f"copies, {where}"] = {FEW: spread(few), MANY: spread(many), "a point": growth[where]}
    section.tables.append(table)
    beyond = growth[f"memory, {names.OURS}"].median - growth[f"memory, {names.SDK}"].median
    more = spread([beyond])
    section.targets.append(Target("copies of the conversation a point in memory, beyond the SDK's", more, 0.1))
    section.targets += [
        Target(f"copies of the conversation a point, {where}", growth[where], 0.05)
        for where in growth
        if not where.startswith("memory")
    ]


def _sizes(bench: Bench, points: int, conversation: list[BaseMessage], rounds: int) -> dict[str, list[float]]:
    """The bytes of one answer, wherever they are; all calls are in flight at once."""
    load = Load(points, (60,), first_token=0.5)
    ways, compared = bench.ways(load, conversation), bench.compared(load, COMPARED, conversation)
    for way in compared.values():
        bench.wait(way())
    sizes: dict[str, list[float]] = {
        f"memory, {name}": [float(peak_bytes(bench, way)) for _ in range(rounds)] for name, way in compared.items()
    }
    for name in [each for each in STORED if each in bench.savers]:
        way, before = ways.stored({name: bench.savers[name]})[f"ours, {name}"], bench.stored_bytes(name)
        bench.wait(way())
        sizes[f"checkpoints, {name}"] = [float(bench.stored_bytes(name) - before)]
    bench.sink.report()
    bench.wait(ways.traced(bench.sink)[names.TRACED]())
    whole, sent = bench.sink.report()
    sizes |= {"trace": [float(whole)], "trace, compressed as it is sent": [float(sent)]}
    bench.server.report()
    return sizes
