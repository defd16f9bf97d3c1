"""The options that `ask` and `compare` share."""

from typing import Annotated

import typer

from sot_graph.cli.terminal import DEFAULT_MODEL, DEMO, LOCAL

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
