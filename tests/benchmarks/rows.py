"""The memory of the files of `sot-graph batch`, for each question: at its peak, and what is held.

Run with: uv run --extra cli python -m tests.benchmarks.rows

A file of questions is checked; a file with an answer to each, of which a tenth had failed, is opened; the tenth is
answered; and the file is closed with one line for each question.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from sot_graph.bulk import WRITTEN
from sot_graph.cli.results import Answers
from sot_graph.cli.rows import check_rows

KIB = 1024
FAILED = 10
"""One in so many."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rows", description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=1_000_000)
    count: int = parser.parse_args().questions
    with tempfile.TemporaryDirectory() as folder:
        questions, path = Path(folder) / "questions.jsonl", Path(folder) / "answers.jsonl"
        with questions.open("w", encoding="utf-8") as asked, path.open("w", encoding="utf-8") as lines:
            for number in range(count):
                asked.write(json.dumps(row(number)) + "\n")
                lines.write(json.dumps(result(number, None if number % FAILED else "no")) + "\n")
        before = peak()
        checked, answers = check_rows(questions), Answers(path)
        print(f"{count:,} questions; bytes for each, at most, when they are")
        print(f"checked: {(peak() - before) / count:.0f}")
        answers.open()
        print(f"looked up among the answers: {(peak() - before) / count:.0f}")
        for number in range(0, count, FAILED):
            answers.add(result(number, None))
        answers.refresh()
        began = time.monotonic()
        answers.close()
        print(f"closed: {(peak() - before) / count:.0f}, in {time.monotonic() - began:.1f} s")
        print(f"held: {(len(checked.keys) * checked.keys.itemsize + answers.size) / count:.0f}")


def row(number: int) -> dict[str, object]:
    """A question."""
    return {"id": f"q{number}", "question": f"How do bees of kind {number} find home?"}


def result(number: int, error: str | None) -> dict[str, object]:
    """Its answer."""
    return {**row(number), **dict.fromkeys(WRITTEN), "answer": "So.", "points": [], "error": error}


def peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    main()
