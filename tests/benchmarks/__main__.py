"""What the graph costs and gains, beside other clients that send the very same prompts.

Run with: uv run python -m tests.benchmarks

The clients answer a server on this machine, a process of its own, which writes at a known pace or at once. They take
turns, so that all meet the same noise: the figures to compare are the ratios, as medians with quartiles. Where
instructor is installed (uv run --with instructor), it has rows, too. Nothing here fails.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import conversation, cpu, growth, imports, latency, throughput
from tests.benchmarks.bench import Bench, opened
from tests.benchmarks.chart import LINES, latency_svg
from tests.benchmarks.figures import Section, as_json, targets_table

SECTIONS: dict[str, Callable[[Bench, int | None], Section]] = {
    "imports": imports.measure,
    "cpu": cpu.measure,
    "latency": latency.measure,
    "growth": growth.measure,
    "conversation": conversation.measure,
    "throughput": throughput.measure,
}


def main() -> None:
    chosen = _arguments()
    os.environ["LANGSMITH_TRACING"] = "false"
    _allow_many_connections()
    found: dict[str, Section] = {}
    began = time.monotonic()
    with opened() as bench:
        for name in chosen.only:
            print(f"... {name}", file=sys.stderr)
            found[name] = SECTIONS[name](bench, chosen.rounds)
            for table in found[name].tables:
                print(table.text(), flush=True)
    print(targets_table([target for section in found.values() for target in section.targets]).text())
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {time.monotonic() - began:.0f} s")
    if chosen.json:
        chosen.json.write_text(_json(found), encoding="utf-8")
    if chosen.plot and "latency" in found:
        over = found["latency"].figures["over_points"]
        picture = latency_svg(over["points"], {line: over[line] for line in LINES})
        chosen.plot.write_text(f"{picture}\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], default=[*SECTIONS], help="These sections.")
    parser.add_argument("--rounds", type=int, help="How often each way is measured. Default: each section's own.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="Draw seconds over points; needs latency.")
    return parser.parse_args()


def _allow_many_connections() -> None:
    """500 runs in flight have more sockets than a process may open by default. The server inherits the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _json(found: dict[str, Section]) -> str:
    figures = {name: section.figures for name, section in found.items()}
    targets = [target for section in found.values() for target in section.targets]
    whole = {"cores": os.cpu_count(), "python": sys.version.split()[0], "figures": figures, "targets": targets}
    return json.dumps(as_json(whole), indent=1)


if __name__ == "__main__":
    main()
