"""The graph inside an agent: its model decides, the points are written, the thread reads as a conversation."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelRequest,
    ModelResponse,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
    dynamic_prompt,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

from sot_graph import (
    ExpansionError,
    SkeletonOfThoughtMiddleware,
    astream_answer,
    create_sot_graph,
    create_sot_tool,
    stream_answer,
)
from sot_graph.prompts import LANGUAGE_BY_DEFAULT
from tests.agents import (
    ANSWER,
    OURS,
    OUTLINED,
    QUESTION,
    Tree,
    assert_accepted,
    assert_valid,
    calling,
    kinds,
    lookup,
    playing,
)
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, usual
from tests.integration.conftest import THREAD, Run

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def agent_of(server: FakeOpenAI, **options: Any) -> Any:
    middleware = [*options.pop("more", []), SkeletonOfThoughtMiddleware(options.pop("graph", server.model()))]
    return create_agent(server.model(), options.pop("tools", [lookup]), middleware=middleware, **options)


# --- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tools", [[], [lookup]], ids=["no other tools", "other tools"])
async def test_the_agents_outline_becomes_its_final_message(server: FakeOpenAI, run: Run, tools: list[Any]) -> None:
    playing(server, OUTLINED)
    result = await run(agent_of(server, tools=tools), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai"]
    assert result["messages"][-1].text == ANSWER
    assert result["messages"][-1].tool_calls == []
    assert sorted(server.titles()) == sorted(TITLES)
    assert [request.stage for request in server.requests].count("agent") == 1
    assert not server.of_stage("skeleton"), "the outline was in the tool call"


@pytest.mark.parametrize(
    "outline",
    [
        json.dumps(TITLES),
        "\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, start=1)),
        [{"title": title} for title in TITLES],
        {"points": TITLES},
    ],
    ids=["JSON", "a numbered text", "objects", "an object"],
)
async def test_the_outline_may_have_another_form(server: FakeOpenAI, run: Run, outline: Any) -> None:
    playing(server, calling((OURS, {"outline": outline})))
    result = await run(agent_of(server), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai"]
    assert result["messages"][-1].text == ANSWER


async def test_usage_is_that_of_all_calls_and_of_the_one_that_chose(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED, others=lambda request: replace(usual(request), first_token=0.05))
    message = (await run(agent_of(server, name="clerk"), QUESTION))["messages"][-1]
    sot = message.response_metadata["sot"]
    assert {stage: shown["calls"] for stage, shown in sot["stages"].items()} == {"agent": 1, "expand": 4}
    assert sot["calls"] == 5
    assert message.usage_metadata["input_tokens"] == 5 * 10
    assert message.usage_metadata["total_tokens"] == sum(t["usage"]["total_tokens"] for t in sot["stages"].values())
    assert sot["stages"]["agent"]["seconds"] <= sot["seconds"] <= sot["sequential_seconds"]
    assert message.name == "clerk"


async def test_the_points_see_the_system_prompt_and_the_conversation_and_tool_results(
    server: FakeOpenAI, run: Run
) -> None:
    playing(server, calling(("lookup", {"topic": "sleep"}), ("lookup", {"topic": "caffeine"})), OUTLINED)
    result = await run(agent_of(server, system_prompt="Be brief {x}."), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "tool", "ai"]
    assert_valid(result["messages"])
    assert_accepted(server.requests)
    for request in server.of_stage("expand"):
        assert [message["role"] for message in request.messages] == ["system", *["user", "assistant"] * 2, "user"]
        assert request.messages[0]["content"] == f"Be brief {{x}}.\n\n{LANGUAGE_BY_DEFAULT}"
        assert request.messages[1]["content"] == "How can I sleep better?"
        assert "Facts on sleep." in request.messages[2]["content"]
        assert 'lookup({"topic": "caffeine"})' in request.messages[2]["content"]
        assert OURS not in request.prompt


async def test_a_prompt_that_middleware_before_it_makes_reaches_the_points(server: FakeOpenAI, run: Run) -> None:
    @dynamic_prompt
    def of_the_day(_request: ModelRequest[Any]) -> str:
        return "It is Monday."

    playing(server, OUTLINED)
    ours = SkeletonOfThoughtMiddleware(server.model())
    await run(create_agent(server.model(), middleware=[of_the_day, ours]), QUESTION)
    assert all(request.messages[0]["content"].startswith("It is Monday.\n\n") for request in server.of_stage("expand"))


async def test_a_plain_answer_passes_through(server: FakeOpenAI, run: Run) -> None:
    playing(server, Reply("Go to bed."))
    result = await run(agent_of(server), QUESTION)
    assert [message.text for message in result["messages"]] == ["How can I sleep better?", "Go to bed."]
    assert "sot" not in result["messages"][-1].response_metadata
    assert len(server.requests) == 1


async def test_other_tool_calls_pass_through(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling(("lookup", {"topic": "sleep"})), Reply("Go to bed."))
    result = await run(agent_of(server), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].text == "Go to bed."


async def test_called_together_with_other_tools_it_waits_for_their_results(server: FakeOpenAI, run: Run) -> None:
    both: list[Any] = [(OURS, {"outline": TITLES}), ("lookup", {"topic": "sleep"})]
    playing(server, calling(*both), OUTLINED)
    result = await run(agent_of(server), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert [call["name"] for call in result["messages"][1].tool_calls] == ["lookup"]
    assert result["messages"][-1].text == ANSWER
    assert len(server.of_stage("expand")) == 4
    assert all("Facts on sleep." in request.prompt for request in server.of_stage("expand"))
    assert_accepted(server.requests)


async def test_of_two_outlines_in_one_message_the_first_is_written(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling((OURS, {"outline": TITLES[:2]}), (OURS, {"outline": TITLES[2:]})))
    result = await run(agent_of(server), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai"]
    assert sorted(server.titles()) == sorted(TITLES[:2])


@pytest.mark.parametrize("outline", [[], ["A dark room", " "], "A dark room", [1, 2], None], ids=str)
async def test_a_bad_outline_comes_back_to_the_model(server: FakeOpenAI, run: Run, outline: Any) -> None:
    playing(server, calling((OURS, {"outline": outline})), OUTLINED)
    result = await run(agent_of(server), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][2].status == "error"
    assert "outline" in result["messages"][2].text
    assert result["messages"][-1].text == ANSWER
    assert_valid(result["messages"])


async def test_an_outline_of_one_point_is_answered_directly(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling((OURS, {"outline": ["Sleep"]})))
    result = await run(agent_of(server), QUESTION)
    assert result["messages"][-1].text == "A direct answer."
    assert kinds(result["messages"]) == ["human", "ai"]


async def test_a_graph_of_ones_own_writes(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), headings=True, system_prompt="In verse.", checkpointer=InMemorySaver())
    playing(server, OUTLINED)
    result = await run(agent_of(server, graph=graph, system_prompt="Be brief."), QUESTION)
    assert result["messages"][-1].text.startswith(f"## {TITLES[0]}\n\n")
    system, *turns = server.of_stage("expand")[0].messages
    assert system == {"role": "system", "content": f"In verse.\n\nBe brief.\n\n{LANGUAGE_BY_DEFAULT}"}
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"], "many templates refuse two systems"


# --- threads -------------------------------------------------------------------------------------


async def test_a_thread_reads_as_a_plain_conversation(server: FakeOpenAI, run: Run) -> None:
    agent = agent_of(server, checkpointer=InMemorySaver())
    for _ in range(2):
        playing(server, calling(("lookup", {"topic": "sleep"})), OUTLINED, Reply("You are welcome."))
        await run(agent, QUESTION, THREAD)
        result = await run(agent, {"messages": [{"role": "user", "content": "Thanks."}]}, THREAD)
    turn = ["human", "ai", "tool", "ai", "human", "ai"]
    assert kinds(result["messages"]) == turn * 2
    assert_accepted(server.requests)
    assert [m["content"] for m in server.requests[-1].messages if m["role"] == "assistant"].count(ANSWER) == 2
    roles = [message["role"] for message in server.of_stage("expand")[-1].messages]
    assert all(one != other for one, other in pairwise(roles)), "the two take turns"


async def test_failed_points_are_raised_and_resumed_alone(server: FakeOpenAI, run: Run) -> None:
    failing = {TITLES[1]}
    playing(server, OUTLINED, others=lambda request: Reply(status=401) if request.title in failing else usual(request))
    agent = agent_of(server, checkpointer=InMemorySaver())
    with pytest.raises(ExpansionError) as caught:
        await run(agent, QUESTION, THREAD)
    assert [point["title"] for point in caught.value.failed] == [TITLES[1]]
    request = len(server.requests)
    failing.clear()
    result = await run(agent, None, THREAD)
    assert result["messages"][-1].text == ANSWER
    assert kinds(result["messages"]) == ["human", "ai"]
    assert [later.title for later in server.requests[request:]] == [TITLES[1]]
    assert result["messages"][-1].response_metadata["sot"]["stages"]["agent"]["calls"] == 1


async def test_after_a_failure_the_user_can_go_on_with_something_else(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED, Reply("Hello."), others=lambda _: Reply(status=401))
    agent = agent_of(server, checkpointer=InMemorySaver())
    with pytest.raises(ExpansionError):
        await run(agent, QUESTION, THREAD)
    result = await run(agent, {"messages": [{"role": "user", "content": "Hi."}]}, THREAD)
    assert kinds(result["messages"]) == ["human", "human", "ai"]
    assert_accepted(server.requests)


async def test_with_keep_the_answer_has_the_others(server: FakeOpenAI, run: Run) -> None:
    playing(
        server, OUTLINED, others=lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    )
    graph = create_sot_graph(server.model(), on_error="keep")
    message = (await run(agent_of(server, graph=graph), QUESTION))["messages"][-1]
    assert TITLES[1].lower() not in message.text
    assert TITLES[2].lower() in message.text


async def test_as_a_node_of_a_parent_the_agent_adds_one_message(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED)
    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent_of(server))
    builder.add_edge(START, "agent")
    result = await run(builder.compile(checkpointer=InMemorySaver()), QUESTION, THREAD)
    assert kinds(result["messages"]) == ["human", "ai"]


# --- streaming -----------------------------------------------------------------------------------


def slow_first(request: Request) -> Reply:
    if request.stage != "expand":
        return usual(request)
    late = request.title in TITLES[:2]
    return Reply(f"About {request.title.lower()} there is this to say.", per_token=0.02 if late else 0)


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("saver", [None, InMemorySaver()], ids=["no thread", "thread"])
async def test_the_answer_streams_as_one_message_of_the_agents_own(
    server: FakeOpenAI, *, subgraphs: bool, saver: Any
) -> None:
    playing(server, OUTLINED, OUTLINED, others=slow_first)
    agent = agent_of(server, checkpointer=saver)
    for form in ("sync", "async"):
        config: RunnableConfig = {"configurable": {"thread_id": f"{form}{subgraphs}"}}
        options = (
            {"stream_mode": ["messages", "values"], "subgraphs": True}
            if subgraphs
            else {"stream_mode": ["messages", "values"]}
        )
        if form == "sync":
            parts = list(agent.stream(QUESTION, config, **options))
        else:
            parts = [part async for part in agent.astream(QUESTION, config, **options)]
        whole = [part if subgraphs else ((), *part) for part in parts]
        chunks = [(ns, *data) for ns, mode, data in whole if mode == "messages"]
        texts = [(ns, m, meta) for ns, m, meta in chunks if isinstance(m, AIMessageChunk) and m.text]
        assert "".join(m.text for _, m, _ in texts) == ANSWER
        assert len(texts) > 10, "in pieces"
        assert {ns for ns, _, _ in texts} == {()}, "of the agent, not of a graph inside"
        final = [data for ns, mode, data in whole if mode == "values" and ns == ()][-1]["messages"][-1]
        assert {m.id for _, m, _ in texts} == {final.id}
        assert sum(ANSWER in m.text for _, m, _ in chunks) == 0, "never sent a second time"


async def test_updates_show_the_answer_where_readers_look_for_it(server: FakeOpenAI) -> None:
    playing(server, OUTLINED)
    updates = list(agent_of(server).stream(QUESTION, stream_mode="updates"))
    assert updates[-1]["model"]["messages"][-1].text == ANSWER


async def test_events_and_stream_answer_reach_through_the_agent(server: FakeOpenAI) -> None:
    playing(server, *[OUTLINED] * 3, others=slow_first)
    agent = agent_of(server)
    assert "".join(stream_answer(agent, QUESTION)) == ANSWER
    assert "".join([chunk async for chunk in astream_answer(agent, QUESTION)]) == ANSWER
    events = [event for _, event in agent.stream(QUESTION, stream_mode="custom", subgraphs=True)]
    assert events[0] == {"type": "outline", "titles": TITLES}
    assert "".join(event["text"] for event in events if event["type"] == "answer") == ANSWER


async def test_the_graph_is_nested_in_the_agents_trace(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED)
    tree = Tree()
    await run(agent_of(server, name="clerk"), QUESTION, {"callbacks": [tree], "metadata": {"who": "me"}})
    above = [name for name in tree.above(f"expand 1: {TITLES[0]}") if not name.startswith("Runnable")]
    assert above == ["expand", "skeleton_of_thought", OURS, "tools", "clerk"]


# --- with others ---------------------------------------------------------------------------------


class Sleep(BaseModel):
    """Advice."""

    hours: int


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
async def test_an_agent_that_owes_a_structured_response_is_not_offered_the_tool(
    server: FakeOpenAI, run: Run, strategy: Any
) -> None:
    by_tool = strategy is ToolStrategy
    final = calling(("Sleep", {"hours": 8})) if by_tool else Reply('{"hours": 8}')
    playing(server, calling(("lookup", {"topic": "sleep"})), final)
    result = await run(agent_of(server, response_format=strategy(Sleep)), QUESTION)
    assert result["structured_response"] == Sleep(hours=8)
    offered = {tool["function"]["name"] for request in server.requests for tool in request.body["tools"]}
    assert offered == ({"lookup", "Sleep"} if by_tool else {"lookup"})


def asking(name: str, mode: str = "batched") -> HumanInTheLoopMiddleware:
    return HumanInTheLoopMiddleware({name: True}, interrupt_mode=mode)  # type: ignore[arg-type]


def decided(mode: str, decision: dict[str, Any]) -> Command[Any]:
    return Command(resume={"decisions": [decision]} if mode == "batched" else decision)


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_person_approves_an_outline(server: FakeOpenAI, run: Run, mode: str, *, is_first: bool) -> None:
    playing(server, OUTLINED)
    both = [asking(OURS, mode), SkeletonOfThoughtMiddleware(server.model())]
    agent = create_agent(
        server.model(), [lookup], middleware=both if is_first else both[::-1], checkpointer=InMemorySaver()
    )
    stopped = await run(agent, QUESTION, THREAD)
    assert len(stopped["__interrupt__"]) == 1
    assert not server.of_stage("expand")
    result = await run(agent, decided(mode, {"type": "approve"}), THREAD)
    assert result["messages"][-1].text == ANSWER
    assert kinds(result["messages"]) == ["human", "ai"]
    assert len(server.of_stage("agent")) == 1


@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_a_person_edits_an_outline(server: FakeOpenAI, run: Run, mode: str) -> None:
    playing(server, OUTLINED)
    agent = agent_of(server, more=[asking(OURS, mode)], checkpointer=InMemorySaver())
    await run(agent, QUESTION, THREAD)
    edited = {"type": "edit", "edited_action": {"name": OURS, "args": {"outline": ["Warm milk", "Cold feet"]}}}
    result = await run(agent, decided(mode, edited), THREAD)
    assert sorted(server.titles()) == ["Cold feet", "Warm milk"]
    assert kinds(result["messages"]) == ["human", "ai"]


@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_a_person_rejects_an_outline(server: FakeOpenAI, run: Run, mode: str) -> None:
    playing(server, OUTLINED, Reply("In short: sleep."))
    agent = agent_of(server, more=[asking(OURS, mode)], checkpointer=InMemorySaver())
    await run(agent, QUESTION, THREAD)
    result = await run(agent, decided(mode, {"type": "reject", "message": "Be short."}), THREAD)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].text == "In short: sleep."
    assert_accepted(server.requests)


@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_a_person_approves_another_tool_first(server: FakeOpenAI, run: Run, mode: str) -> None:
    playing(server, calling(("lookup", {"topic": "sleep"}), (OURS, {"outline": TITLES})), OUTLINED)
    agent = agent_of(server, more=[asking("lookup", mode)], checkpointer=InMemorySaver())
    await run(agent, QUESTION, THREAD)
    result = await run(agent, decided(mode, {"type": "approve"}), THREAD)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].text == ANSWER


async def test_a_person_reviews_the_outline_in_the_graph(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED)
    graph = create_sot_graph(server.model(), review=True)
    agent = agent_of(server, graph=graph, checkpointer=InMemorySaver())
    stopped = await run(agent, QUESTION, THREAD)
    assert len(stopped["__interrupt__"]) == 1
    result = await run(agent, Command(resume=True), THREAD)
    assert result["messages"][-1].text == ANSWER
    assert len(server.of_stage("agent")) == 1


class Stamp(AgentMiddleware[Any, Any, Any]):
    """Counts what it sees, and stamps the agent's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        self.calls += 1
        return handler(request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> Any:
        self.calls += 1
        return await handler(request)

    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002 - its signature
        last = state["messages"][-1]
        if not isinstance(last, AIMessage) or last.tool_calls:
            return None
        return {"messages": [last.model_copy(update={"content": f"{last.text} (checked)"})]}


@pytest.mark.parametrize("is_first", [True, False])
async def test_other_middleware_sees_the_answer_wherever_it_stands(
    server: FakeOpenAI, run: Run, *, is_first: bool
) -> None:
    playing(server, OUTLINED)
    stamp, ours = Stamp(), SkeletonOfThoughtMiddleware(server.model())
    agent = create_agent(server.model(), middleware=[stamp, ours] if is_first else [ours, stamp])
    result = await run(agent, QUESTION)
    assert kinds(result["messages"]) == ["human", "ai"]
    assert result["messages"][-1].text == f"{ANSWER} (checked)"
    assert stamp.calls == (2 if is_first else 1), "what stands before ours also sees the answer being handed on"


async def test_a_crowd_of_other_middleware_keeps_working(server: FakeOpenAI, run: Run) -> None:
    crowd = [
        TodoListMiddleware(),
        ModelCallLimitMiddleware(run_limit=5),
        ToolCallLimitMiddleware(run_limit=5),
        ModelRetryMiddleware(max_retries=1, initial_delay=0),
        ToolRetryMiddleware(max_retries=1, initial_delay=0),
        PIIMiddleware("email", apply_to_output=True),
    ]
    playing(server, calling(("lookup", {"topic": "sleep"})), OUTLINED)
    result = await run(agent_of(server, more=crowd, checkpointer=InMemorySaver()), QUESTION, THREAD)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][-1].text == ANSWER


async def test_a_thread_that_is_summarized_continues(server: FakeOpenAI, run: Run) -> None:
    summary = SummarizationMiddleware(server.model(), trigger=("messages", 5), keep=("messages", 2))
    agent = agent_of(server, more=[summary], checkpointer=InMemorySaver())
    for _ in range(3):
        playing(server, calling(("lookup", {"topic": "sleep"})), OUTLINED)
        result = await run(agent, QUESTION, THREAD)
        assert result["messages"][-1].text == ANSWER
        assert_valid(result["messages"])
    assert_accepted(server.requests)


async def test_the_tool_and_the_middleware_live_in_one_agent(server: FakeOpenAI, run: Run) -> None:
    tool = create_sot_tool(create_sot_graph(server.model()))
    playing(server, calling((tool.name, {"question": "Why sleep?", "outline": TITLES[:2]})), OUTLINED)
    result = await run(agent_of(server, tools=[tool]), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][2].text in server.of_stage("expand")[-1].prompt


def test_what_is_no_graph_and_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="graph must be a graph from create_sot_graph, a chat model or the name of one"):
        SkeletonOfThoughtMiddleware(3)  # type: ignore[arg-type]
