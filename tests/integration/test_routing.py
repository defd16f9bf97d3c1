"""A route that may leave the decision to the outline's call, and a trained router in a graph."""

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.types import CachePolicy

from sot_graph import Router, create_sot_graph, load_router
from sot_graph.prompts import MAY_DECLINE
from tests.fake_openai import FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import Run

SUITS = "What are the advantages and disadvantages of living in a big city?"
DIRECT = "Solve 3x + 5 = 20 for x."


def declined(request: Request) -> Reply:
    return Reply(outline_json(["NONE"])) if request.stage == "skeleton" else usual(request)


def fewest(request: Request) -> int:
    """How many points the schema of an outline's call asks for."""
    schema: Any = request.body["response_format"]["json_schema"]["schema"]
    return int(schema["properties"]["points"]["minItems"])


async def unsure(_question: str) -> None:
    return None


@pytest.mark.parametrize("route", [lambda _: None, RunnableLambda(lambda _: None)], ids=["function", "Runnable"])
async def test_a_route_that_gives_none_leaves_the_decision_to_the_outlines_call(
    server: FakeOpenAI, run: Run, route: Any
) -> None:
    graph = create_sot_graph(server.model(), route=route)
    assert len((await run(graph, {"question": SUITS}))["points"]) == 4
    server.script = declined
    result = await run(graph, {"question": DIRECT})
    assert (result["points"], result["answer"]) == ([], "A direct answer.")
    assert [MAY_DECLINE in request.prompt for request in server.of_stage("skeleton")] == [True, True]
    assert [fewest(request) for request in server.of_stage("skeleton")] == [1, 1]


async def test_a_coroutine_function_may_give_none_too(server: FakeOpenAI) -> None:
    server.script = declined
    graph = create_sot_graph(server.model(), route=unsure)
    assert (await graph.ainvoke({"question": DIRECT}))["points"] == []
    (asked,) = server.of_stage("skeleton")
    assert MAY_DECLINE in asked.prompt


async def test_none_asks_as_auto_does(server: FakeOpenAI, run: Run) -> None:
    for route in ("auto", lambda _: None):
        await run(create_sot_graph(server.model(), route=route), {"question": SUITS})
    first, second = server.of_stage("skeleton")
    assert first.body == second.body


async def test_one_graph_asks_each_question_in_its_own_way(server: FakeOpenAI, run: Run) -> None:
    """The schemas of both ways are kept apart, whichever question comes first."""
    decisions: dict[str, bool | None] = {"One?": True, "Two?": None, "Three?": True, "Four?": False}
    graph = create_sot_graph(server.model(), route=lambda question: decisions[question])
    for question in decisions:
        await run(graph, {"question": question})
    asked = server.of_stage("skeleton")
    assert [MAY_DECLINE in request.prompt for request in asked] == [False, True, False]
    assert [fewest(request) for request in asked] == [3, 1, 3]
    assert len([request for request in server.requests if request.stage == "direct"]) == 1


@pytest.mark.parametrize(
    ("router", "question", "stages", "may_decline"),
    [
        (load_router(), SUITS, ["skeleton", *["expand"] * 4], [False]),
        (load_router(), DIRECT, ["direct"], []),
        (load_router(threshold=1), SUITS, ["skeleton", *["expand"] * 4], [True]),
        (load_router(threshold=1), DIRECT, ["skeleton", *["expand"] * 4], [True]),
    ],
    ids=["certain yes", "certain no", "uncertain yes", "uncertain no"],
)
async def test_a_router_decides_where_it_is_certain(
    server: FakeOpenAI, run: Run, router: Router, question: str, stages: list[str], may_decline: list[bool]
) -> None:
    graph = create_sot_graph(server.model(), route=router)
    result = await run(graph, {"question": question})
    assert [request.stage for request in server.requests] == stages
    assert [MAY_DECLINE in request.prompt for request in server.of_stage("skeleton")] == may_decline
    assert result["messages"][-1].response_metadata["sot"]["calls"] == len(stages), "a router is no call of a model"


async def test_an_uncertain_router_lets_the_outlines_call_decline(server: FakeOpenAI, run: Run) -> None:
    server.script = declined
    graph = create_sot_graph(server.model(), route=load_router(threshold=1))
    assert (await run(graph, {"question": SUITS}))["answer"] == "A direct answer."
    assert [request.stage for request in server.requests] == ["skeleton", "direct"]


async def test_the_last_human_message_is_routed(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), route=load_router())
    given = [("user", SUITS), ("assistant", "It depends."), ("user", DIRECT)]
    assert (await run(graph, {"messages": given}))["points"] == []


async def test_outlines_of_a_router_are_cached(server: FakeOpenAI, run: Run) -> None:
    """Its name in a cache's key holds its threshold: another one may ask in another way."""
    cache: InMemoryCache[Any] = InMemoryCache()
    for threshold, calls in ((None, 1), (None, 1), (1, 2)):
        options: Any = {"cache": cache, "cache_policy": CachePolicy()}
        graph = create_sot_graph(server.model(), route=load_router(threshold=threshold), **options)
        await run(graph, {"question": SUITS})
        assert len(server.of_stage("skeleton")) == calls
