"""What the commands share: the exit codes, standard error, and the choice of the model."""

import os
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer
from langchain_core.language_models import BaseChatModel
from rich.console import Console

from sot_graph.demo import DemoChatModel
from sot_graph.evaluation.text import strip_controls
from sot_graph.redaction import note_of

P = ParamSpec("P")
Created = TypeVar("Created")
DEFAULT_MODEL = "openai:gpt-5.5"
"""The model if none is named and OPENAI_API_KEY is set."""
DEMO = "demo"
LOCAL = "local"
GGUF = ".gguf"
SMALL_MODEL = (
    "SmolLM2-135M-Instruct answers, on this machine. It writes well for its size but plans badly: give it the points "
    f"(ask --outline), or use a better model: --model path/to/model.gguf, or a name such as {DEFAULT_MODEL}."
)
USAGE_ERROR = 2
INTERRUPTED = 130
"""The exit code that shells use for Ctrl-C."""

errors = Console(stderr=True, highlight=False)
errors.soft_wrap = not errors.is_terminal  # a log file has no width


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """Print a message on standard error and exit."""
    errors.print(f"sot-graph: {strip_controls(message)}", style="red", markup=False)
    raise typer.Exit(exit_code)


def error_line(error: Exception) -> str:
    """The type of an error, the first line of its message, and our note on the model and the host."""
    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{line} {note_of(error)}".rstrip()


def choose_model(name: str | None, base_url: str | None) -> str | BaseChatModel:
    """Choose the model: the one that is named, otherwise OpenAI's if there is a key, otherwise the demo.

    "local" and the path of a GGUF file name models that run in this process.
    """
    if name is not None and base_url is None and (name == LOCAL or name.lower().endswith(GGUF)):
        return _local_model(name)
    if base_url is not None:
        if name is None:
            fail("--base-url needs --model: the name of a model on that server.", USAGE_ERROR)
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - slow to import, and needed only here

        # The client requires a key; local servers do not check it.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        return ChatOpenAI(model=name.removeprefix("openai:"), base_url=base_url, api_key=key)
    if name is None and os.environ.get("OPENAI_API_KEY"):
        name = DEFAULT_MODEL
    if name is None:
        errors.print(
            "No model is configured (--model, SOT_MODEL or OPENAI_API_KEY). The offline demo model writes placeholder "
            "text; a real small model is --model local.",
            style="yellow",
        )
    return DemoChatModel() if name in {None, DEMO} else name


def _local_model(name: str) -> BaseChatModel:
    from sot_graph.local import local_chat_model  # noqa: PLC0415 - slow to import, and needed only here

    if name != LOCAL:
        return create_or_exit(local_chat_model, name)
    model = create_or_exit(local_chat_model)
    errors.print(SMALL_MODEL, style="yellow")
    return model


def create_or_exit(factory: Callable[P, Created], *args: P.args, **kwargs: P.kwargs) -> Created:
    """Create a model or a graph, or exit with one line. An unknown name, a missing file or package is a usage error."""
    try:
        return factory(*args, **kwargs)
    except (FileNotFoundError, ImportError, ValueError) as error:
        fail(error_line(error), USAGE_ERROR)
    except Exception as error:  # noqa: BLE001 - each client raises errors of its own
        fail(error_line(error))
