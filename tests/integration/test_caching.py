"""A node cache: what is stable is found again, and nothing else."""

import os
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.types import CachePolicy

from sot_graph import create_sot_graph
from tests.fake_openai import FakeOpenAI
from tests.integration.conftest import Run

QUESTION = "How can I sleep better?"


def shout(messages: list[BaseMessage]) -> str:
    shouted.append(messages[-1].text)
    return "LOUD."


async def whisper(messages: list[BaseMessage]) -> str:
    shouted.append(messages[-1].text)
    return "quiet."


shouted: list[str] = []


class Shouter:
    def __init__(self, text: str) -> None:
        self.text = text

    def shout(self, _messages: object) -> str:
        return self.text


@pytest.mark.parametrize(
    "expander", [shout, RunnableLambda(shout), RunnableLambda(shout, whisper)], ids=["function", "sync", "both"]
)
async def test_what_a_named_function_writes_is_cached(server: FakeOpenAI, run: Run, expander: Any) -> None:
    cache: InMemoryCache[Any] = InMemoryCache()
    shouted.clear()
    for _ in range(2):  # as in another process: nothing of the first graph is left but the cache
        graph = create_sot_graph(server.model(), expander=expander, cache=cache, cache_policy=CachePolicy())
        result = await run(graph, {"messages": [HumanMessage(QUESTION)]})
        assert set(result["answer"].split()) in ({"LOUD."}, {"quiet."})
    assert len(shouted) == 4
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["lambda", "inner function", "method", "partial", "in a chain"])
async def test_another_functions_text_is_never_read_from_the_cache(
    server: FakeOpenAI, run: Run, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    cache: InMemoryCache[Any] = InMemoryCache()

    def expander(text: str) -> Any:
        def write(_messages: object) -> str:
            return text

        kinds: dict[str, Any] = {
            "lambda": lambda _messages: text,
            "inner function": write,
            "method": Shouter(text).shout,
            "partial": partial(lambda text, _messages: text, text),
            "in a chain": RunnableLambda(lambda _messages: text) | RunnableLambda(str),
        }
        return kinds[kind]

    for text in ("One.", "Two."):
        graph = create_sot_graph(server.model(), expander=expander(text), cache=cache, cache_policy=CachePolicy())
        result = await run(graph, {"messages": [HumanMessage(QUESTION)]})
        assert set(result["answer"].split()) == {text}
        del graph  # its address may be used again
    assert "has no stable name" in caplog.text
    assert len(server.requests) == 1, "the outline is cached as before"


def test_a_name_is_the_same_in_another_process() -> None:
    script = (
        "from langchain_openai import ChatOpenAI\n"
        "from sot_graph.caching import digest, stable_name\n"
        "from tests.integration.test_caching import shout, whisper\n"
        "model = ChatOpenAI(model='m', api_key='k', temperature=0.5)\n"
        "print(*(digest(stable_name(each)) for each in (shout, whisper, model, model.bind(stop=['x']))))\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({**os.environ, "PYTHONHASHSEED": seed} for seed in "12")
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 4
