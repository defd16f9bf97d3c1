"""The command `sot-graph batch`: its options. `bulk.py` does the work."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sot_graph.cli.options import (
    BaseUrl,
    Closing,
    Detail,
    Headings,
    Hedge,
    Lead,
    MaxPoints,
    ModelChoice,
    ModelName,
    PriceCached,
    PriceIn,
    PriceOut,
    RouteName,
)
from sot_graph.cli.route import choose_route

EXAMPLES = """
Examples:

sot-graph batch questions.jsonl --output answers.jsonl -m openai:gpt-5.5

sot-graph batch questions.csv -o answers.csv -m openai:gpt-5.5 --requests-per-minute 500 --tokens-per-minute 200000

sot-graph batch questions.jsonl -o answers.jsonl -m openai:gpt-5.5 --backend openai-batch
"""

Questions = Annotated[
    Path,
    typer.Argument(
        help='The questions: a .jsonl file, one {"id": ..., "question": "..."} per line; .csv or .parquet. '
        "`id`, `outline` and `messages` are optional; further columns are carried over.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="The answers (.jsonl, .csv, .parquet). What is answered in it is not asked again, what failed is.",
        show_default=False,
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, help="How many model calls run at the same time, over all questions.")]
OnError = Annotated[
    str,
    typer.Option(
        metavar="keep|raise",
        help="What happens to an answer if a point of it fails: the others are kept, or there is no answer. Both "
        "are asked again by the next run.",
    ),
]
RequestsPerMinute = Annotated[
    float | None, typer.Option(min=0.001, help="How many calls start in a minute, at most.", show_default=False)
]
TokensPerMinute = Annotated[
    float | None, typer.Option(min=1, help="How many tokens they take in a minute, about.", show_default=False)
]
BackendName = Annotated[
    str,
    typer.Option(
        metavar="online|openai-batch|anthropic-batch",
        help="How the calls are made: at once, or by a provider's Batch API, within a day and at half the price.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with batches that an earlier run has left with the provider.")
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for batches, or leave as soon as they are submitted.")
]


def batch(  # noqa: PLR0913 - one parameter for each option
    questions: Questions,
    *,
    output: Output,
    model: ModelName = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = 50,
    on_error: OnError = "keep",
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    max_points: MaxPoints = 10,
    headings: Headings = False,
    lead: Lead = False,
    closing: Closing = False,
    hedge: Hedge = None,
    detail: Detail = "titles",
    route: RouteName = "auto",
    backend: BackendName = "online",
    resume: Resume = False,
    wait: Wait = True,
    price_in: PriceIn = None,
    price_cached: PriceCached = None,
    price_out: PriceOut = None,
) -> None:
    """Answer a file of questions, into a file of answers.

    Each answer is written as soon as it is there. The same command resumes after Ctrl-C, a crash or a kill, and asks
    what failed again. If the provider refuses calls because there are too many, all of them slow down.
    """
    from sot_graph.cli.bulk import Job, run_job  # noqa: PLC0415 - slow, and the help does not need it

    options: Any = {"max_points": max_points, "headings": headings, "lead": lead, "closing": closing}
    options |= {"hedge": hedge, "detail": detail, "on_error": on_error, "route": choose_route(route)}
    limits: Any = {"concurrency": concurrency, "requests_per_minute": requests_per_minute}
    limits |= {"tokens_per_minute": tokens_per_minute}
    run_job(
        Job(
            questions=questions,
            output=output,
            model=ModelChoice(model, base_url),
            options=options,
            limits=limits,
            prices=(price_in, price_out, price_cached),
            backend=backend,
            resume=resume,
            wait=wait,
        )
    )
