"""Answer a file of questions on the machines of a Ray cluster, or on this one: the graph in the actors of Ray Data.

`python examples/bulk_ray/answer.py questions.jsonl answers`, with no key; it needs
`pip install "ray[data]>=2.60,<2.64"`.

Each line of the file has an `id` of its own and a `question`, if you like an `outline`, and further columns, which come
back with the answer. `answers/results/` gets JSON lines, a file for each batch, and `answers/checkpoints/` the ids that
are in it: the same command again, after whatever end, answers what is not there yet. docs/cluster.md has the rest.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data.checkpoint import CheckpointConfig

from sot_graph import DemoChatModel, abatch_answers, create_sot_graph, local_chat_model

RETRIES = 10
"""How often a batch is begun again whose actor has died. A lost machine takes some, until Ray knows that it is lost."""


class Answerer:
    """An actor: a model and a graph, made once. Ray runs its calls in one event loop."""

    def __init__(self, model: str | None, base_url: str | None, threads: int, concurrency: int) -> None:
        self.graph = create_sot_graph(make_model(model, base_url, threads), on_error="keep")
        self.concurrency = concurrency

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Answer a batch. A question that fails has its `error` in the results, and does not end the others."""
        ids = batch["id"].to_pylist()
        if None in ids:
            msg = "A line has no id: without one, nobody knows whether it is answered."
            raise ValueError(msg)
        questions = abatch_answers(self.graph, batch.to_pylist(), concurrency=self.concurrency)
        results = {result["id"]: result async for result in questions}
        # In their own order: a batch that is begun again gives the same rows.
        return pa.Table.from_pylist([results[ident] for ident in ids])


def make_model(name: str | None, base_url: str | None, threads: int) -> Any:
    """The model of one actor."""
    if name == "local":
        return local_chat_model(threads=threads)
    if base_url:
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - slow to import, and needed only here

        return ChatOpenAI(model=name or "default", base_url=base_url)
    return name or DemoChatModel()


def answer(options: argparse.Namespace, folder: str) -> None:
    """Answer what is not answered yet."""
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig("id", f"{folder}/checkpoints", delete_checkpoint_on_success=False)
    context.max_errored_blocks = -1  # a batch that cannot be answered does not end the others
    actors = ray.data.ActorPoolStrategy(size=options.actors, max_tasks_in_flight_per_actor=1)
    threads = max(1, int(options.cpus))
    # A block is a batch, a task of an actor, a file of results, and a checkpoint.
    rows = ray.data.read_json(options.questions).repartition(target_num_rows_per_block=options.batch_size, strict=True)
    results = rows.map_batches(
        Answerer,
        fn_constructor_args=(options.model, options.base_url, threads, options.concurrency),
        batch_size=None,
        batch_format="pyarrow",
        compute=actors,
        num_cpus=options.cpus,
        max_task_retries=RETRIES,  # Ray's default is for ever; a row that ends its process would be paid for as often
    )
    results.write_json(f"{folder}/results", date_format="iso")
    context.checkpoint_config = None


def report(options: argparse.Namespace, folder: str) -> int:
    """Tell how many questions are answered; returns how many are left."""
    asked: int = ray.data.read_text(options.questions).count()
    try:
        done: int = ray.data.read_text(f"{folder}/results").count()
    except FileNotFoundError:  # no batch at all
        done = 0
    print(f"{done} of {asked} questions are in {folder}/results")
    return asked - done


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", help="JSON lines: a file, a folder, or a URL such as s3://...")
    parser.add_argument("output", help="a folder that all machines see, or a URL")
    parser.add_argument("--model", help='a name for init_chat_model, or "local"; left out, the offline demo')
    parser.add_argument("--base-url", help="an OpenAI-compatible server that has the model")
    parser.add_argument("--actors", type=int, default=2, help="processes that answer")
    parser.add_argument("--concurrency", type=int, default=50, help="model calls of an actor at the same time")
    parser.add_argument(
        "--batch-size", type=int, default=100, help="questions that an actor takes, and stores, at once"
    )
    parser.add_argument("--cpus", type=float, default=1, help="CPUs of an actor; with --model local, its threads, too")
    parser.add_argument("--address", default=os.environ.get("RAY_ADDRESS"), help="a cluster; left out, this machine")
    options = parser.parse_args()
    folder = options.output if "://" in options.output else str(Path(options.output).absolute())
    if options.address:
        ray.init(options.address)
    else:  # a CPU of Ray's is a counter, not a core: reading, filtering and writing need one each
        ray.init("local", num_cpus=math.ceil(options.actors * options.cpus) + 3, include_dashboard=False)
    answer(options, folder)
    left = report(options, folder)
    if left:
        sys.exit(f"{left} are left: the log says why. The same command answers them, and only them.")


if __name__ == "__main__":
    main()
