"""What a provider's cache wants for the prefix that all calls of an answer share: a mark at its end, or a key.

The prefix is the system message and the conversation with its question. A provider that finds it in its cache reads it
for a tenth of the price; docs/performance.md has each provider's rules, with their sources.
"""

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from sot_graph import _engine
from sot_graph.caching import digest
from sot_graph.models import Model, chat_models_in, settings_of

LEAST = 1_024
"""Tokens of a prefix: no provider that takes marks or keys caches less, but for some of Anthropic's models."""
LONG = 2_048
"""Tokens of a prefix from which the outline is worth asking for as plain text; see `warms`."""
CHARACTERS = 4
"""Of a token, as far as that can be told without the model's tokenizer."""
KEY = "prompt_cache_key"
MARKS = {
    "cache_control": {"type": "ephemeral"},
    "cachePoint": {"type": "default"},
    "prompt_cache_breakpoint": {"mode": "explicit"},
}
MOST_MARKS = 4
"""Marks that a provider takes in one request."""
_OPENAI = re.compile(r"^https://([\w-]+\.)?api\.openai\.com(/|:|$)")
_BEDROCK = re.compile(
    r"anthropic\.claude-(?!v2|instant|3-(?:opus|sonnet|haiku)|3-5-sonnet-20240620)|amazon\.nova-(?:micro|lite|pro|premier)"
)
"""Models of Bedrock that cache; the others refuse a mark."""
_VERSION = re.compile(r"\bgpt-(\d)(?:\.(\d+))?(?!\d)")
_TAKES_MARKS = (5, 6)
"""The first version of OpenAI's that takes marks; one before it refuses them."""


def cache_of(model: Model) -> str | None:
    """What the cache of a model's provider takes: the name of a mark, or the key; None if it takes none of them.

    Also None if the chat models in a Runnable differ, because each of them gets the same messages.
    """
    kinds = {_cache_of(each) for each in chat_models_in(model)}
    return kinds.pop() if len(kinds) == 1 else None


def _cache_of(model: BaseChatModel) -> str | None:
    classes = {f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in type(model).__mro__}
    names = " ".join(str(getattr(model, name, "")) for name in ("model_name", "model_id", "base_model_id"))
    if "langchain_anthropic.ChatAnthropic" in classes:
        return "cache_control"
    if "langchain_aws.ChatBedrockConverse" in classes:
        return "cachePoint" if _BEDROCK.search(names) else None
    # A server of the caller's own may refuse a field that it does not know.
    if "langchain_openai.ChatOpenAI" not in classes or not _OPENAI.match(_engine.client_url(model)):
        return None
    version = _VERSION.search(names)
    takes_marks = version and (int(version[1]), int(version[2] or 0)) >= _TAKES_MARKS
    return "prompt_cache_breakpoint" if takes_marks else KEY


def warms(model: Model, shared: Sequence[BaseMessage]) -> bool:
    """Whether an outline as plain text pays: then its call writes the prefix into the cache, and the points read it.

    With a schema it does not, because these providers put a schema, and tools, in front of the system message.
    """
    return _tokens(shared) >= LONG and cache_of(model) is not None


def with_mark(kind: str | None, model: Model, messages: Sequence[BaseMessage], shared: int) -> list[BaseMessage]:
    """Mark the end of the shared prefix, if the model's provider takes a mark.

    Args:
        kind: What its cache takes; see `cache_of`.
        model: The model that gets the messages.
        messages: All messages of a call. They stay as they are: what changes is copied.
        shared: How many of them are the prefix.
    """
    marked = [*messages]
    last = marked[shared - 1] if shared else None
    # Assistant messages take no mark from OpenAI. None of our prefixes ends with one.
    if kind not in MARKS or last is None or isinstance(last, AIMessage) or _tokens(marked[:shared]) < LEAST:
        return marked
    blocks: list[Any] = [each for message in marked for each in _blocks(message)]
    own = _blocks(last)
    place = max((place for place, block in enumerate(own) if block.get("type") == "text"), default=None)
    is_full = sum(kind in block for block in blocks) >= MOST_MARKS
    if place is None or is_full or any(kind in block for block in own) or _is_callers(model, kind, "cache_control"):
        return marked
    mark = {kind: {**MARKS[kind]}}
    own[place : place + 1] = [own[place], mark] if kind == "cachePoint" else [{**own[place], **mark}]
    marked[shared - 1] = last.model_copy(update={"content": own})
    return marked


def with_key(kind: str | None, model: Model, shared: Sequence[BaseMessage]) -> Model:
    """Bind a key that leads all calls of a conversation to one machine, if the model's provider takes one.

    It is made of the conversation's beginning: a resumed run, and the next question, have the same.
    """
    if kind != KEY or _tokens(shared) < LEAST or _is_callers(model, KEY):
        return model
    return model.bind(**{KEY: f"sot-{digest(*shared[:2])}"})


def _is_callers(model: Model, *names: str) -> bool:
    """Whether the caller has set one of these: in a binding, or in the model's extra settings."""
    for settings in settings_of(model):
        places = (settings, settings.get("model_kwargs") or {}, settings.get("extra_body") or {})
        if any(place.get(name) for place in places for name in names):
            return True
    return False


def _blocks(message: BaseMessage) -> list[Any]:
    content: list[Any] = [message.content] if isinstance(message.content, str) else message.content
    return [{"type": "text", "text": each} if isinstance(each, str) else each for each in content]


def _tokens(messages: Sequence[BaseMessage]) -> int:
    return sum(len(message.text) for message in messages) // CHARACTERS
