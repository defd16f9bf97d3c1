"""The options that several commands share, and the models that their help names."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

DEFAULT_MODEL = "openai:gpt-5.5"
"""The model if none is named and OPENAI_API_KEY is set."""
DEMO = "demo"
LOCAL = "local"


@dataclass(frozen=True)
class ModelChoice:
    """The model that the user named, if any."""

    name: str | None
    base_url: str | None


ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="SOT_MODEL",
        help=f"The model: a name such as {DEFAULT_MODEL}; {LOCAL}, or the path of a GGUF file, for a model on this "
        f"machine; or {DEMO}. Default: {DEFAULT_MODEL} if OPENAI_API_KEY is set, otherwise {DEMO}, which writes "
        "placeholder text.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", "-u", help="The URL of an OpenAI-compatible server (vLLM, Ollama, LM Studio). Needs --model."
    ),
]
MaxPoints = Annotated[int, typer.Option("--max-points", "-n", min=1, help="Write no more points than this.")]


def _hedge(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


Hedge = Annotated[
    Any,
    typer.Option(
        "--hedge",
        parser=_hedge,
        metavar="SECONDS|3x",
        help="Send a request once more if no text has come after so many seconds, or after a multiple of the median "
        "time to the first token, such as 3x; the first of the two that is answered is read.",
    ),
]
Detail = Annotated[
    str,
    typer.Option(
        "--detail",
        metavar="titles|scoped",
        help="What the model's outline says: titles, or also what each point covers, needs and takes (scoped).",
    ),
]
RouteName = Annotated[
    str,
    typer.Option(
        "--route",
        metavar="auto|always|default|FILE",
        help="Which questions get an outline: those that the outline's call does not decline (auto), all (always), or "
        "those that a trained router chooses: the one that comes with sot-graph (default), or that of a file.",
    ),
]
Lead = Annotated[
    bool, typer.Option("--lead", "-l", help="Begin with an opening of a sentence or two, written beside the outline.")
]
Closing = Annotated[
    bool,
    typer.Option("--closing", "-c", help="End with a sentence or two, written from the points once they are there."),
]
Headings = Annotated[bool, typer.Option("--headings", help="Print each point's title above its text.")]
PriceIn = Annotated[float | None, typer.Option(min=0, help="The price of a million input tokens.")]
PriceCached = Annotated[float | None, typer.Option(min=0, help="The same if cached. Default: --price-in.")]
PriceOut = Annotated[float | None, typer.Option(min=0, help="The price of a million output tokens.")]
