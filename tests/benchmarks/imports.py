"""How long Python takes to import the library, and the command line to show its help."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.bench import Bench, Cost
from tests.benchmarks.figures import Section, Table, Target, ratio, spread

ROUNDS = 7
ROOT = Path(__file__).parents[2]
COMMANDS = {
    "python": ("-c", "pass"),
    "import langgraph.graph": ("-c", "import langgraph.graph"),
    "import sot_graph": ("-c", "import sot_graph"),
    "from sot_graph import create_sot_graph": ("-c", "from sot_graph import create_sot_graph"),
    "import typer": ("-c", "import typer"),
    "sot-graph --help": ("-m", "sot_graph", "--help"),
}
_PYTHON, LANGGRAPH, OURS, CREATE, TYPER, HELP = COMMANDS


def measure(_bench: Bench, rounds: int | None) -> Section:
    section = Section()
    runs = [{name: _cost(*arguments) for name, arguments in COMMANDS.items()} for _ in range((rounds or ROUNDS) + 1)][
        1:
    ]
    table = Table("A new process", ("", "wall, s", "CPU, s"))
    cpu = {name: [run[name].cpu for run in runs] for name in COMMANDS}
    for name in COMMANDS:
        wall = spread(run[name].wall for run in runs)
        table.rows.append((name, wall.shown(), spread(cpu[name]).shown()))
        section.figures[name] = {"wall_s": wall, "cpu_s": spread(cpu[name])}
    section.tables.append(table)
    section.targets = [
        Target("CPU of import sot_graph / import langgraph.graph", ratio(cpu[OURS], cpu[LANGGRAPH]), 1.15),
        Target("CPU of importing create_sot_graph / import langgraph.graph", ratio(cpu[CREATE], cpu[LANGGRAPH]), None),
        Target("seconds of sot-graph --help", section.figures[HELP]["wall_s"], 0.9),
        Target("CPU of sot-graph --help / import typer", ratio(cpu[HELP], cpu[TYPER]), None),
    ]
    return section


def _cost(*arguments: str) -> Cost:
    began, before = time.perf_counter(), _children()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return Cost(time.perf_counter() - began, _children() - before)


def _children() -> float:
    """Seconds of CPU of all child processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
