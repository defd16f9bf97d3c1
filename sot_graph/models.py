"""What may be a model: a name, a chat model, or a Runnable around chat models."""

from collections.abc import Callable, Iterator, Mapping
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

Model = Runnable[Any, Any]
"""A chat model, or what its `with_fallbacks`, `bind`, `with_config`, ... return."""


def prepare_model(model: object, option: str = "model") -> Model:
    """Make the model that the graph calls of what the caller gave.

    In this copy the client's own retries and `with_retry` are off, because the graph's retry policy is the one layer
    that retries, and the token counts of streams are on.

    Raises:
        TypeError: It is neither a name nor a model.
        ValueError: It is a blank name, or one that `init_chat_model` does not know.
    """
    if isinstance(model, str):
        if not model.strip():
            msg = f"{option} is blank: give the name of a model, such as 'openai:gpt-5.5'."
            raise ValueError(msg)
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow, and needed only here

        model = init_chat_model(model)
    if not is_model(model):
        msg = (
            f"{option} must be a model's name for init_chat_model, such as 'openai:gpt-5.5', a chat model, or what its "
            "with_fallbacks, with_retry, bind, with_config, configurable_fields or configurable_alternatives returns, "
            f"not {type(model).__name__}. For points written by any other Runnable, use expander=."
        )
        raise TypeError(msg)
    return cast("Model", _changed(cast("Model", model), _prepared))


def is_model(value: object) -> bool:
    """Whether a value is a chat model, or a Runnable around chat models only."""
    parts = _parts(value)
    is_one = isinstance(value, BaseChatModel) or _engine.is_configurable_model(value)
    return is_one or (bool(parts) and all(is_model(part) for part in parts if isinstance(part, Runnable)))


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
    if isinstance(model, RunnableBinding):
        bound = resolve(model.bound, merge_configs(model.config, config))
        return model if bound is model.bound else model.model_copy(update={"bound": bound})
    if isinstance(model, RunnableWithFallbacks):
        parts = [model.runnable, *model.fallbacks]
        first, *others = resolved = [resolve(part, config) for part in parts]
        if any(new is not old for new, old in zip(resolved, parts, strict=True)):
            return model.model_copy(update={"runnable": first, "fallbacks": others})
    return model


def structured(model: Model, schema: type[BaseModel]) -> Model | None:
    """A resolved model that is bound to a schema, without LangChain's parser; None if it cannot be.

    The parser would fail on replies that can still be read, and were paid for.
    """

    def bind(chat_model: BaseChatModel) -> Model | None:
        if _engine.warns_when_schema_is_streamed(chat_model):
            chat_model = chat_model.model_copy(update={"disable_streaming": True})
        try:
            chain: Any = chat_model.with_structured_output(schema)
        except Exception:  # noqa: BLE001 - models refuse a schema in many ways
            return None
        first = chain.first if isinstance(chain, RunnableSequence) else None
        return first if chat_model_of(first) else chain

    return _changed(model, bind)


def settings_of(model: object) -> Iterator[Mapping[str, Any]]:
    """The settings of the chat models in a Runnable, and of the bindings around them."""
    if isinstance(model, BaseChatModel):
        yield vars(model)
        for inner in vars(model).values():
            yield from settings_of(inner) if isinstance(inner, Runnable) else ()
    if isinstance(model, RunnableBinding):
        yield model.kwargs
    for part in _parts(model):
        yield from settings_of(part)


def callbacks_of(model: object) -> Iterator[BaseCallbackHandler]:
    """The callback handlers that a model was made with."""
    if isinstance(model, BaseChatModel):
        yield from _engine.handlers_of({"callbacks": model.callbacks})
    if isinstance(model, RunnableBinding):
        yield from _engine.handlers_of(model.config)
    for part in _parts(model):
        yield from callbacks_of(part)


def _prepared(model: BaseChatModel) -> BaseChatModel:
    changes = _engine.without_client_retries(model)
    if getattr(model, "stream_usage", False) is None:
        # ChatOpenAI leaves token counts out of streams from a base URL of its own, unless asked for them.
        changes["stream_usage"] = True
    return model.model_copy(update=changes) if changes else model


def _parts(model: object) -> list[Any]:
    """The Runnables inside a Runnable; an alternative may also be a function that makes one."""
    match model:
        case RunnableBinding() | RunnableRetry():
            return [model.bound]
        case RunnableWithFallbacks():
            return [model.runnable, *model.fallbacks]
        case RunnableConfigurableAlternatives():
            return [model.default, *model.alternatives.values()]
        case DynamicRunnable():
            return [model.default]
    return []


def _changed(model: Model, change: Callable[[BaseChatModel], Model | None]) -> Model | None:
    """The same Runnable with each chat model in it changed; None if one cannot be."""
    if isinstance(model, BaseChatModel):
        return change(model)
    if isinstance(model, RunnableRetry):
        model = RunnableBinding(bound=model.bound, kwargs=model.kwargs, config=model.config)
    parts = [_changed(part, change) if isinstance(part, Runnable) else part for part in _parts(model)]
    if None in parts or not parts:
        return None if parts else model
    first, *others = parts
    update: dict[str, Any] = {"default": first}
    match model:
        case RunnableBinding():
            update = {"bound": first}
        case RunnableWithFallbacks():
            update = {"runnable": first, "fallbacks": others}
        case RunnableConfigurableAlternatives():
            update["alternatives"] = dict(zip(model.alternatives, others, strict=True))
    return cast("Any", model).model_copy(update=update)  # type: ignore[no-any-return]
