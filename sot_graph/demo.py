"""An offline chat model, so that everything runs without a key. What it writes is a placeholder."""

import asyncio
import json
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseRunManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from sot_graph.outline_reply import Outline
from sot_graph.prompts import AGAIN, MAY_DECLINE, PLAN, PLAN_AFTER_OPENING

# Questions that the demo answers in one go, as a real model would: sums, code, and texts that have to flow.
_IN_ONE_GO = re.compile(
    r"\b(?:calculate|compute|solve|equation|how many|how much|prove|estimate|implement|program|script|function|"
    r"regular expression|algorithm|sql|html|email|e-mail|letter|poem|lyrics|story|speech|review|blog post|rewrite|"
    r"translate|integral|derivative)\b|\d\s*[-+*/^=]\s*\d",
    re.IGNORECASE,
)
_TELL = re.compile(r".*tell me more about (.*)\.", re.IGNORECASE | re.DOTALL)
"""How a point is asked for."""
_TITLES = tuple(
    f"{number} aspect" for number in ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")
)
_TEXTS = (
    "This is demo text: a real model would write a sentence or two about “{title}” here.",
    "A real model would deal with “{title}” here. This is demo text, not an answer.",
    "Demo text: a real model would give a reason and an example for “{title}”.",
    "The demo model knows nothing about “{title}”. It only takes as long as a model would.",
    "For “{title}”, imagine two good sentences. The demo model has none, and says so.",
)


class DemoChatModel(BaseChatModel):
    """A chat model that answers offline, by simulation: it writes short placeholders, which say that they are.

    The same question gives the same outline and the same texts. It takes its time as a model does; with both
    latencies at zero it does not wait at all.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph

        graph = create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0))
        print(graph.invoke({"question": "How do bees find their way home?"})["answer"])
        ```
    """

    first_token: float = 0.4
    """Seconds until the first token of a reply."""
    tokens_per_second: float = 40.0
    """How fast the tokens follow; 0 for all at once."""

    @property
    def _llm_type(self) -> str:
        return "sot-graph-demo"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Take tools, of which the demo calls those that it understands, once a turn.

        These are the outline's schema; tools whose one required argument is a text, such as a search; and after them,
        where the question suits, what takes an outline.
        """
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = []
        for wait, chunk in self._paced(messages, run_manager, kwargs):
            time.sleep(wait)
            chunks.append(chunk)
        return generate_from_stream(iter(chunks))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = []
        for wait, chunk in self._paced(messages, run_manager, kwargs):
            await asyncio.sleep(wait)
            chunks.append(chunk)
        return generate_from_stream(iter(chunks))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for wait, chunk in self._paced(messages, run_manager, kwargs):
            time.sleep(wait)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for wait, chunk in self._paced(messages, run_manager, kwargs):
            await asyncio.sleep(wait)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _paced(
        self, messages: list[BaseMessage], run_manager: BaseRunManager | None, kwargs: dict[str, Any]
    ) -> Iterator[tuple[float, ChatGenerationChunk]]:
        """The reply's chunks, each with the seconds to wait for it."""
        # Some versions of langchain-core stream without a run manager: the config that is inherited has the same.
        metadata = (run_manager and run_manager.metadata) or ensure_config().get("metadata") or {}
        call = demo_call(messages, [tool["function"] for tool in kwargs.get("tools", [])], metadata)
        text = "" if call else demo_text(messages, metadata)
        chunks = _call_chunks(*call) if call else [AIMessageChunk(content=word) for word in _words(text)]
        wait = self.first_token
        for chunk in chunks:
            yield wait, ChatGenerationChunk(message=chunk)
            wait = 1 / self.tokens_per_second if self.tokens_per_second else 0.0
        read = sum(len(message.text) for message in messages) // 4
        usage = UsageMetadata(input_tokens=read, output_tokens=len(chunks), total_tokens=read + len(chunks))
        end = AIMessageChunk(
            content="",
            usage_metadata=usage,
            response_metadata={"finish_reason": "stop"},
            chunk_position="last",
        )
        yield 0.0, ChatGenerationChunk(message=end)


def demo_outline(messages: Sequence[BaseMessage], most: int | None = None) -> str:
    """The outline for a question, as JSON; the empty one for what is better answered in one go."""
    question, turns = _parts(messages)
    last = turns[-1] if turns else ""
    if _IN_ONE_GO.search(question) and MAY_DECLINE in last:
        return json.dumps({"points": []})
    titles = demo_titles(question)[:most]
    if last.endswith(AGAIN):
        titles.append(f"As remarked: {_short(last.removesuffix(AGAIN), 40)}")
    return json.dumps({"points": titles}, ensure_ascii=False)


def demo_titles(question: str) -> list[str]:
    """The titles of an outline for a question."""
    return [*_TITLES[: 5 + _number(question) % 4]]


