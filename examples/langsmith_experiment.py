"""Compare answers by an outline with plain ones: `python examples/langsmith_experiment.py`, with no key.

Without LANGSMITH_API_KEY nothing is sent, and the figures are those of this machine. With it, the questions become a
dataset in LangSmith (or are found there), each way of answering an experiment on it, and the two are compared pairwise.
`--judge openai:gpt-5.5` has a model say which answer is better (`pip install ".[eval]"` in the checkout).
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isnan, nan
from statistics import median
from typing import Any
from uuid import uuid4

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langsmith import Client, evaluate
from langsmith.evaluation import evaluate_comparative
from langsmith.schemas import Example, Run

from sot_graph import DemoChatModel, create_sot_graph
from sot_graph.evaluation.judge import ASPECTS, Judge, Verdict

QUESTIONS = (
    "How can I improve my time management skills?",
    "How do bees find their way home?",
    "What should a small town do against floods?",
)
Pairwise = Callable[[Sequence[Run], Example | None], dict[str, Any]]
Scores = dict[str, dict[Any, Any]]  # by evaluator and by run
DEMO = "demo"
SCORE = {"win": 1.0, "tie": 0.5, "lose": 0.0}


def seconds(run: Run) -> dict[str, Any]:
    """How long the answer took."""
    return {"key": "seconds", "score": _seconds(run)}


def points(run: Run) -> dict[str, Any]:
    """How many points the answer has, how many of them failed, and how much sooner they came than in sequence."""
    outputs = run.outputs or {}
    sot = outputs["sot"]
    failed = sum(point["status"] == "failed" for point in outputs["points"])
    return {
        "results": [
            {"key": "points", "score": len(outputs["points"])},
            {"key": "failed_points", "score": failed},
            {"key": "parallel_gain", "score": sot["parallel_gain"]},
        ]
    }


def sooner(runs: Sequence[Run], example: Example | None = None) -> dict[str, Any]:  # noqa: ARG001 - as it is called
    """Which of two answers took less time."""
    least = min(_seconds(run) for run in runs)
    return {"key": "sooner", "scores": {run.id: float(_seconds(run) == least) for run in runs}}


def judged(judge: Judge, pairs: Sequence[tuple[Any, Any]]) -> list[Pairwise]:
    """Have a model judge each pair of answers, and make an evaluator of each aspect of its verdicts."""
    verdicts = {}
    for outline, plain in pairs:
        question = outline["example"].inputs["question"]
        texts = {"plain": plain["run"].outputs["answer"], "sot": outline["run"].outputs["answer"]}
        verdict = judge.verdict(question, **texts)
        if verdict["error"]:
            print(f"{question[:48]}: no verdict ({verdict['error']})")
        else:
            verdicts[outline["run"].id] = verdict
    return [_evaluator(aspect, verdicts) for aspect in ASPECTS]


def _evaluator(aspect: str, verdicts: Mapping[Any, Verdict]) -> Pairwise:
    def evaluate_aspect(runs: Sequence[Run], example: Example | None = None) -> dict[str, Any]:  # noqa: ARG001 - as it is called
        outline, plain = sorted(runs, key=lambda run: run.id not in verdicts)
        if outline.id not in verdicts:
            return {"key": aspect, "scores": {}}
        verdict = verdicts[outline.id]
        score = SCORE[verdict["outcomes"][aspect]]
        scores = {outline.id: score, plain.id: 1 - score}
        return {"key": aspect, "scores": scores, "comment": " / ".join(verdict["reasons"])}

    return evaluate_aspect


def dataset(client: Client, name: str) -> Iterable[Example]:
    """The questions as a dataset in LangSmith, which is made at the first time."""
    if not client.has_dataset(dataset_name=name):
        made = client.create_dataset(name, description="Questions that a long answer with several points suits.")
        client.create_examples(dataset_id=made.id, examples=[{"inputs": {"question": each}} for each in QUESTIONS])
    return list(client.list_examples(dataset_name=name))


def local_examples() -> Iterable[Example]:
    """The same without LangSmith."""
    now = datetime.now(UTC)
    return [Example(id=uuid4(), inputs={"question": each}, created_at=now) for each in QUESTIONS]


def arrive(client: Client, experiment: str, count: int) -> None:
    """Wait for the runs to be in LangSmith, which compares those that it has."""
    client.flush()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (client.read_project(project_name=experiment, include_stats=True).run_count or 0) >= count:
            return
        time.sleep(1)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO, help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--judge", help=f"a model that says which answer is better, or {DEMO}; left out, none does")
    parser.add_argument("--dataset", default="sot_graph: questions", help="its name in LangSmith")
    options = parser.parse_args()

    judge = Judge(options.judge, chat_model(options.judge)) if options.judge else None
    compare(chat_model(options.model), judge, options.dataset)


def chat_model(name: str) -> BaseChatModel:
    """A model by its name for init_chat_model, or the offline demo."""
    return DemoChatModel() if name == DEMO else init_chat_model(name)


def compare(model: BaseChatModel, judge: Judge | None, name: str) -> None:
    """Answer the questions in both ways, and tell how it went."""
    graph = create_sot_graph(model, on_error="keep")

    def plain(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"answer": model.invoke(inputs["question"]).text}

    def outline(inputs: dict[str, Any]) -> dict[str, Any]:
        result = graph.invoke({"question": inputs["question"]})
        sot = result["messages"][-1].response_metadata["sot"]
        return {"answer": result["answer"], "points": result["points"], "sot": sot}

    online = bool(os.environ.get("LANGSMITH_API_KEY"))
    client = Client() if online else silent_client()
    told: dict[str, Any] = {
        "data": dataset(client, name) if online else local_examples(),
        "client": client,
        "upload_results": online,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'upload_(results|runs)' parameter is in beta")
        by_plain = evaluate(plain, evaluators=[seconds], experiment_prefix="plain", **told)
        by_outline = evaluate(outline, evaluators=[seconds, points], experiment_prefix="outline", **told)

    every = list(zip(by_outline, by_plain, strict=True))
    pairs = [pair for pair in every if not any(each["run"].error for each in pair)]
    if len(pairs) < len(every):
        print(f"{len(every) - len(pairs)} of {len(every)} questions failed, and are left out.")
    if not pairs:
        return
    pairwise = [sooner, *(judged(judge, pairs) if judge else [])]
    names = (by_outline.experiment_name, by_plain.experiment_name)
    scores = verdicts_in_langsmith(client, names, len(pairs), pairwise) if online else verdicts_here(pairs, pairwise)
    client.close()
    tell(pairs, scores)


def silent_client() -> Client:
    """A client that sends nothing: traces of models would go out, even where results are not uploaded."""
    return Client(api_key="none", auto_batch_tracing=False, tracing_sampling_rate=0)


def verdicts_here(pairs: Sequence[tuple[Any, Any]], pairwise: Sequence[Pairwise]) -> Scores:
    """Compare the answers without LangSmith."""
    scores: Scores = {}
    for pair in pairs:
        for evaluator in pairwise:
            verdict = evaluator([each["run"] for each in pair], pair[0]["example"])
            scores.setdefault(verdict["key"], {}).update(verdict["scores"])
    return scores


def verdicts_in_langsmith(client: Client, names: tuple[str, str], count: int, pairwise: Sequence[Pairwise]) -> Scores:
    """Compare two experiments, so that the verdicts are in LangSmith too."""
    for name in names:
        arrive(client, name, count)
    scores: Scores = {}
    for compared in evaluate_comparative(names, pairwise, client=client):
        for key, verdict in compared["evaluation_results"].items():
            if key.startswith("feedback."):
                scores.setdefault(verdict.key, {}).update(verdict.scores)
    return scores


def tell(pairs: Sequence[tuple[Any, Any]], scores: Scores) -> None:
    """Print the figures: a line for each question, and what lies in the middle."""
    columns = ["plain s", "outline s", "points", "failed", "speed-up", *(f"{key}?" for key in scores)]
    lines = []
    for outline, plain in pairs:
        found = {each.key: each.score for each in outline["evaluation_results"]["results"]}
        figures = [found[key] for key in ("seconds", "points", "failed_points", "parallel_gain")]
        verdicts = [by_run.get(outline["run"].id, nan) for by_run in scores.values()]
        lines.append([_seconds(plain["run"]), *figures, *verdicts])
    questions = [row["example"].inputs["question"] for row, _ in pairs]
    known = ([value for value in column if not isnan(value)] for column in zip(*lines, strict=True))
    lines.append([median(column) if column else nan for column in known])
    print("\n" + " " * 48, *(f"{column:>9}" for column in columns))
    for question, line in zip([*questions, "median"], lines, strict=True):
        print(f"{question[:48]:<48}", *(f"{value:9.2f}" for value in line))
    print(
        "\nspeed-up: against the same calls one after the other; with a ?: 1 is for the outline, 0 for the plain answer"
    )


def _seconds(run: Run) -> float:
    return round((run.end_time - run.start_time).total_seconds(), 2) if run.end_time else 0.0


if __name__ == "__main__":
    main()
