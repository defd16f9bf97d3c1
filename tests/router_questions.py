"""The labelled questions of the default router, and those that it was never trained on."""

from pathlib import Path

from sot_graph.evaluation.labelled import Labelled, read_labelled

FOLDER = Path(__file__).parent / "benchmarks"
TRAINED_ON, HELD_OUT = FOLDER / "router_questions.jsonl", FOLDER / "router_held_out.jsonl"


def trained_on() -> list[Labelled]:
    return read_labelled(TRAINED_ON)


def held_out() -> list[Labelled]:
    return read_labelled(HELD_OUT)