def demo_call(
    messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]], metadata: Mapping[str, Any]
) -> tuple[str, str] | None:
    """The tool that the demo calls next, and the arguments as JSON; None when it answers."""
    for schema in (tool["parameters"] for tool in tools if tool["name"] == Outline.__name__):
        return Outline.__name__, demo_outline(messages, schema["properties"]["points"].get("maxItems"))
    question = metadata.get("sot_title") or _parts(messages)[0]  # an agent may write a point
    used = {message.name for message in _since_question(messages) if isinstance(message, ToolMessage)}
    for tool in sorted(tools, key=_takes_outline):  # what can be looked up comes before what is written from it
        arguments = _arguments(tool.get("parameters") or {}, question)
        if tool["name"] not in used and arguments:
            return tool["name"], json.dumps(arguments, ensure_ascii=False)
    return None


def _takes_outline(tool: dict[str, Any]) -> bool:
    return "outline" in (tool.get("parameters") or {}).get("properties", {})


def _arguments(schema: dict[str, Any], question: str) -> dict[str, Any] | None:
    """What the demo gives to a tool; None where it does not understand the tool, or the question does not suit it."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if choices := {name: each["enum"] for name, each in properties.items() if "enum" in each}:
        # A judge's form, say: any choice, and always the same for the same text.
        chosen = {name: among[_number(name + question) % len(among)] for name, among in choices.items()}
        return {**dict.fromkeys(required, "This is the demo model, which throws dice."), **chosen}
    if "outline" in properties and _IN_ONE_GO.search(question):
        return None
    if required == ["outline"]:
        return {"outline": demo_titles(question)}
    if len(required) == 1 and properties.get(required[0], {}).get("type") == "string":
        return {required[0]: question if "outline" in properties else _short(question)}
    return None


def demo_text(messages: Sequence[BaseMessage], metadata: Mapping[str, Any]) -> str:
    """The text of a point, of the opening or ending, of a direct answer, or of an agent's answer after its tools."""
    question, _turns = _parts(messages, is_direct=metadata.get("sot_stage") == "direct")
    index, title = metadata.get("sot_point", 0), metadata.get("sot_title", "")
    if metadata.get("sot_stage") == "lead":
        return "This is demo text: a real model would open here, with a sentence or two."
    if metadata.get("sot_stage") == "closing":
        return "This is demo text: a real model would end here, with a sentence or two."
    results = [f"{m.name}: “{_short(m.text, 200)}”" for m in _since_question(messages) if isinstance(m, ToolMessage)]
    if index:
        text = _point_text(question, index, title)
        return " ".join([text, "It would build on what the tools gave:", *results]) if results else text
    if results:
        return "\n\n".join(
            ["This is what the tools gave to the demo model. A real one would answer from it.", *results]
        )
    if not _IN_ONE_GO.search(question):
        titles = enumerate(demo_titles(question), start=1)
        # Other texts than an answer by an outline has, or the two could not be told apart.
        return "\n\n".join(_point_text(question, index + 1, title) for index, title in titles)
    return (
        f"This is demo text, in one piece: an outline would not help with “{_short(question)}”. "
        "A real model would answer it here, in a single call."
    )


def _point_text(question: str, index: int, title: str) -> str:
    return _TEXTS[(_number(question) + index) % len(_TEXTS)].replace("{title}", title)


def _call_chunks(name: str, arguments: str) -> list[AIMessageChunk]:
    """A tool call, streamed as providers do: the name with the first piece only."""
    first, *rest = _words(arguments)
    calls = [tool_call_chunk(name=name, args=first, id=f"call-{uuid4()}", index=0)]
    calls += [tool_call_chunk(args=word, index=0) for word in rest]
    return [AIMessageChunk(content="", tool_call_chunks=[call]) for call in calls]


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def _parts(messages: Sequence[BaseMessage], *, is_direct: bool = False) -> tuple[str, list[str]]:
    """The question, and the stage's own turns below it."""
    said = [message for message in messages if isinstance(message, HumanMessage | AIMessage)]
    end = len(said)
    for at, (before, after) in enumerate(pairwise(said)):
        if not is_direct and (before.text in {PLAN, PLAN_AFTER_OPENING} or _TELL.fullmatch(after.text)):
            end = at
    asked = [message.text for message in said[:end] if isinstance(message, HumanMessage)]
    # A graph inside a graph: the point is what its outline is about.
    question = asked[-1] if asked else ""
    point = _TELL.fullmatch(question)
    return point[1] if point else question, [message.text for message in said[end:]]


def _since_question(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    asked = (i for i in reversed(range(len(messages))) if isinstance(messages[i], HumanMessage))
    return messages[next(asked, 0) :]


def _short(text: str, limit: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _number(text: str) -> int:
    """A number that is the same for the same text in every process, as `hash` is not."""
    return zlib.crc32(text.encode("utf-8", "replace"))
