"""The command `sot-graph compare`: its options. `comparison.py` does the work."""

from pathlib import Path
from typing import Annotated

import typer

from sot_graph.cli.options import (
    DEMO,
    BaseUrl,
    Closing,
    Hedge,
    Lead,
    MaxPoints,
    ModelChoice,
    ModelName,
    PriceCached,
    PriceIn,
    PriceOut,
)
from sot_graph.cli.question import Words, join_words

RESULTS = "results.jsonl"
Against = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=VALUE,...",
        help="Compare the graph with itself with these options of create_sot_graph, and not with one plain call: "
        'lead=true,max_points=4, or system_prompt="Short, please.".',
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help=f"The folder for {RESULTS}, summary.json, summary.md, summary.svg and answers.html. Questions "
        f"that are answered in {RESULTS} do not run again. Default with --file FILE.jsonl: FILE-comparison.",
    ),
]


EXAMPLES = f"""
Examples:

sot-graph compare "How can I sleep better?" -m openai:gpt-5.5

sot-graph compare -f questions.jsonl -m openai:gpt-5.5 --judge openai:gpt-5.5 -o results

sot-graph compare -f questions.jsonl -m openai:gpt-5.5 --judge openai:gpt-5.5 --against lead=true

sot-graph compare How can I sleep better -m {DEMO} --judge {DEMO}
"""


def compare_answers(  # noqa: PLR0913 - one parameter for each option
    question: Words = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help='A file of questions, one JSON object per line: {"question": "...", "category": "..."}.',
        ),
    ] = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    max_points: MaxPoints = 10,
    lead: Lead = False,
    closing: Closing = False,
    hedge: Hedge = None,
    against: Against = None,
    at_once: Annotated[
        bool, typer.Option("--at-once/--in-turn", help="Run both answers at the same time, or one after the other.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="How many questions run at the same time.")] = 1,
    judge: Annotated[str | None, typer.Option(help=f"A model that judges the answers: a name, or {DEMO}.")] = None,
    judge_url: Annotated[str | None, typer.Option(help="The URL of an OpenAI-compatible server for the judge.")] = None,
    price_in: PriceIn = None,
    price_cached: PriceCached = None,
    price_out: PriceOut = None,
    output: Output = None,
) -> None:
    """Answer a question with an outline and in one plain call, and compare time, tokens and quality.

    A file of questions makes a folder of results. The same command resumes a run that was stopped.
    """
    asked = join_words(question)
    from sot_graph.cli.comparison import Job, run_job  # noqa: PLC0415 - slow, and the help does not need it

    run_job(
        Job(
            question=asked,
            file=file,
            model=ModelChoice(model, base_url),
            judge=ModelChoice(judge, judge_url),
            max_points=max_points,
            lead=lead,
            closing=closing,
            hedge=hedge,
            against=against,
            at_once=at_once,
            concurrency=concurrency,
            prices=(price_in, price_out, price_cached),
            output=output,
        )
    )
