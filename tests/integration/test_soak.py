"""Runs leave nothing behind in the process: neither objects nor memory add up with their number."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, pairwise
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.types import RetryPolicy

from sot_graph import DemoChatModel, ExpansionError, SotInput, astream_answer, create_sot_graph, stream_answer
from sot_graph.demo import demo_titles
from tests.fake_openai import title_told

WARM_UP, WINDOW, WINDOWS = 12, 14, 3
QUESTION: SotInput = {"question": "How do bees find their way home?"}


class _Failing(DemoChatModel):
    """Fails at the second point, for good."""

    def _paced(self, messages: list[BaseMessage], *args: Any) -> Iterator[Any]:
        if title_told(messages[-1].text) == demo_titles(str(QUESTION["question"]))[1]:
            msg = "out of order"
            raise LookupError(msg)
        return super()._paced(messages, *args)


GRAPH = create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0), max_points=3)
FAILING = create_sot_graph(
    _Failing(first_token=0, tokens_per_second=0),
    max_points=3,
    retry_policy=RetryPolicy(initial_interval=0, jitter=False),
)


def run(number: int) -> None:
    """Make one run: invoked, read, stopped, or failing."""
    kind = number % 4
    with suppress(ExpansionError):
        if kind == 0:
            GRAPH.invoke(QUESTION)
        elif kind == 3:
            FAILING.invoke(QUESTION)
        else:
            list(islice(stream_answer(GRAPH, QUESTION), 3 if kind == 2 else None))


async def arun(number: int) -> None:
    kind = number % 4
    with suppress(ExpansionError):
        if kind == 0:
            await GRAPH.ainvoke(QUESTION)
        elif kind == 3:
            await FAILING.ainvoke(QUESTION)
        else:
            chunks = astream_answer(GRAPH, QUESTION)
            async for _ in chunks:
                if kind == 2:
                    break
            await chunks.aclose()


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what earlier tests have made
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def held() -> tuple[int, int]:
    """How many objects and bytes this process holds."""
    await asyncio.sleep(0.05)  # for tasks that are cancelled, and threads that end
    for _ in range(3):
        gc.collect()
    return len(gc.get_objects()), tracemalloc.get_traced_memory()[0]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_nothing_adds_up_with_the_number_of_runs(form: str) -> None:
    async def several(count: int) -> None:
        for number in range(count):
            if form == "sync":
                run(number)
            else:
                await arun(number)

    await several(WARM_UP)
    table = [await held()]
    for _ in range(WINDOWS):
        await several(WINDOW)
        table.append(await held())
    # What adds up does so in every window; what else the process does falls into some of them. (A little memory seems
    # to be added at first: what was there before the tracing began is replaced by what is traced.)
    objects, size = (min(later - earlier for earlier, later in pairwise(column)) for column in zip(*table, strict=True))
    assert objects < WINDOW / 2, "less than an object in two runs"
    assert size < 1_000 * WINDOW, "less than 1,000 bytes a run, which no answer fits into"
