"""The model that a command uses."""

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from langchain_core.language_models import BaseChatModel

from sot_graph.cli.options import DEFAULT_MODEL, DEMO, LOCAL
from sot_graph.cli.terminal import USAGE_ERROR, error_line, errors, fail
from sot_graph.demo import DemoChatModel

P = ParamSpec("P")
Created = TypeVar("Created")
GGUF = ".gguf"
SMALL_MODEL = (
    "SmolLM2-135M-Instruct answers, on this machine. It writes well for its size but plans badly: give it the points "
    f"(ask --outline), or use a better model: --model path/to/model.gguf, or a name such as {DEFAULT_MODEL}."
)


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
