"""What may be a model: a name, a chat model, or a Runnable around chat models."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableSequence
from langchain_core.runnables.config import merge_configs
from langchain_core.runnables.configurable import DynamicRunnable, RunnableConfigurableAlternatives
from langchain_core.runnables.fallbacks import RunnableWithFallbacks
from langchain_core.runnables.retry import RunnableRetry
from pydantic import BaseModel

from sot_graph import _engine
from sot_graph.retry import retries_in
from sot_graph.thoughts import Habits

Model = Runnable[Any, Any]
"""A chat model, or what its `with_fallbacks`, `bind`, `with_config`, ... return."""
_THINKING_MODEL = re.compile(r"think|reason|qwq|\br1\b", re.IGNORECASE)
DEFAULT_RETRIES = 2
"""Of a client that does not say how often it retries."""


def prepare_model(model: object, option: str = "model") -> Model:
    """Make the model that the graph calls of what the caller gave.

    In this copy the client's own retries and `with_retry` are off, because the graph's retry policy is the one layer
    that retries, and the token counts of streams are on. See `client_retries` for a client that keeps its retries.

    Raises:
        TypeError: It is neither a name nor a model.
        ValueError: It is a blank name, or one that `init_chat_model` does not know.
    """
    if isinstance(model, str):
        model = _named(model, option)
    if not is_model(model):
        msg = (
            f"{option} must be a model's name for init_chat_model, such as 'openai:gpt-5.5', a chat model, or what its "
            "with_fallbacks, with_retry, bind, with_config, configurable_fields or configurable_alternatives returns, "
            f"not {told(model)}. For points written by any other Runnable, use expander=."
        )
        raise TypeError(msg)
    return cast("Model", _changed(cast("Model", model), _prepared))


def _named(name: str, option: str) -> object:
    if not name.rpartition(":")[2].strip():
        msg = f"{option} is blank, or names no model: {name!r}. Give the name of one, such as 'openai:gpt-5.5'."
        raise ValueError(msg)
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow, and needed only here

    try:
        return init_chat_model(name)
    except ValueError as error:
        providers = re.search(r"Supported .*providers.*: (.+)", str(error))
        if providers is None:  # a setting of the model
            raise
        msg = (
            f"{option} names no provider that LangChain knows: {name!r}. Write 'provider:model', such as "
            "'openai:gpt-5.5' or 'ollama:qwen3'. For a server of your own, pass a chat model, such as "
            f"ChatOpenAI(model={name!r}, base_url='http://localhost:8000/v1').\nProviders: {providers[1]}"
        )
        raise ValueError(msg) from error


def told(value: object, text: str | None = None) -> str:
    """How an error names a value that was passed instead of a valid one: by this text, or by its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}; make an object of it, such as {value.__name__}(...)"
    return text or type(value).__name__


def is_model(value: object) -> bool:
    """Whether a value is a chat model, or a Runnable around chat models only."""
    if isinstance(value, BaseChatModel) or _engine.is_configurable_model(value):
        return True
    parts = [] if isinstance(value, RunnableSequence) else parts_of(value)
    return bool(parts) and all(is_model(part) for part in parts if isinstance(part, Runnable))


def chat_model_of(value: object) -> BaseChatModel | None:
    """The one chat model that a Runnable is, without its bindings; None if it is something else."""
    while isinstance(value, RunnableBinding):
        value = value.bound
    return value if isinstance(value, BaseChatModel) else None


def resolve(model: Model, config: RunnableConfig) -> Model:
    """Apply a run's `configurable` values to a model; one without such fields is returned as it is."""
    if isinstance(model, DynamicRunnable):
        chosen, config = model.prepare(config)
        if isinstance(chosen, BaseChatModel) and "streaming" not in cast("Any", model).default.model_fields_set:
            # It was made with all fields of the default, and LangChain reads `streaming=False` there as a choice.
            chosen.model_fields_set.discard("streaming")
        return resolve(prepare_model(chosen), config)  # an alternative may have been made only now
    if _engine.is_configurable_model(model):
        return resolve(prepare_model(_engine.configured_model(model, config)), config)
    if isinstance(model, RunnableBinding | RunnableWithFallbacks):
        config = merge_configs(model.config, config) if isinstance(model, RunnableBinding) else config
        return with_parts(model, [resolve(part, config) for part in parts_of(model)])
    return model


def structured(model: Model, schema: type[BaseModel], *, is_streamed: bool = False) -> Model | None:
    """A resolved model that is bound to a schema, without LangChain's parser; None if it cannot be.

    The parser would fail on replies that can still be read, and were paid for.
    """

    def bind(chat_model: BaseChatModel) -> Model | None:
        form: Any = schema
        options = {}
        if _engine.warns_when_schema_is_streamed(chat_model):
            if is_streamed:  # it does not warn about a schema that is no class
                form, options = schema.model_json_schema(), _engine.strictness_of(chat_model)
                _engine.import_for_streamed_schema(chat_model)
            else:
                chat_model = chat_model.model_copy(update={"disable_streaming": True})
        try:
            chain: Any = chat_model.with_structured_output(form, **options)
        except Exception:  # noqa: BLE001 - models refuse a schema in many ways
            return None
        first = chain.first if isinstance(chain, RunnableSequence) else None
        return first if chat_model_of(first) else chain

    return _changed(model, bind)


def habits_of(model: object) -> Habits:
    """What may be expected of a model of which no reply is known.

    A server of the caller's own may send thoughts as they are, if nobody has told it to parse them.
    """
    settings = [*map(vars, chat_models_in(model))]
    own = [each for each in settings if "openai.com" not in (each.get("openai_api_base") or "openai.com")]
    thinks = any(_THINKING_MODEL.search(str(each.get("model_name"))) for each in own)
    return Habits(bool(own), True if thinks else None)


