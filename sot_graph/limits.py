"""What the graph adds to a caller's model, and leaves out where a server refuses it: token limits, and token counts."""

import re
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.configurable import DynamicRunnable

from sot_graph.models import Model, chat_models_in, parts_of, with_parts
from sot_graph.retry import http_status, words_of

Added = list[tuple[Any, str]]
"""Chat models of the graph's own, each with a field that the graph has set, or that some servers refuse."""
OUTLINE_TOKENS = 1_024
"""The most tokens of the outline's call; an outline has a few dozen."""
SHORT_TOKENS = 256
"""The same of the opening's and the ending's; two sentences have some fifty, in some scripts several times as many."""
_COUNTS = "stream_usage"
_LIMITS = ("max_tokens", "max_output_tokens", "num_predict")
"""The fields that limit the tokens of a call, of which a class has one."""
_LIMIT_NAMED = re.compile(
    r"max(?:imum)?[\W_]?(?:[a-z]+[\W_]?)?tokens|num_?predict|n_predict|in the completion", re.IGNORECASE
)
"""Names a limit of tokens, in settings or in a server's words."""
_COUNTS_NAMED = re.compile(r"stream.?options|include.?usage", re.IGNORECASE)
_UNKNOWN_PARAMETER = re.compile(
    r"(?:unknown|unrecogni[sz]ed|unexpected|unsupported|additional|extra) .{0,30}"
    r"(?:param|arg|field|prop|input|key)|not (?:permitted|allowed)|unsupported|^Error code: 4\d\d\s*$",
    re.IGNORECASE,
)


class TokenLimit(int):
    """The most tokens of one call, as the graph's own setting: a model whose limit is one of these had none."""

    is_dropped = False
    """Whether a call failed because of it: then the graph sets it no more."""


def limits_of(max_tokens: int | None) -> tuple[TokenLimit | None, TokenLimit | None, TokenLimit | None]:
    """The limits of a point, of the outline, and of the opening and the ending."""
    if max_tokens is None:
        return None, None, None
    return (
        TokenLimit(max_tokens),
        TokenLimit(min(max_tokens, OUTLINE_TOKENS)),
        TokenLimit(min(max_tokens, SHORT_TOKENS)),
    )


def with_limit(model: Model, limit: TokenLimit | None) -> Model:
    """A model with a token limit, where it has none: neither in its own settings, nor in a binding around it.

    What its `configurable` values may change is returned as it is: give it a limit when they are applied.
    """
    is_bound = isinstance(model, RunnableBinding) and bool(_LIMIT_NAMED.search(str(model.kwargs)))
    if limit is None or limit.is_dropped or is_bound or isinstance(model, DynamicRunnable):
        return model
    if isinstance(model, BaseChatModel):
        name = next((each for each in _LIMITS if each in type(model).model_fields), None)
        more = [vars(model).get(each) for each in ("model_kwargs", "extra_body", "additional_model_request_fields")]
        has_own = name is None or getattr(model, name) is not None or _LIMIT_NAMED.search(str(more))
        return model if has_own else model.model_copy(update={str(name): limit})
    return with_parts(model, [with_limit(part, limit) for part in parts_of(model)])


def limits_in(model: Model) -> Added:
    """The token limits that the graph has set."""
    return [(each, name) for each in chat_models_in(model) for name in _LIMITS if _is_ours(each, name)]


def counts_in(model: Model) -> Added:
    """The models that ask for token counts in a stream."""
    return [(each, _COUNTS) for each in chat_models_in(model) if getattr(each, _COUNTS, False)]


def refused(added: Added, error: Exception, *, by_name: bool) -> Added:
    """What a server may have refused of what was added, as far as its words tell; if `by_name`, they must name it."""
    if http_status(error) not in {400, 422}:
        return []
    words = words_of(error)
    named = [each for each in added if (_COUNTS_NAMED if each[1] == _COUNTS else _LIMIT_NAMED).search(words)]
    return named or (added if not by_name and _UNKNOWN_PARAMETER.search(words) else [])


def leave_out(added: Added) -> bool:
    """Leave out from now on what was added; returns whether there is anything."""
    for model, name in added:
        if _is_ours(model, name):
            getattr(model, name).is_dropped = True
        setattr(model, name, False if name == _COUNTS else None)
    return bool(added)


def _is_ours(model: BaseChatModel, name: str) -> bool:
    return isinstance(vars(model).get(name), TokenLimit)
