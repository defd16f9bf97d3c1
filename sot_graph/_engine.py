"""Private parts of LangGraph, LangChain and OpenAI's client: one function each, and nowhere else.

Each comment says which public API would replace the part. tests/integration/test_engine.py fails when a part changes.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models._compat_bridge import message_to_events
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph._internal._runnable import RunnableCallable
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.constants import CONFIG_KEY_CHECKPOINTER, TAG_NOSTREAM
from langgraph.graph.message import push_message
from langgraph.pregel._messages import StreamMessagesHandler, StreamMessagesHandlerV2, graph_namespace
from langgraph.runtime import ExecutionInfo, get_runtime

THREADS = 1_000
"""The most threads of a sync run: for its calls, for the waiter of a streamed run and for a checkpointer's writes."""


# Replaced by: the state in `Runtime`, for tasks of a `Send`, which get their payload only. `ToolNode` reads it so.
def read_state(config: RunnableConfig, key: str) -> Any:
    """Read a key of the graph's state from within a node."""
    return config["configurable"]["__pregel_read"]([key]).get(key)


# Replaced by: the stream modes in `Runtime`.
def parent_streams(mode: str, config: RunnableConfig) -> bool:
    """Whether a parent graph streams its subgraphs in this stream mode."""
    return mode in getattr(configurable_of(config).get("__pregel_stream"), "modes", ())


# Replaced by: a flag in `Runtime.execution_info`.
def parent_resumes(config: RunnableConfig) -> bool:
    """Whether a parent graph resumes, and its subgraphs with it."""
    return bool(configurable_of(config).get("__pregel_resuming"))


# Replaced by: the checkpointer in `Runtime`.
def checkpointer_of(config: RunnableConfig) -> BaseCheckpointSaver[Any] | None:
    """The checkpointer of the running graph, its own or its parent's."""
    saver = config["configurable"].get(CONFIG_KEY_CHECKPOINTER)
    return saver if isinstance(saver, BaseCheckpointSaver) else None


# Replaced by: the pending writes in `Runtime`.
class PendingWrites:
    """What other tasks of this step wrote to a key before the run was stopped; the state does not have it yet."""

    def __init__(self, key: str, config: RunnableConfig) -> None:
        self._key, self._saver = key, checkpointer_of(config)
        info = cast("ExecutionInfo", get_runtime().execution_info)
        graph = info.checkpoint_ns.rpartition("|")[0]  # the last part of the namespace is the task
        where = {"thread_id": info.thread_id, "checkpoint_ns": graph, "checkpoint_id": info.checkpoint_id}
        self._where: RunnableConfig = {"configurable": where}

    def run(self) -> list[Any]:
        """Read them in a thread."""
        return self._values(self._saver.get_tuple(self._where) if self._saver else None)

    async def arun(self) -> list[Any]:
        """Read them in a task."""
        return self._values(await self._saver.aget_tuple(self._where) if self._saver else None)

    def _values(self, saved: Any) -> list[Any]:
        return [value for _task, key, value in (saved and saved.pending_writes) or [] if key == self._key]


# Replaced by: the stream modes in `Runtime`.
def has_message_subscriber(config: RunnableConfig) -> bool:
    """Whether a run is streamed in "messages" mode, and this config is not tagged `nostream`."""
    return TAG_NOSTREAM not in (config.get("tags") or ()) and any(map(_streams_messages, handlers_of(config)))


# Replaced by: `push_message`, once it sends events to a run of `stream_events(version="v3")`.
def push_chunk(config: RunnableConfig, message_id: str, text: str, *, starts: bool) -> None:
    """Send a chunk of a message to the subscribers of messages: as a chunk, or as an event."""
    if not any(map(_streams_events, handlers_of(config))):
        with context_config(config):
            push_message(AIMessageChunk(content=text, id=message_id), state_key=None)
        return
    start, block, *deltas, _block_end, _end = message_to_events(AIMessage(text, id=message_id))
    _push_events(config, message_id, [start, block, *deltas] if starts else deltas)


def push_end(config: RunnableConfig, message_id: str, message: AIMessage) -> None:
    """Send the end of a message, with its usage and metadata; a subscriber of chunks knows it by the state."""
    *_, block_end, end = message_to_events(message)
    _push_events(config, message_id, [block_end, end])


