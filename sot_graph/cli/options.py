"""The options that several commands share, and the models that their help names."""

from dataclasses import dataclass
from typing import Annotated

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
        envvar="SOT_MODEL",
        help=f"A model name for init_chat_model, such as {DEFAULT_MODEL}; the path of a GGUF file, or {LOCAL}, for a "
        f"model on this machine; or {DEMO}. Default: {DEFAULT_MODEL} if OPENAI_API_KEY is set, otherwise the offline "
        "demo.",
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option(help="The URL of an OpenAI-compatible server (vLLM, Ollama, LM Studio). Needs --model.")
]
MaxPoints = Annotated[int, typer.Option(min=1, help="The maximum number of points.")]
Lead = Annotated[
    bool, typer.Option("--lead", help="Start the answer with an opening that is written while the outline is written.")
]
