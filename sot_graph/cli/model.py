"""The model that a command uses."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from sot_graph.cli.options import DEFAULT_MODEL, DEMO, LOCAL, ModelChoice
from sot_graph.cli.terminal import USAGE_ERROR, error_line, errors, fail
from sot_graph.demo import DemoChatModel
from sot_graph.evaluation.text import strip_controls
from sot_graph.redaction import redact

P = ParamSpec("P")
Created = TypeVar("Created")
GGUF = ".gguf"
NO_MODEL = (
    "No model is configured, so the offline demo writes placeholder text. Name a model with --model, SOT_MODEL or "
    "OPENAI_API_KEY; a real small model without a key is --model local."
)
SMALL_MODEL = (
    "It writes well for its size but plans badly: give it the points (ask --outline), or use a better model: "
    f"--model path/to/model.gguf, or a name such as {DEFAULT_MODEL}."
)


@dataclass(frozen=True)
class Chosen:
    """The model that a command uses."""

    model: str | BaseChatModel
    setting: str
    """Its name in the settings of a comparison."""
    label: str
    """What it is called on standard error."""
    why: str = ""
    """Where its name is from, if no option has named it."""
    notice: str = ""

    def print(self, role: str) -> None:
        """Name the model on standard error."""
        why = f" ({self.why})" if self.why else ""
        errors.print(f"{role}: {strip_controls(self.label)}{why}", style="dim", markup=False)
        if self.notice:
            errors.print(self.notice, style="yellow", markup=False)


def choose_model(choice: ModelChoice, role: str = "Model") -> Chosen:
    """Choose the model, and name it on standard error.

    It is the one that is named, else OpenAI's if there is a key, else the demo. "local" and the path of a GGUF file
    name models that run in this process.

    Args:
        choice: What the user has named.
        role: What the model does: "Model" or "Judge".
    """
    chosen = _choose(choice.name, choice.base_url)
    chosen.print(role)
    return chosen


def _choose(name: str | None, base_url: str | None) -> Chosen:
    if base_url is not None:
        return _on_server(name, base_url)
    if name is None and os.environ.get("OPENAI_API_KEY"):
        return Chosen(DEFAULT_MODEL, DEFAULT_MODEL, DEFAULT_MODEL, why="because OPENAI_API_KEY is set")
    if name is None:
        return Chosen(DemoChatModel(), DEMO, DEMO, notice=NO_MODEL)
    why = "from SOT_MODEL" if name == os.environ.get("SOT_MODEL") else ""
    if name == DEMO:
        return Chosen(DemoChatModel(), DEMO, DEMO, why)
    if name == LOCAL or name.lower().endswith(GGUF):
        return _local_model(name, why)
    return Chosen(name, name, name, why)


def _on_server(name: str | None, base_url: str) -> Chosen:
    """A model on an OpenAI-compatible server."""
    if name is None:
        fail("--base-url needs --model: the name of a model on that server.", USAGE_ERROR)
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - slow to import, and needed only here

    # The client requires a key; local servers do not check it.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    model = ChatOpenAI(model=name.removeprefix("openai:"), base_url=base_url, api_key=SecretStr(key))
    return Chosen(model, name, f"{name} at {redact(base_url)}")


def _local_model(name: str, why: str) -> Chosen:
    """A model that runs in this process."""
    from sot_graph.local import local_chat_model  # noqa: PLC0415 - slow to import, and needed only here

    if name != LOCAL:
        return Chosen(create_or_exit(local_chat_model, name), name, f"{Path(name).name}, on this machine", why)
    label = "SmolLM2-135M-Instruct, on this machine"
    return Chosen(create_or_exit(local_chat_model), name, label, why, SMALL_MODEL)


def create_or_exit(factory: Callable[P, Created], *args: P.args, **kwargs: P.kwargs) -> Created:
    """Create a model or a graph, or exit with one line. An unknown name, a missing file or package is a usage error."""
    try:
        return factory(*args, **kwargs)
    except (FileNotFoundError, ImportError, ValueError) as error:
        fail(error_line(error), USAGE_ERROR)
    except Exception as error:  # noqa: BLE001 - each client raises errors of its own
        fail(error_line(error))