def _push_events(config: RunnableConfig, message_id: str, events: Iterable[Any]) -> None:
    metadata = {**config["metadata"], "run_id": message_id}
    for handler in cast("Iterable[StreamMessagesHandlerV2]", filter(_streams_events, handlers_of(config))):
        handler.seen.add(message_id)  # or it would send the message again
        for event in events:
            handler.stream((graph_namespace(metadata), "messages", (event, metadata)))


# Replaced by: an option of `invoke` that keeps a call out of the stream of messages.
def callbacks_of_call(config: RunnableConfig, *added: BaseCallbackHandler) -> BaseCallbackManager:
    """The callbacks of a config without those that stream messages, and with others.

    Without them a model is not streamed because of them, and no chunk is passed to them in vain.
    """
    callbacks = cast("BaseCallbackManager", config["callbacks"]).copy()  # a node gets a manager
    for handler in filter(_streams_messages, [*callbacks.handlers]):
        callbacks.remove_handler(handler)
    for handler in added:
        callbacks.add_handler(handler, inherit=True)
    return callbacks


# Replaced by: an option of `invoke` that keeps the events of an inner graph out of the outer graph's stream.
def without_parent_stream(config: RunnableConfig) -> RunnableConfig:
    """The config for an inner graph whose events are not the outer graph's."""
    configurable = {key: value for key, value in configurable_of(config).items() if key != "__pregel_stream"}
    return {**config, "configurable": configurable}


def handlers_of(config: RunnableConfig) -> list[BaseCallbackHandler]:
    """The callback handlers of a config."""
    callbacks = config.get("callbacks") or []
    return callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks


# Replaced by: `set_config_context`, once it works around a `yield`.
@contextmanager
def context_config(config: RunnableConfig) -> Iterator[None]:
    """Make a config, but for its run's name, the one that calls without a config inherit."""
    inherited = {key: value for key, value in config.items() if key != "run_name"}
    token = var_child_runnable_config.set(cast("RunnableConfig", inherited))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def configurable_of(config: RunnableConfig) -> Mapping[str, Any]:
    """The configurable part of a config, and of the config that it inherits."""
    return {**ensure_config()["configurable"], **(config.get("configurable") or {})}


# Replaced by: an option of `add_conditional_edges`.
def untraced(function: Callable[[Any], Any]) -> Runnable[Any, Any]:
    """A function of a conditional edge, without a run in the trace that repeats the whole state."""
    return RunnableCallable(function, trace=False, name=function.__name__)


# Replaced by: the base URL and the key as public attributes of a client's resources, such as `client.chat.completions`.
def same_server(client: Any, other: Any) -> bool:
    """Whether two clients of a provider send to the same server, with the same key."""
    roots = [getattr(each, "_client", each) for each in (client, other)]
    settings = [(str(getattr(each, "base_url", "")), getattr(each, "api_key", None)) for each in roots]
    return type(client) is type(other) and settings[0] == settings[1]


# Replaced by: the URL that a chat model sends to, as an attribute of it; its setting may be None for the default.
def client_url(model: BaseChatModel) -> str:
    """The base URL of a chat model's client; "" if it does not say."""
    for name in ("root_client", "client", "_client"):
        with suppress(Exception):  # a property that makes the client
            client = getattr(model, name, None)
            for each in (client, getattr(client, "_client", None)):
                url = getattr(each, "base_url", None) or getattr(getattr(each, "meta", None), "endpoint_url", None)
                if url and "://" in str(url):
                    return str(url)
    return ""


# Replaced by: an argument of `model_copy` that runs the validators.
def with_private_values(made: BaseChatModel, original: BaseChatModel) -> BaseChatModel:
    """A model that was made anew, with the plain values of the original's private attributes; objects are its own."""
    values = original.__pydantic_private__ or {}
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float | bytes | tuple)}
    if plain:
        object.__setattr__(made, "__pydantic_private__", {**(made.__pydantic_private__ or {}), **plain})
    return made


# Replaced by: no warning of langchain-openai when a call with a schema is streamed.
def warns_when_schema_is_streamed(model: BaseChatModel) -> bool:
    """Whether the calls of a chat model with a schema must not be streamed."""
    return hasattr(model, "root_client")


