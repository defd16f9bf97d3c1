"""The chat model that `local_chat_model` returns: `ChatOpenAI`, with a slot for each request."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI

from sot_graph._engine import openai_request
from sot_graph.slots import Slots

SLOTS: dict[str, Slots] = {}
"""The servers whose slots are used, by base URL. Models are copied and made anew, and their slots stay the same."""


class LocalChatModel(ChatOpenAI):
    """`ChatOpenAI` for a llama.cpp server: each request gets a slot that has computed what it shares with others."""

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        with self._slot(messages, kwargs) as options:
            return super()._generate(messages, stop, run_manager, **options)

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        async with self._aslot(messages, kwargs) as options:
            return await super()._agenerate(messages, stop, run_manager, **options)

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        with self._slot(messages, kwargs) as options:
            yield from super()._stream(messages, *args, **options)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with self._aslot(messages, kwargs) as options:
            async for chunk in super()._astream(messages, *args, **options):
                yield chunk

    @contextmanager
    def _slot(self, messages: list[BaseMessage], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The options of a request with its slot."""
        slots, request = self._request(messages, options)
        if slots is None:
            yield options
            return
        with slots.slot(request) as slot:
            yield _with_slot(options, request, slot)

    @asynccontextmanager
    async def _aslot(self, messages: list[BaseMessage], options: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The options of a request with its slot; see `_slot`."""
        slots, request = self._request(messages, options)
        if slots is None:
            yield options
            return
        async with slots.aslot(request) as slot:
            yield _with_slot(options, request, slot)

    def _request(self, messages: list[BaseMessage], options: dict[str, Any]) -> tuple[Slots | None, dict[str, Any]]:
        """The slots of the model's server and the body of the request; no slots for one that takes none."""
        request = openai_request(self, messages, options)
        request |= request.get("extra_body") or {}
        takes_slot = "messages" in request and "id_slot" not in request  # the Responses API has `input`
        return SLOTS.get(self.openai_api_base or "") if takes_slot else None, request


def _with_slot(options: dict[str, Any], request: dict[str, Any], slot: int | None) -> dict[str, Any]:
    if slot is None:
        return options
    return {**options, "extra_body": {**(request.get("extra_body") or {}), "id_slot": slot, "cache_prompt": True}}
