"""Redacts keys in text that is stored or printed: a point's `error`, log lines.

What is raised is never changed, but for a note (see `hints.py`). For traces, LangSmith's client has `hide_inputs`,
`hide_outputs` and anonymizers.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from sot_graph.models import settings_of
from sot_graph.text import storable

REDACTED = "***"
ERROR_LIMIT = 500
"""Characters of an error's message that are kept."""
NOTE = "The call was for "
"""The beginning of our note on the error of a model call."""
_SHORTEST = 6
"""A shorter key is a placeholder such as "none", and redacting it would garble other words."""
_HARMLESS_HEADERS = frozenset({"accept", "content-type", "user-agent", "http-referer", "referer", "x-title"})
# A key that no model of ours has: a server may repeat what it was sent, or a client may name its URL. Something short
# without a digit is a word: "bearer or basic authentication", "sk-learning".
_LOOKS_LIKE_A_KEY = r"(?=[\w.~+/=-]*\d|[\w.~+/=-]{20})"
_KEY = re.compile(
    rf"(?<=bearer ){_LOOKS_LIKE_A_KEY}[\w.~+/=-]+|(?<=basic ){_LOOKS_LIKE_A_KEY}[\w+/=]+|(?<=://)[^\s/@]+(?=@)"
    rf"|\b(?:sk-|gsk_|hf_|ghp_|xai-|pplx-|lsv2_|AIza){_LOOKS_LIKE_A_KEY}[\w-]+"
    rf"|(?P<name>(?<![a-z_-])(?:x-)?(?:(?:api|access|auth|client|secret|private|refresh)[_-]?)?(?:key|token|secret|password)"
    rf"[\"']?\s?[=:]\s?[\"']?)"
    rf"{_LOOKS_LIKE_A_KEY}[\w.~+/-]{{12,}}",
    re.IGNORECASE,
)


def redact(text: str, secrets: Collection[str] = ()) -> str:
    """Replace secrets, and whatever has the form of a key, by `***`."""
    for secret in sorted(secrets, key=len, reverse=True):
        # A secret that looks like a word may be part of others: a header's "server" of "observer".
        text = re.sub(rf"\b{secret}\b", REDACTED, text) if secret.isalpha() else text.replace(secret, REDACTED)
    return _KEY.sub(lambda key: (key["name"] or "") + REDACTED, text)


def describe(error: BaseException, secrets: Collection[str] = ()) -> str:
    """An exception as a short text that can be stored, with our note."""
    note = storable(f" {note_of(error)}".rstrip())
    return storable(redact(f"{type(error).__name__}: {error}", secrets))[: ERROR_LIMIT - len(note)] + note


def note_of(error: BaseException) -> str:
    """Our note on an error: the model and the host; "" if there is none. Others add notes, too: LangGraph does."""
    return next((note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE)), "")


def secrets_of(*models: object) -> list[str]:
    """The keys and header values that these chat models, and the models inside them, are made with; longest first."""
    found = {
        secret
        for model in models
        for settings in settings_of(model)
        for name, value in settings.items()
        for secret in _secrets_in(name, value)
    }
    return sorted((secret for secret in found if len(secret) >= _SHORTEST), key=lambda secret: (-len(secret), secret))


def secrets_in_graph(graph: object) -> set[str]:
    """The same of the nodes of a compiled graph; none of what is no graph of this process."""
    nodes = getattr(getattr(graph, "builder", None), "nodes", {}).values()
    return {secret for node in nodes for secret in getattr(node.runnable, "secrets", ())}


def _secrets_in(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, Mapping) and "header" in name.lower():
        yield from (str(each) for key, each in value.items() if str(key).lower() not in _HARMLESS_HEADERS)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secrets_in(str(key), each)
