"""What the commands have in common: the model that is meant, and what stands on standard error."""

import os
import sys
from typing import TYPE_CHECKING, NoReturn

try:
    import typer
    from rich.console import Console
except ImportError as error:  # pragma: no cover - the tests have the extra
    sys.exit(f"sot-graph needs its extra `cli` ({error}): pip install 'sot-graph[cli]'")

from sot_graph.console.display import harmless
from sot_graph.demo import DemoChatModel

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

DEFAULT_MODEL = "openai:gpt-5.5"
"""The model when nothing is said but a key for OpenAI is there."""
DEMO = "demo"
WRONG_USE = 2
INTERRUPTED = 130
"""What a shell calls the end by Ctrl-C."""

errors = Console(stderr=True, highlight=False)
errors.soft_wrap = not errors.is_terminal  # a log has no width


def fail(line: str, exit_code: int = 1) -> NoReturn:
    """End with one readable line on standard error."""
    errors.print(f"sot-graph: {harmless(line)}", style="red", markup=False)
    raise typer.Exit(exit_code)


def choose_model(name: str | None, base_url: str | None) -> "str | BaseChatModel":
    """The model to ask: the one that is named, else OpenAI's where there is a key, else the demo."""
    if base_url is not None:
        if name is None:
            fail("--base-url needs --model: which of the server's models?", WRONG_USE)
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - slow, and needed only here

        # Local servers want some key and check none.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        return ChatOpenAI(model=name.removeprefix("openai:"), base_url=base_url, api_key=key)
    if name is None and os.environ.get("OPENAI_API_KEY"):
        name = DEFAULT_MODEL
    if name is None:
        errors.print(
            "No model is configured (--model, SOT_MODEL or OPENAI_API_KEY): this is the offline demo, and its text a "
            "placeholder.",
            style="yellow",
        )
    return DemoChatModel() if name in {None, DEMO} else name


def one_line(error: Exception) -> str:
    """An error as one readable line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
