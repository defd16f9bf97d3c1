"""Any history is answered by servers whose chat template takes a system message in front, turns, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from sot_graph import ExpansionError, SkeletonOfThoughtMiddleware, create_sot_graph, create_sot_tool
from tests.agents import ANSWER, OUTLINED, TokenCallback, calling, lookup, playing
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, outline_json, strict, usual
from tests.integration.conftest import THREAD, Run

QUESTION = HumanMessage("How can I sleep better?")
FACTS: dict[str, Any] = {"type": "text", "text": "Facts on beds."}
PICTURE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALLS: list[Any] = [{"name": "look", "args": {"at": "beds"}, "id": "1"}]
INVALID: list[Any] = [{"name": "look", "args": '{"at": beds', "id": "1", "error": None, "type": "invalid_tool_call"}]
USE: dict[str, Any] = {"type": "tool_use", "id": "1", "name": "look", "input": {"at": "beds"}}
LEGACY = {"function_call": {"name": "look", "arguments": '{"at": "beds"}'}}
RESULT = ToolMessage("Facts on beds.", tool_call_id="1")
FUNCTION_RESULT = FunctionMessage(content="Facts on beds.", name="look")
HISTORIES: dict[str, list[BaseMessage]] = {
    "a system message": [SystemMessage("Facts on beds."), QUESTION],
    "a system message behind": [QUESTION, SystemMessage("Facts on beds.")],
    "a developer's message": [ChatMessage(content="Facts on beds.", role="developer"), QUESTION],
    "two system messages": [SystemMessage("Facts."), AIMessage("Hello."), SystemMessage("on beds."), QUESTION],
    "two questions": [HumanMessage("Facts on beds."), QUESTION],
    "two of blocks": [HumanMessage([FACTS, PICTURE]), HumanMessage([PICTURE]), QUESTION],
    "two of them mixed": [HumanMessage("Facts on beds."), HumanMessage([PICTURE, "How can I sleep better?"])],
    "an empty message between": [HumanMessage("Facts on beds."), AIMessage(""), HumanMessage([]), QUESTION],
    "chat messages": [ChatMessage(content="On beds.", role=role) for role in ("assistant", "user", "critic", "user")],
    "a greeting": [AIMessage("Hello."), AIMessage([FACTS]), QUESTION],
    "a result in front": [RESULT, QUESTION],
    "tool calls": [QUESTION, AIMessage("", tool_calls=CALLS), RESULT],
    "a call without a result": [HumanMessage("Facts?"), AIMessage("", tool_calls=CALLS), QUESTION],
    "an answer behind": [QUESTION, AIMessage("Facts on beds."), AIMessage("")],
    "an invalid call": [HumanMessage("Facts?"), AIMessage("", invalid_tool_calls=INVALID), QUESTION],
    "an invalid call with a result": [QUESTION, AIMessage("So.", invalid_tool_calls=INVALID), RESULT],
    "function calls": [HumanMessage("Facts?"), AIMessage("", additional_kwargs=LEGACY), FUNCTION_RESULT, QUESTION],
    "a function's result at the end": [QUESTION, AIMessage("", additional_kwargs=LEGACY), FUNCTION_RESULT],
    "a call among blocks": [QUESTION, AIMessage([USE])],
}  # fmt: skip
each_history = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)


def declining(request: Request) -> Reply:
    return Reply(outline_json([])) if request.stage == "skeleton" else usual(request)


def failing(stage: str, status: int = 400) -> Script:
    return lambda request: Reply(status=status) if request.stage == stage else usual(request)


def assert_told(requests: Sequence[Request], *texts: str) -> None:
    """Each of them got these texts, and there was one."""
    assert requests
    for request in requests:
        assert not [text for text in texts if text not in request.prompt]


def in_parent(graph: Runnable[Any, Any]) -> Runnable[Any, Any]:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    return builder.compile()


@each_history
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_any_history_is_answered(
    server: FakeOpenAI, run: Run, history: list[BaseMessage], *, streamed: bool
) -> None:
    config: RunnableConfig | None = {"callbacks": [TokenCallback()]} if streamed else None
    server.script = strict()
    result = await run(
        create_sot_graph(server.model(), system_prompt="Be brief.", lead=True), {"messages": history}, config
    )
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert result["messages"][-1].response_metadata["sot"]["stages"].keys() == {"skeleton", "lead", "expand"}
    assert_told(server.requests, "Be brief.", "beds")
    prefixes = {str(request.messages[:-2]) for request in server.requests}
    assert len(prefixes) == 1, "a prefix cache reads them once"


@each_history
@pytest.mark.parametrize("lead", [False, True])
async def test_any_history_is_answered_directly(
    server: FakeOpenAI, run: Run, history: list[BaseMessage], *, lead: bool
) -> None:
    server.script = strict(declining)
    graph = create_sot_graph(server.model(), system_prompt="Be brief.", lead=lead)
    result = await run(in_parent(graph), {"messages": history})
    assert result["messages"][-1].text.endswith("A direct answer.")
    assert_told(server.requests, "Be brief.", "beds")


# --- a thread whose last turn failed ---------------------------------------------------------------


@pytest.mark.parametrize("form", ["messages", "question"])
@pytest.mark.parametrize(("stage", "status"), [("skeleton", 400), ("skeleton", 500), ("expand", 401), ("direct", 400)])
async def test_a_thread_goes_on_after_a_failed_turn(
    server: FakeOpenAI, run: Run, form: str, stage: str, status: int
) -> None:
    asked: list[str] = []

    def route(question: str) -> bool:
        asked.append(question)
        return stage != "direct"

    graph = create_sot_graph(server.model(), route=route, checkpointer=InMemorySaver(), retry_policy=[])
    server.script = strict(failing(stage, status))
    texts = ["Why do owls sleep by day?", "And bees?"]
    first, second = ({"question": text} if form == "question" else {"messages": [HumanMessage(text)]} for text in texts)
    with pytest.raises(Exception, match=f"{status}|points"):
        await run(graph, first, THREAD)
    server.script = strict()
    sent = len(server.requests)
    result = await run(graph, second, THREAD)
    assert result["messages"][-1].text == (ANSWER if stage != "direct" else "A direct answer.")
    assert asked == texts, "the last message is the question"
    told = texts if form == "messages" or stage in {"expand", "direct"} else texts[1:]
    assert_told(server.requests[sent:], "\n\n".join(told))


async def test_a_review_shows_the_last_question(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver())
    server.script = strict()
    given = [HumanMessage("Why do owls sleep?"), ChatMessage(content="And bees?", role="user")]
    stopped = await run(graph, {"messages": given}, THREAD)
    assert stopped["__interrupt__"][0].value["question"] == "And bees?"
    result = await run(graph, Command(resume="Fewer."), THREAD)
    result = await run(graph, Command(resume=True), THREAD)
    assert result["answer"] == ANSWER


async def test_a_chat_message_is_a_new_turn_of_a_thread(server: FakeOpenAI, run: Run) -> None:
    """Also in a kept answer of which points are written later."""
    graph = create_sot_graph(server.model(), on_error="keep", checkpointer=InMemorySaver())
    server.script = strict(lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request))
    await run(graph, {"messages": [QUESTION]}, THREAD)
    server.script = strict()
    graph.update_state(THREAD, {"messages": [ChatMessage(content="And bees?", role="user")]}, as_node="merge")
    sent = len(server.requests)
    await run(graph, Command(goto="merge"), THREAD)
    assert not server.requests[sent:], "the points are of the turn before"


# --- in agents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("system", ["Be brief.", SystemMessage("Be brief."), None], ids=["text", "message", "none"])
async def test_the_tool_is_answered(server: FakeOpenAI, run: Run, system: Any, *, streamed: bool) -> None:
    tool = create_sot_tool(create_sot_graph(server.model(), system_prompt=system))
    playing(server, calling((tool.name, {"question": "Why sleep?"})), Reply("There you are."))
    server.script = strict(server.script)
    config: RunnableConfig | None = {"callbacks": [TokenCallback()]} if streamed else None
    agent = create_agent(server.model(), [tool], system_prompt="You are a clerk.")
    result = await run(agent, {"messages": [QUESTION]}, config)
    assert [message.text for message in result["messages"][-2:]] == [ANSWER, "There you are."]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("looked", [0, 1, 2])
async def test_the_middleware_is_answered(server: FakeOpenAI, run: Run, looked: int, *, streamed: bool) -> None:
    playing(server, *[calling(("lookup", {"topic": "beds"}))] * looked, OUTLINED)
    server.script = strict(server.script)
    graph = create_sot_graph(server.model(), system_prompt="In verse.")
    middleware = [SkeletonOfThoughtMiddleware(graph)]
    agent = create_agent(server.model(), [lookup], system_prompt="You are a clerk.", middleware=middleware)
    config: RunnableConfig | None = {"callbacks": [TokenCallback()]} if streamed else None
    result = await run(agent, {"messages": [HumanMessage("Hello."), QUESTION]}, config)
    assert result["messages"][-1].text == ANSWER
    assert_told(server.of_stage("expand"), "In verse.\n\nYou are a clerk.", "Hello.", *["Facts on beds."][:looked])


@each_history
async def test_the_middleware_is_answered_with_any_history(
    server: FakeOpenAI, run: Run, history: list[BaseMessage]
) -> None:
    playing(server, OUTLINED, others=strict())
    agent = create_agent(
        server.model(), middleware=[SkeletonOfThoughtMiddleware(server.model())], system_prompt="Brief."
    )
    assert (await run(agent, {"messages": history}))["messages"][-1].text == ANSWER
    assert_told(server.of_stage("expand"), "Brief.", "beds")


async def test_an_agents_thread_goes_on_after_a_failed_turn(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED, others=failing("expand", 401))
    agent = create_agent(
        server.model(), middleware=[SkeletonOfThoughtMiddleware(server.model())], checkpointer=InMemorySaver()
    )
    with pytest.raises(ExpansionError):
        await run(agent, {"messages": [QUESTION]}, THREAD)
    for replies in ([Reply("Bees do.")], [OUTLINED]):
        playing(server, *replies)
        server.script = strict(server.script)
        result = await run(agent, {"messages": [("user", "And bees?")]}, THREAD)
    assert result["messages"][-1].text == ANSWER
    assert_told(server.requests[-4:], "How can I sleep better?\n\nAnd bees?", "Bees do.")


@each_history
@pytest.mark.parametrize("kind", ["chain", "agent", "graph"])
async def test_an_expander_is_answered(server: FakeOpenAI, run: Run, history: list[BaseMessage], kind: str) -> None:
    server.script = strict()
    model = server.model()
    expander: Runnable[Any, Any] = {
        "chain": RunnableLambda(lambda messages: messages) | model,
        "agent": create_agent(model),
        "graph": create_sot_graph(model, route=lambda _: False, system_prompt="In verse."),
    }[kind]
    graph = create_sot_graph(server.model(), system_prompt="Be brief.", expander=expander)
    result = await run(graph, {"messages": history})
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert_told(server.requests, "Be brief.", "beds")
