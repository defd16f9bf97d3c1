"""Ten thousand questions through `sot-graph batch`, killed five times: whole, none twice, memory flat.

Run with: uv run --extra cli python -m tests.benchmarks.bulk

The demo model answers. The process is killed (kill -9) whenever a sixth of the answers is there, and started again; its
memory is read every second. At the end each question must have one answer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

KIB = 1024


@dataclass
class Part:
    """The time between two kills."""

    began: float = field(default_factory=time.monotonic)
    memory: list[float] = field(default_factory=list)
    """In MiB, once a second."""
    lines: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bulk", description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=600, help="Model calls at a time.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder) / "questions.jsonl", Path(folder) / "answers.jsonl"
        rows = ({"id": f"q{n}", "question": f"How do bees of kind {n} find home?"} for n in range(chosen.questions))
        questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        parts = run(questions, answers, chosen.concurrency, chosen.kills, chosen.questions)
        report(parts)
        ids = Counter(json.loads(line)["id"] for line in answers.open(encoding="utf-8"))
        failed = sum(json.loads(line)["error"] is not None for line in answers.open(encoding="utf-8"))
    missing = chosen.questions - len(ids)
    print(f"{len(ids):,} questions answered, {missing} missing, {ids.total() - len(ids)} twice, {failed} failed")


def run(questions: Path, answers: Path, concurrency: int, kills: int, total: int) -> list[Part]:
    """Start the command again after each kill, until it ends by itself."""
    command = [sys.executable, "-m", "sot_graph", "batch", str(questions), "-o", str(answers), "--model", "demo"]
    parts: list[Part] = []
    for number in range(kills + 1):
        part, target = Part(), total * (number + 1) // (kills + 1) if number < kills else total + 1
        parts.append(part)
        with subprocess.Popen([*command, "--concurrency", str(concurrency)], stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                time.sleep(1)
                part.lines = count(answers)
                part.memory.append(memory_of(process.pid))
                if part.lines >= target:
                    process.kill()
    return parts


def count(path: Path) -> int:
    """The lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def memory_of(process: int) -> float:
    """What a process holds, in MiB; 0.0 of one that has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / KIB / KIB


def report(parts: list[Part]) -> None:
    """One line for each time between two kills."""
    print("run  answers  seconds  MiB after a quarter  MiB at its end  most MiB")
    for number, part in enumerate(parts, start=1):
        seconds = part.memory and len(part.memory)
        held = [each for each in part.memory if each]
        quarter = held[len(held) // 4]
        print(f"{number:3}  {part.lines:7,}  {seconds:7}  {quarter:19.0f}  {held[-1]:14.0f}  {max(held):8.0f}")


if __name__ == "__main__":
    main()
