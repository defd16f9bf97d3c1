"""The command `sot-graph compare`: its options. `comparison.py` does the work."""

from pathlib import Path
from typing import Annotated

import typer

from sot_graph.cli.options import DEMO, BaseUrl, Lead, MaxPoints, ModelChoice, ModelName

RESULTS = "results.jsonl"


def compare_answers(  # noqa: PLR0913 - one parameter for each option
    question: Annotated[str | None, typer.Argument(help="The question, unless --file has the questions.")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(help='Questions, one JSON object per line: {"question": "...", "category": "..."}.'),
    ] = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    max_points: MaxPoints = 10,
    lead: Lead = False,
    at_once: Annotated[
        bool, typer.Option("--at-once/--in-turn", help="Run both answers at the same time, or one after the other.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="How many questions run at the same time.")] = 1,
    judge: Annotated[str | None, typer.Option(help=f"A model that judges the answers: a name, or {DEMO}.")] = None,
    judge_url: Annotated[str | None, typer.Option(help="The URL of an OpenAI-compatible server for the judge.")] = None,
    price_in: Annotated[float | None, typer.Option(min=0, help="The price of a million input tokens.")] = None,
    price_cached: Annotated[
        float | None,
        typer.Option(min=0, help="The price of a million cached input tokens. Default: the same as --price-in."),
    ] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="The price of a million output tokens.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"The folder for {RESULTS}, summary.json, summary.md, summary.svg and answers.html. Questions "
            f"that are answered in {RESULTS} do not run again. Default with --file FILE.jsonl: FILE-comparison."
        ),
    ] = None,
) -> None:
    """Answer questions in one plain call and with Skeleton-of-Thought, and compare time, tokens and quality."""
    from sot_graph.cli.comparison import Job, run_job  # noqa: PLC0415 - slow, and the help does not need it

    run_job(
        Job(
            question=question,
            file=file,
            model=ModelChoice(model, base_url),
            judge=ModelChoice(judge, judge_url),
            max_points=max_points,
            lead=lead,
            at_once=at_once,
            concurrency=concurrency,
            prices=(price_in, price_out, price_cached),
            output=output,
        )
    )
