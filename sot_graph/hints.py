"""A note on the error of a model call: the model, the host, and what is likely to be wrong.

"Connection error." and "Error code: 404" say none of these.
"""

import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding

from sot_graph import _engine
from sot_graph.models import chat_models_in
from sot_graph.redaction import NOTE, note_of, redact
from sot_graph.retry import http_status

_URL = re.compile(r"(?:base_url|api_base|api_url|endpoint|endpoint_url)$")
"""The names of the settings that hold a base URL."""
_NAMES = ("model_name", "model", "model_id", "deployment_name")
_WRONG_PATH = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def add_hint(error: Exception, runnable: object, secrets: Collection[str]) -> None:
    """Add a note to an error that a caller will see, unless it has one, or no chat model is known to have raised it."""
    bound = _bound_name(runnable)
    models = [*chat_models_in(runnable)]
    places = [place for model in models if (place := _place(model, bound))]
    if places and not note_of(error):
        note = f"{NOTE}{' or '.join(dict.fromkeys(places))}. {_hint(error, vars(models[0]), _url(models[0]))}"
        error.add_note(redact(note.strip(), secrets))


def _place(model: BaseChatModel, bound: str | None) -> str:
    """Which model, and where; "" of one that has neither a name nor a host, such as a fake."""
    settings, url = vars(model), _url(model)
    name = bound or next((value for key in _NAMES if isinstance(value := settings.get(key), str) and value), None)
    if name is None:
        return url and f"{type(model).__name__} at {url}"
    return f"model {name!r} {f'at {url}' if url else f'of {type(model).__name__}'}"


def _bound_name(runnable: object) -> str | None:
    """The name that `model.bind(model=...)` gives."""
    while isinstance(runnable, RunnableBinding):
        if isinstance(name := runnable.kwargs.get("model"), str):
            return name
        runnable = runnable.bound
    return None


def _url(model: BaseChatModel) -> str:
    """The base URL without credentials and query."""
    settings = (value for name, value in vars(model).copy().items() if _URL.search(name) and isinstance(value, str))
    url = next(filter(None, settings), "") or _engine.client_url(model)
    # Up to the last "@": a password that is not encoded may have any character.
    return re.sub(r"[?#].*", "", re.sub(r"^(\w[\w+.-]*://)?.*@", r"\1", url.strip())).rstrip("/")


def _hint(error: Exception, settings: Mapping[str, Any], url: str) -> str:
    status = http_status(error)
    if url and "://" not in url:
        return "The base URL lacks http:// or https:// in front."
    if status in _WRONG_PATH:
        lacks = "openai_api_base" in settings and not settings.get("azure_endpoint") and not re.search(r"/v\d", url)
        path = "the base URL lacks /v1 at its end" if lacks else "the path of the base URL is wrong"
        return f"Probably {path}, or the model is not served there."
    if status in _REFUSED:
        return "Probably the key is missing, or is one for another provider."
    names = [type(each).__name__ for each in (error, error.__cause__, error.__context__)]
    return "Is the server up, and is the address right?" if any("Connect" in name for name in names) else ""
