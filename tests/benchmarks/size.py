"""Lines of each room of the library, and its longest functions.

Run it by hand: `python -m tests.benchmarks.size`.
"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2] / "sot_graph"
BESIDE = {"cli", "evaluation", "demo.py"}
"""Rooms beside the library itself."""


def main() -> None:
    rooms: Counter[str] = Counter()
    functions: list[tuple[int, str]] = []
    for path in sorted(ROOT.rglob("*.py")):
        module, text = path.relative_to(ROOT), path.read_text()
        rooms[module.parts[0]] += len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append((lines, f"{module}:{node.lineno} {node.name}"))
    for room, lines in rooms.most_common():
        print(f"{lines:>6}  {room}")
    print(f"{sum(lines for room, lines in rooms.items() if room not in BESIDE):>6}  the library itself")
    print("\nThe longest functions:")
    for lines, name in sorted(functions, reverse=True)[:8]:
        print(f"{lines:>6}  {name}")


if __name__ == "__main__":
    main()
