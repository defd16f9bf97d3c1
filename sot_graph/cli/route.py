"""The commands `sot-graph route train` and `test`: their options. `router.py` does the work."""

from pathlib import Path
from typing import Annotated

import typer

from sot_graph.cli.terminal import USAGE_ERROR, fail
from sot_graph.evaluation.training import THRESHOLD
from sot_graph.routing import Router, load_router

DEFAULT_ROUTER = "default"
"""The name of the router that comes with the package."""
TRAIN_EXAMPLES = """
Examples:

sot-graph route train labelled.jsonl --output router.json

sot-graph route train labelled.csv results/results.jsonl --output router.json --threshold 0.9
"""
TEST_EXAMPLES = """
Examples:

sot-graph route test labelled.jsonl

sot-graph route test router.json labelled.jsonl
"""
Threshold = Annotated[
    float | None,
    typer.Option(min=0.5, max=1, help="How certain the router must be to decide. Default: what its file says."),
]
app = typer.Typer(
    no_args_is_help=True,
    help="Train a router, which tells without a model call whether a question suits an outline, or test one.",
)


def load_or_exit(path: str | Path | None, threshold: float | None = None) -> Router:
    """Load a router, or exit with what is wrong with its file."""
    try:
        return load_router(path, threshold=threshold)
    except (OSError, ValueError) as error:
        fail(str(error), USAGE_ERROR)


def choose_route(name: str) -> str | Router:
    """The route that `--route` names."""
    return name if name in {"auto", "always"} else load_or_exit(None if name == DEFAULT_ROUTER else name)


@app.command("train", epilog=TRAIN_EXAMPLES)
def train_router(
    labelled: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELLED...",
            show_default=False,
            help='Files of labelled questions: JSON lines such as {"question": "...", "label": true}, CSV with these '
            "columns, or the results.jsonl of sot-graph compare --judge.",
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", show_default=False, help="The file for the router.")],
    threshold: Annotated[
        float, typer.Option(min=0.5, max=1, help="How certain the router must be to decide; else the model does.")
    ] = THRESHOLD,
) -> None:
    """Train a router on labelled questions, and print how it does on questions that it has not seen.

    A label says whether the question suits an outline: true or false, 1 or 0, yes or no. It needs the extra router.
    """
    from sot_graph.cli.router import train_and_report  # noqa: PLC0415 - the help does not need it

    train_and_report(labelled, output, threshold)


@app.command("test", epilog=TEST_EXAMPLES)
def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[ROUTER] LABELLED",
            show_default=False,
            help="A router's file (default: the router that comes with sot-graph), then labelled questions, as for "
            "train.",
        ),
    ],
    *,
    threshold: Threshold = None,
) -> None:
    """Test a router on labelled questions: a confusion table, how sure it is, and the questions it gets wrong."""
    if len(files) > 2:  # noqa: PLR2004 - a router and its questions
        fail(
            "test needs one file of labelled questions, and the router's before it if it is not the default.",
            USAGE_ERROR,
        )
    from sot_graph.cli.router import test_and_report  # noqa: PLC0415 - the help does not need it

    test_and_report(load_or_exit(files[0] if files[1:] else None, threshold), files[-1])