# Replaced by: `stream` of the client outside `beta`, which imports all of `beta` when it is first read: half a second,
# which a hedge would take for a slow server.
def import_for_streamed_schema(model: BaseChatModel) -> None:
    """Import what a chat model of OpenAI's needs to stream a call with a schema."""
    getattr(getattr(model, "root_client", None), "beta", None)


# Replaced by: a schema as a class and the same as a dict giving the same request.
def strictness_of(model: BaseChatModel) -> dict[str, Any]:
    """The option that makes a client of OpenAI's ask for a dict's schema as strictly as for a class."""
    method = inspect.signature(model.with_structured_output).parameters.get("method")
    return {"strict": True} if method and method.default == "json_schema" else {}


# Replaced by: an error of langchain-openai that has the reply. Its client raises over a reply that was cut off.
def reply_in(error: Exception) -> AIMessage | None:
    """The chat completion that OpenAI's client received and then raised over, if there is one."""
    try:
        body = error.response.json()  # type: ignore[attr-defined]
        text, end = body["choices"][0]["message"]["content"] or "", body["choices"][0].get("finish_reason")
        from langchain_openai.chat_models.base import _create_usage_metadata  # noqa: PLC0415 - slow to import
    except (AttributeError, ImportError, LookupError, TypeError, ValueError):
        return None
    usage = _create_usage_metadata(body["usage"]) if body.get("usage") else None
    return AIMessage(text, usage_metadata=usage, response_metadata={"finish_reason": end})


# Replaced by: token counts of ChatOpenAI for a stream with a schema.
def with_counts(message: AIMessage) -> AIMessage:
    """A message with the token counts that the client left in its metadata."""
    counts = message.response_metadata.get("token_usage")
    if message.usage_metadata or not counts or message.response_metadata.get("model_provider") != "openai":
        return message
    from langchain_openai.chat_models.base import _create_usage_metadata  # noqa: PLC0415 - slow to import

    return message.model_copy(update={"usage_metadata": _create_usage_metadata(counts)})


# Replaced by: a hook of ChatOpenAI that sees each request before it is sent.
def openai_request(model: Any, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the request that a ChatOpenAI sends for these messages."""
    return cast("dict[str, Any]", model._get_request_payload(messages, **options))  # noqa: SLF001 - what this file is for


# Replaced by: a public class for what `init_chat_model` returns without a fixed model.
def is_configurable_model(model: object) -> bool:
    """Whether a Runnable chooses its chat model from the config."""
    module = sys.modules.get("langchain.chat_models.base")
    return module is not None and isinstance(model, module._ConfigurableModel)  # noqa: SLF001 - what this file is for


def configured_model(model: Any, config: RunnableConfig) -> Runnable[Any, Any]:
    """The chat model that such a Runnable chooses."""
    return cast("Runnable[Any, Any]", model._model(config))  # noqa: SLF001 - what this file is for


# Replaced by: Python 3.12. In 3.11, `asyncio.wait_for`, with which clients wait for a chunk, swallows a cancellation
# that arrives together with the result.
def cancellation_check() -> Callable[[], None]:
    """A function that raises the task's cancellation if a client swallowed one since this call."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0

    def raise_if_cancelled() -> None:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError

    return raise_if_cancelled


def _streams_messages(handler: BaseCallbackHandler) -> bool:
    return isinstance(handler, StreamMessagesHandler)


def _streams_events(handler: BaseCallbackHandler) -> bool:
    return isinstance(handler, StreamMessagesHandlerV2)


# Replaced by: `http_client` of `ChatAnthropic`.
def anthropic_model(name: str, clients: tuple[Any, Any], settings: Mapping[str, Any]) -> BaseChatModel:
    """A `ChatAnthropic` with HTTP clients of ours."""
    import anthropic  # noqa: PLC0415 - an extra package
    from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - the same

    class Model(ChatAnthropic):
        @cached_property
        def _client(self) -> anthropic.Client:
            return anthropic.Client(**self._client_params, http_client=clients[0])

        @cached_property
        def _async_client(self) -> anthropic.AsyncClient:
            return anthropic.AsyncClient(**self._client_params, http_client=clients[1])

    return Model(model=name, **settings)