def chat_models_in(model: object) -> Iterator[BaseChatModel]:
    """The chat models in a Runnable."""
    return (each for each in _walk(model) if isinstance(each, BaseChatModel))


def settings_of(model: object) -> Iterator[Mapping[str, Any]]:
    """The settings of the chat models in a Runnable, and of the bindings around them."""
    for each in _walk(model):
        if isinstance(each, BaseChatModel | RunnableBinding):
            yield vars(each).copy() if isinstance(each, BaseChatModel) else each.kwargs


def callbacks_of(model: object) -> Iterator[BaseCallbackHandler]:
    """The callback handlers that a model was made with."""
    for each in _walk(model):
        if isinstance(each, BaseChatModel | RunnableBinding):
            config: Any = {"callbacks": each.callbacks} if isinstance(each, BaseChatModel) else each.config
            yield from _engine.handlers_of(config)


def client_retries(model: Model, error: Exception) -> int:
    """How often the client of a prepared model has repeated the request of a failed call by itself."""
    settings = map(vars, chat_models_in(model))
    limits = (each["max_retries"] for each in settings if "max_retries" in each)
    limit = max((DEFAULT_RETRIES if each is None else each for each in limits), default=0)
    return limit and retries_in(error, limit)


def prepare_models_in(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Prepare the chat models of a chain as `prepare_model` does; anything else is returned as it is."""
    return _changed(runnable, _prepared) or runnable


def _prepared(model: BaseChatModel) -> BaseChatModel:
    settings = vars(model)
    changes: dict[str, Any] = {"max_retries": 0} if settings.get("max_retries", 0) != 0 else {}
    if "stream_usage" in settings:
        # ChatOpenAI leaves token counts out of streams from a base URL of its own, unless asked for them.
        changes["stream_usage"] = True if model.stream_usage is None else model.stream_usage  # type: ignore[attr-defined]
    return _remade(model, changes) if changes else model


def _remade(model: BaseChatModel, changes: dict[str, Any]) -> BaseChatModel:
    """The same model with other settings, and with new clients: a client keeps the settings that it was made with."""
    fields = type(model).model_fields
    values = {name: value for name, value in vars(model).copy().items() if name in fields}
    clients = {name for name in values if fields[name].exclude and name.endswith("client") and "http" not in name}
    if any(type(values[name]).__module__.startswith("botocore") for name in clients):
        return model.model_copy()  # it may have been given with the model, with a session of the caller's own
    if "max_retries" not in changes or not clients:
        copy = model.model_copy(update=changes)
        # A cached property: a client that was made with the old number of retries.
        for name in vars(copy).keys() - fields.keys() if "max_retries" in changes else ():
            del vars(copy)[name]
        return copy
    kept = {name: value for name, value in {**values, **changes}.items() if name not in clients}
    try:
        remade = type(model)(**{fields[name].alias or name: value for name, value in kept.items()})
    except Exception:  # noqa: BLE001 - a class of the caller's own may take other arguments
        return model.model_copy()
    remade.model_fields_set.intersection_update(model.model_fields_set | changes.keys())
    is_same = all(value is None or vars(remade)[name] == value for name, value in kept.items())
    if not is_same or not all(_engine.same_server(values[name], vars(remade)[name]) for name in clients):
        return model.model_copy()  # made in another way, or with clients of the caller's own: it keeps its retries
    return _engine.with_private_values(remade, model)


def _walk(model: object) -> Iterator[Any]:
    """A Runnable, and all Runnables inside it."""
    yield model
    # A copy: a client that is made by another thread becomes an attribute meanwhile.
    inner = [*vars(model).values()] if isinstance(model, BaseChatModel) else parts_of(model)
    for part in inner:
        if isinstance(part, Runnable):
            yield from _walk(part)


def parts_of(model: object) -> Sequence[Any]:
    """The Runnables inside a Runnable; an alternative may also be a function that makes one."""
    match model:
        case RunnableBinding() | RunnableRetry():
            return [model.bound]
        case RunnableSequence():
            return model.steps
        case RunnableWithFallbacks():
            return [model.runnable, *model.fallbacks]
        case RunnableConfigurableAlternatives():
            return [model.default, *model.alternatives.values()]
        case DynamicRunnable():
            return [model.default]
    return []


def with_parts(model: Any, parts: Sequence[Any]) -> Model:
    """The same Runnable around other Runnables, without a retry of its own; itself if they are those that it has."""
    if not isinstance(model, RunnableRetry) and all(map(operator.is_, parts, parts_of(model))):
        return cast("Model", model)
    first, *others = parts
    match model:
        case RunnableRetry():
            return RunnableBinding(bound=first, kwargs=model.kwargs, config=model.config)
        case RunnableBinding():
            update: dict[str, Any] = {"bound": first}
        case RunnableSequence():
            return RunnableSequence(*parts, name=model.name)
        case RunnableWithFallbacks():
            update = {"runnable": first, "fallbacks": others}
        case RunnableConfigurableAlternatives():
            update = {"default": first, "alternatives": dict(zip(model.alternatives, others, strict=True))}
        case _:
            update = {"default": first}
    return cast("Model", model.model_copy(update=update))


def _changed(model: Model, change: Callable[[BaseChatModel], Model | None]) -> Model | None:
    """The same Runnable with each chat model in it changed; None if one cannot be."""
    if isinstance(model, BaseChatModel):
        return change(model)
    parts = [_changed(part, change) if isinstance(part, Runnable) else part for part in parts_of(model)]
    if not parts:
        return model
    return None if any(part is None for part in parts) else with_parts(model, parts)
