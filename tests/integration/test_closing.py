"""The ending is written from the points, streamed last and short; without it, an answer is an answer."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import CachePolicy, Command, RetryPolicy

from sot_graph import (
    DemoChatModel,
    ExpansionError,
    SkeletonOfThoughtMiddleware,
    SotInput,
    SotTransformer,
    astream_answer,
    create_sot_graph,
    create_sot_tool,
)
from sot_graph.nodes.sentences import LONGEST
from sot_graph.prompts import CLOSE, GO_ON
from tests.agents import OUTLINED, playing
from tests.agents import QUESTION as ASKED
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Script, outline_json, strict, usual
from tests.integration.conftest import THREAD, Read, Run, parent_of
from tests.processes import wait_until
from tests.sentences import FIRST, SECOND, TALK, THIRD

QUESTION: SotInput = {"question": "How can I sleep better?"}
TEXTS = [f"About {title.lower()} there is this to say." for title in TITLES]
POINTS = "\n\n".join(TEXTS)
ENDING = "That is what helps."
LATE = 30
"""Seconds that no test waits for."""
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


def ending(reply: Reply, other: Script = usual) -> Script:
    """The usual replies, but this one for the ending."""
    return lambda request: reply if request.stage == "closing" else other(request)


def losing(*titles: str) -> Script:
    """The usual replies, but these points fail for good."""
    return lambda request: Reply(status=401) if request.title in titles else usual(request)


def ending_of(result: dict[str, Any]) -> str:
    text: str = result["answer"].removeprefix(POINTS)
    assert text != result["answer"], "the points are whole"
    return text.removeprefix("\n\n")


def figures(result: dict[str, Any]) -> Any:
    return result["messages"][-1].response_metadata["sot"]


# --- the last text -------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_stands_below_the_points(server: FakeOpenAI, read: Read, *, streamed: bool) -> None:
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver())
    _shown, result = await read(graph, config=THREAD, streamed=streamed)
    assert result["answer"] == result["messages"][-1].text == f"{POINTS}\n\n{ENDING}"
    assert [point["text"] for point in result["points"]] == TEXTS
    assert [request.stage for request in server.requests] == ["skeleton", *["expand"] * 4, "closing"]
    assert graph.get_state(THREAD).values["ending"] == ENDING


async def test_without_the_option_there_is_nothing_of_it(server: FakeOpenAI, read: Read) -> None:
    graph = create_sot_graph(server.model())
    _shown, result = await read(graph)
    assert result["answer"] == POINTS
    assert not server.of_stage("closing")
    assert "closing" not in graph.nodes


async def test_it_sees_the_conversation_the_outline_and_the_texts(server: FakeOpenAI, run: Run) -> None:
    server.script = strict()
    history = [HumanMessage("Hi!"), AIMessage("Hello."), HumanMessage("How can I sleep better?")]
    for lead in (False, True):
        graph = create_sot_graph(server.model(), closing=True, lead=lead, system_prompt="Be brief.")
        result = await run(graph, {"messages": history})
        assert result["answer"].endswith(f"{POINTS}\n\n{ENDING}")
        (request,) = server.of_stage("closing")[lead:]
        assert [message["role"] for message in request.messages] == ["system", *["user", "assistant"] * 2, "user"]
        assert request.messages[:4] == server.of_stage("expand")[0].messages[:4], "the same bytes as in every call"
        outline = f"{'; '.join(TITLES)}."
        opening = ["A direct answer."] * lead  # as which the server takes the opening
        assert request.messages[4]["content"] == "\n\n".join([*opening, outline, POINTS])
        assert request.last == CLOSE


async def test_it_is_streamed_while_it_is_written(server: FakeOpenAI) -> None:
    server.script = ending(Reply(f"{FIRST} {SECOND}", per_token=0.1))
    shown = ""
    async for chunk in astream_answer(create_sot_graph(server.model(), closing=True, headings=True), QUESTION):
        shown += chunk
        if shown.endswith("Sleep is"):
            assert server.in_flight == 1
    assert shown.endswith(f"{TEXTS[-1]}\n\n{FIRST} {SECOND}")


NESTED = pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
GIVEN: Any = {"messages": [HumanMessage("Why?")]}
LAST = ["\n\nThat", " is", " what", " helps."]


@NESTED
async def test_in_messages_mode_it_is_part_of_the_one_message(server: FakeOpenAI, form: str, *, nested: bool) -> None:
    graph: Any = create_sot_graph(server.model(), closing=True, lead=True)
    graph = parent_of(graph) if nested else graph
    modes: Any = {"stream_mode": "messages", "subgraphs": True}
    if form == "sync":
        parts = await asyncio.to_thread(lambda: list(graph.stream(GIVEN, **modes)))
    else:
        parts = [part async for part in graph.astream(GIVEN, **modes)]
    chunks = [chunk for _namespace, (chunk, _metadata) in parts]
    assert "".join(chunk.text for chunk in chunks).endswith(f"{POINTS}\n\n{ENDING}")
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.text for chunk in chunks][-4:] == LAST


@NESTED
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_version_3_has_it_in_the_answer(server: FakeOpenAI, form: str, *, nested: bool) -> None:
    graph: Any = create_sot_graph(server.model(), closing=True)
    graph = parent_of(graph) if nested else graph
    options: Any = {"version": "v3", "transformers": [SotTransformer] if nested else None}
    if form == "sync":
        run = graph.stream_events(GIVEN, **options)
        chunks, output = [*run.answer], run.output
    else:
        run = await graph.astream_events(GIVEN, **options)
        chunks, output = [chunk async for chunk in run.answer], await run.output()
    assert "".join(chunks) == output["messages"][-1].text == f"{POINTS}\n\n{ENDING}"
    assert chunks[-4:] == LAST


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_version_3_has_it_in_the_one_message(server: FakeOpenAI) -> None:
    run = await create_sot_graph(server.model(), closing=True).astream_events(GIVEN, version="v3")
    (texts,) = [[text async for text in message.text] async for message in run.messages]
    assert "".join(texts) == f"{POINTS}\n\n{ENDING}"
    assert texts[-4:] == LAST


async def test_after_a_merge_of_the_callers_own(server: FakeOpenAI, read: Read) -> None:
    for lead in (False, True):
        graph = create_sot_graph(server.model(), closing=True, lead=lead, merge=lambda points: f"{len(points)} points.")
        shown, result = await read(graph)
        assert result["answer"] == "A direct answer.\n\n" * lead + f"4 points.\n\n{ENDING}"
        assert shown == result["answer"]


@pytest.mark.parametrize("config", [{"max_concurrency": 1}, {"max_concurrency": 2}], ids=str)
async def test_within_the_concurrency_limit(server: FakeOpenAI, read: Read, config: Any) -> None:
    _shown, result = await read(create_sot_graph(server.model(), closing=True), config=config)
    assert ending_of(result) == ENDING
    assert server.most_in_flight <= config["max_concurrency"]


async def test_after_a_review(server: FakeOpenAI, read: Read) -> None:
    graph = create_sot_graph(server.model(), closing=True, review=True, checkpointer=InMemorySaver())
    await read(graph, config=THREAD, streamed=False)
    _shown, result = await read(graph, Command(resume=TITLES[:2]), THREAD)
    assert result["answer"] == "\n\n".join([*TEXTS[:2], ENDING])


async def test_an_expander_does_not_write_it(server: FakeOpenAI, read: Read) -> None:
    graph = create_sot_graph(server.model(), closing=True, expander=lambda _: "So it is.")
    _shown, result = await read(graph)
    assert result["answer"] == "\n\n".join(["So it is."] * 4 + [ENDING])


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_direct_answer_has_none(server: FakeOpenAI, read: Read, *, streamed: bool) -> None:
    server.script = lambda request: Reply(outline_json([])) if request.stage == "skeleton" else usual(request)
    _shown, result = await read(create_sot_graph(server.model(), closing=True), streamed=streamed)
    assert result["answer"] == "A direct answer."
    assert not server.of_stage("closing")


# --- short ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "two": (f"{FIRST} {SECOND}", f"{FIRST} {SECOND}"),
        "three": (f"{FIRST} {SECOND} {THIRD}", f"{FIRST} {SECOND}"),
        "Chinese": ("睡眠很重要。它让人精神焕发。第三句。", "睡眠很重要。它让人精神焕发。"),
        "a list": (f"{FIRST}\n\n- One\n- Two\n- Three", FIRST),
        "white space": (f"\n\n {FIRST} \n", FIRST),
        "thoughts": (f"<think>How does it end?</think>\n\n{FIRST}", FIRST),
        "braces": ("{title} is {0} and {{so}} %s on.", "{title} is {0} and {{so}} %s on."),
        "null": ("It\x00 ends \ud83d here.", "It\ufffd ends \ufffd here."),
    }.values(),
    ids=lambda value: ascii(value)[:12],
)
async def test_it_ends_after_two_sentences(
    server: FakeOpenAI, read: Read, text: str, expected: str, *, streamed: bool
) -> None:
    if "\ud83d" in text and streamed:
        text, expected = text.replace("\ud83d ", ""), expected.replace("ends \ufffd", "ends")  # no stream can hold it
    server.script = ending(Reply(text))
    _shown, result = await read(create_sot_graph(server.model(), closing=True), streamed=streamed)
    assert ending_of(result) == expected
    assert figures(result)["stages"]["closing"]["calls"] == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", TALK)
async def test_a_model_that_never_stops(server: FakeOpenAI, read: Read, kind: str, *, streamed: bool) -> None:
    server.script = ending(Reply(TALK[kind], per_token=0.002))
    began = time.monotonic()
    _shown, result = await read(create_sot_graph(server.model(), closing=True), streamed=streamed)
    assert time.monotonic() - began < 15, "the whole text takes longer"
    text = ending_of(result)
    assert text == f"{FIRST} {SECOND}" if kind == "with sentences" else TALK[kind].startswith(text)
    assert 0 < len(text) <= LONGEST
    assert figures(result)["stages"]["closing"]["calls"] == 1, "what was paid for is counted"
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)


async def test_its_call_has_a_token_limit(server: FakeOpenAI, run: Run) -> None:
    for most, expected in ((4096, 256), (77, 77), (None, None)):
        await run(create_sot_graph(server.model(), closing=True, max_tokens=most), QUESTION)
        assert server.of_stage("closing")[-1].body.get("max_completion_tokens") == expected
    server.requests.clear()
    own = server.model(max_tokens=500)
    await run(create_sot_graph(own, closing=True), QUESTION)
    assert {request.body["max_completion_tokens"] for request in server.requests} == {500}


@pytest.mark.parametrize("text", [CLOSE, GO_ON, "{title} {0} %s", "1. One\n2. Two", "A line\x00."])
async def test_points_of_any_text(server: FakeOpenAI, read: Read, text: str) -> None:
    server.script = strict(lambda request: Reply(text) if request.stage == "expand" else usual(request))
    _shown, result = await read(create_sot_graph(server.model(), closing=True))
    assert result["answer"].endswith(f"\n\n{ENDING}")
    assert server.of_stage("closing")[0].messages[-2]["content"].endswith(text.replace("\x00", "\ufffd"))


# --- counted and traced --------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_is_counted(server: FakeOpenAI, read: Read, *, streamed: bool) -> None:
    server.script = ending(Reply(ENDING, first_token=0.2))
    _shown, result = await read(create_sot_graph(server.model(), closing=True), streamed=streamed)
    sot = figures(result)
    assert sot["calls"] == 6
    assert sot["stages"]["closing"]["usage"]["output_tokens"] == len(ENDING.split())
    assert result["messages"][-1].usage_metadata["input_tokens"] == 6 * 10
    assert [entry["stage"] for entry in sot["timeline"]] == ["skeleton", *["expand"] * 4, "closing"]
    assert [entry["stage"] for entry in sot["timeline"] if entry["is_critical"]] == ["skeleton", "expand", "closing"]
    assert sot["critical_path_seconds"] >= 0.2
    assert sot["stages"]["closing"]["first_token_seconds"] >= 0.2


async def test_failed_attempts_are_counted(server: FakeOpenAI, read: Read) -> None:
    server.script = lambda request: (
        Reply(status=500) if (request.stage, request.attempt) == ("closing", 1) else usual(request)
    )
    _shown, result = await read(create_sot_graph(server.model(), closing=True, retry_policy=FAST))
    assert ending_of(result) == ENDING
    assert figures(result)["stages"]["closing"]["calls"] == 2


class Calls(BaseCallbackHandler):
    """The names, tags and metadata of the model's runs."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[list[str], dict[str, Any]]] = {}

    def on_chat_model_start(self, *_args: Any, **run: Any) -> None:
        self.seen[run["name"]] = run["tags"], run["metadata"]


async def test_its_run_has_a_name_tags_and_metadata(server: FakeOpenAI, run: Run) -> None:
    calls = Calls()
    await run(create_sot_graph(server.model(), closing=True), QUESTION, {"callbacks": [calls], "tags": ["mine"]})
    tags, metadata = calls.seen["closing ending"]
    assert {"sot:closing", "nostream", "mine"} <= set(tags)
    assert (metadata["sot_stage"], metadata["sot_attempt"]) == ("closing", 1)
    assert not {"sot_point", "sot_title"} & metadata.keys()


async def test_it_is_hedged(server: FakeOpenAI, read: Read) -> None:
    server.script = lambda request: replace(
        usual(request), first_token=LATE if (request.stage, request.attempt) == ("closing", 1) else 0
    )
    _shown, result = await read(create_sot_graph(server.model(timeout=4), closing=True, hedge=0.5))
    assert ending_of(result) == ENDING
    first, second = [entry for entry in figures(result)["timeline"] if entry["stage"] == "closing"]
    assert (first.get("is_lost"), second.get("is_hedge")) == (True, True)


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("reply", [Reply(status=401), Reply(""), Reply("<think>Well.</think>")], ids=lambda r: r.text)
async def test_without_it_an_answer_is_an_answer(
    server: FakeOpenAI, read: Read, caplog: pytest.LogCaptureFixture, reply: Reply, *, streamed: bool
) -> None:
    server.script = ending(replace(reply, message="Wrong key: sk-test-key"))
    graph = create_sot_graph(server.model(), closing=True, retry_policy=FAST)
    _shown, result = await read(graph, streamed=streamed)
    assert result["answer"] == POINTS
    assert figures(result)["stages"]["closing"]["calls"] == len(server.of_stage("closing"))
    assert [entry["error"] for entry in figures(result)["timeline"]][-1]
    assert "The ending failed: " in caplog.text
    assert "sk-test-key" not in caplog.text


async def test_what_was_shown_of_it_stays(server: FakeOpenAI, read: Read) -> None:
    server.script = ending(Reply("One two three four.", drop_after=2))
    graph = create_sot_graph(server.model(), closing=True, retry_policy=replace_attempts(1))
    shown, result = await read(graph)
    assert shown == result["answer"] == f"{POINTS}\n\nOne two"
    _shown, result = await read(graph, streamed=False)
    assert result["answer"] == POINTS, "nobody has seen it"


def replace_attempts(most: int) -> RetryPolicy:
    return FAST._replace(max_attempts=most)


async def test_a_retry_goes_on_from_what_was_shown(server: FakeOpenAI, read: Read) -> None:
    server.script = lambda request: (
        Reply(
            "and four." if request.last == GO_ON else "Two three and four.",
            drop_after=None if request.attempt > 1 else 2,
        )
        if request.stage == "closing"
        else usual(request)
    )
    _shown, result = await read(create_sot_graph(server.model(), closing=True, retry_policy=FAST))
    assert ending_of(result) == "Two three and four."
    assert server.of_stage("closing")[1].messages[-2]["content"] == "Two three"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("lost", "on_error"), [(TITLES[1:2], "raise"), (TITLES, "raise"), (TITLES, "keep")], ids=["one", "all", "all, keep"]
)
async def test_nothing_is_paid_before_the_points_error(
    server: FakeOpenAI, read: Read, lost: list[str], on_error: Any, *, streamed: bool
) -> None:
    server.script = losing(*lost)
    with pytest.raises(ExpansionError):
        await read(create_sot_graph(server.model(), closing=True, on_error=on_error), streamed=streamed)
    assert not server.of_stage("closing")


async def test_with_keep_it_is_written_from_the_points_that_there_are(server: FakeOpenAI, read: Read) -> None:
    server.script = losing(TITLES[1])
    _shown, result = await read(create_sot_graph(server.model(), closing=True, on_error="keep"))
    assert result["answer"] == "\n\n".join([TEXTS[0], *TEXTS[2:], ENDING])
    (request,) = server.of_stage("closing")
    assert TITLES[1] not in request.prompt
    assert all(text in request.prompt for text in (TEXTS[0], *TEXTS[2:]))


async def test_whoever_leaves_pays_for_no_ending(server: FakeOpenAI) -> None:
    server.script = lambda request: replace(usual(request), per_token=0.05 if request.title else 0)
    graph = create_sot_graph(server.model(), closing=True)
    chunks = astream_answer(graph, QUESTION)
    await anext(chunks)
    await chunks.aclose()
    stream = graph.stream(QUESTION, stream_mode="custom")
    await asyncio.to_thread(lambda: next(event for event in stream if event["type"] == "answer"))
    await asyncio.to_thread(stream.close)  # type: ignore[attr-defined]  # a generator
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)
    assert not server.of_stage("closing")


# --- threads -------------------------------------------------------------------------------------


async def stopped_in_the_ending(server: FakeOpenAI, graph: Any, script: Script = usual) -> None:
    """Run a thread that dies while its ending is written, after the first words."""
    server.script = ending(Reply("These words are lost.", per_token=LATE), script)
    task = asyncio.create_task(graph.ainvoke(QUESTION, THREAD))
    await asyncio.to_thread(wait_until, lambda: bool(server.of_stage("closing")))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)
    server.script = usual
    server.requests.clear()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"lead": True, "headings": True}, {"merge": lambda points: f"{len(points)} points."}],
    ids=" ".join,
)
async def test_a_thread_that_died_in_its_call_resumes_there(
    server: FakeOpenAI, read: Read, options: Any, *, streamed: bool
) -> None:
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver(), **options)
    await stopped_in_the_ending(server, graph)
    _shown, result = await read(graph, None, THREAD, streamed=streamed)
    assert [request.stage for request in server.requests] == ["closing"]
    undisturbed = await create_sot_graph(server.model(), closing=True, **options).ainvoke(QUESTION)
    assert result["answer"] == undisturbed["answer"]
    assert figures(result)["stages"]["expand"]["calls"] == 4


async def test_failed_points_are_written_before_it_when_a_thread_resumes(server: FakeOpenAI, read: Read) -> None:
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver(), on_error="keep", lead=True)
    await stopped_in_the_ending(server, graph, losing(TITLES[1]))
    _shown, result = await read(graph, None, THREAD)
    assert [(request.stage, request.title) for request in server.requests] == [("expand", TITLES[1]), ("closing", "")]
    assert result["answer"] == f"A direct answer.\n\n{POINTS}\n\n{ENDING}"


@pytest.mark.parametrize("on_error", ["raise", "keep"])
async def test_points_that_are_written_later_get_a_new_one(server: FakeOpenAI, read: Read, on_error: Any) -> None:
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver(), on_error=on_error)
    server.script = ending(Reply("The old ending."), losing(TITLES[1]))
    if on_error == "keep":
        _shown, kept = await read(graph, config=THREAD)
        assert kept["answer"].endswith("The old ending.")
    else:
        with pytest.raises(ExpansionError):
            await read(graph, config=THREAD)
        kept = {}
    server.script = usual
    server.requests.clear()
    _shown, mended = await read(graph, Command(goto="merge") if kept else None, THREAD)
    assert [request.stage for request in server.requests] == ["expand", "closing"]
    assert mended["answer"] == f"{POINTS}\n\n{ENDING}"
    assert POINTS in server.requests[-1].prompt
    assert "The old ending." not in server.requests[-1].prompt
    assert [message.type for message in mended["messages"]] == ["human", "ai"]
    assert figures(mended)["stages"]["closing"]["calls"] == 1 + bool(kept), "both were paid for"
    assert not kept or mended["messages"][-1].id == kept["messages"][-1].id
    assert (await read(graph, Command(goto="merge"), THREAD, streamed=False))[1] == mended, "it is whole"
    assert len(server.requests) == 2


async def test_resumed_in_a_later_ending_the_message_keeps_its_id(server: FakeOpenAI, form: str) -> None:
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver(), on_error="keep")
    server.script = losing(TITLES[1])
    kept = await graph.ainvoke(QUESTION, THREAD)
    server.script = ending(Reply(status=500, first_token=LATE))
    task = asyncio.create_task(graph.ainvoke(Command(goto="merge"), THREAD))
    await asyncio.to_thread(wait_until, lambda: len(server.of_stage("closing")) == 2)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.script = usual
    if form == "sync":
        parts: Any = await asyncio.to_thread(lambda: list(graph.stream(None, THREAD, stream_mode="messages")))
    else:
        parts = [part async for part in graph.astream(None, THREAD, stream_mode="messages")]
    assert {message.id for message, _metadata in parts} == {kept["messages"][-1].id}
    assert "".join(message.text for message, _metadata in parts) == f"{POINTS}\n\n{ENDING}"


@pytest.mark.parametrize("streamed", [False, True])
async def test_mended_too_early_the_answer_has_it(server: FakeOpenAI, read: Read, *, streamed: bool) -> None:
    """Somebody sends for the merge of a thread whose ending is still to be written."""
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver())
    await stopped_in_the_ending(server, graph)
    _shown, result = await read(graph, Command(goto="merge"), THREAD, streamed=streamed)
    assert result["answer"] == f"{POINTS}\n\n{ENDING}"
    assert [request.stage for request in server.requests] == ["closing"], "and it is paid for once"
    assert [message.type for message in result["messages"]] == ["human", "ai"]


async def test_the_next_turn_has_nothing_of_the_last_one(server: FakeOpenAI, read: Read) -> None:
    graph = create_sot_graph(server.model(), closing=True, checkpointer=InMemorySaver())
    _shown, first = await read(graph, config=THREAD)
    server.script = ending(Reply(status=401))
    _shown, second = await read(graph, {"messages": [HumanMessage("And naps?")]}, THREAD)
    assert second["answer"] == POINTS
    server.script = ending(Reply("Sleep well."))
    _shown, third = await read(graph, {"messages": [HumanMessage("And dreams?")]}, THREAD)
    assert ending_of(third) == "Sleep well."
    assert server.of_stage("closing")[-1].prompt.count(first["answer"]) == 1, "as conversation"
    server.script = lambda request: Reply(outline_json([])) if request.stage == "skeleton" else usual(request)
    _shown, last = await read(graph, {"messages": [HumanMessage("2 + 2?")]}, THREAD)
    assert last["answer"] == "A direct answer."
    assert graph.get_state(THREAD).values["ending"] is None


async def test_a_graph_without_it_goes_on_with_the_thread(server: FakeOpenAI, read: Read) -> None:
    """And the other way round: options may change while threads are stored."""
    saver = InMemorySaver()
    plain, closed = (create_sot_graph(server.model(), closing=each, checkpointer=saver) for each in (False, True))
    await read(closed, config=THREAD)
    _shown, result = await read(plain, {"messages": [HumanMessage("And naps?")]}, THREAD)
    assert result["answer"] == POINTS
    server.script = losing(TITLES[1])
    with pytest.raises(ExpansionError):
        await read(plain, {"messages": [HumanMessage("And dreams?")]}, THREAD)
    server.script = usual
    _shown, result = await read(closed, None, THREAD)
    assert result["answer"] == f"{POINTS}\n\n{ENDING}"


# --- caches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_from_the_cache_it_costs_nothing(server: FakeOpenAI, read: Read, *, streamed: bool) -> None:
    cached: Any = {"cache": InMemoryCache(), "cache_policy": CachePolicy()}
    graph = create_sot_graph(server.model(), closing=True, lead=True, **cached)
    first, again = [(await read(graph, streamed=streamed))[1] for _ in range(2)]
    assert len(server.requests) == 7
    assert again["answer"] == first["answer"]
    assert figures(again)["calls"] == 0
    _shown, other = await read(graph, {**QUESTION, "outline": TITLES[:2]})
    assert other["answer"] == "\n\n".join([*TEXTS[:2], ENDING])
    assert len(server.of_stage("closing")) == 2, "other points have another ending"


async def test_what_is_written_without_a_failed_point_is_not_cached(server: FakeOpenAI, read: Read) -> None:
    cached: Any = {"cache": InMemoryCache(), "cache_policy": CachePolicy(), "on_error": "keep"}
    graph = create_sot_graph(server.model(), closing=True, **cached)
    for _ in range(2):
        server.script = losing(TITLES[1])
        _shown, result = await read(graph)
        assert result["answer"] == "\n\n".join([TEXTS[0], *TEXTS[2:], ENDING])
    assert len(server.of_stage("closing")) == 2
    server.script = usual
    _shown, result = await read(graph)
    assert result["answer"] == f"{POINTS}\n\n{ENDING}"


async def shows_before_it(server: FakeOpenAI, graph: Any, given: Any, text: str) -> bool:
    """Whether this text is shown, and nothing else, before the ending is written."""
    server.script = ending(Reply(f"{FIRST} {SECOND}", first_token=0.5))
    shown = ""
    async for chunk in astream_answer(graph, given, THREAD):
        shown += chunk
        if shown == text:
            return not any(request.ended for request in server.of_stage("closing"))
    return False


async def test_points_from_the_cache_are_shown_before_it_is_written(server: FakeOpenAI) -> None:
    cached: Any = {"cache": InMemoryCache(), "cache_policy": CachePolicy()}
    await create_sot_graph(server.model(), **cached).ainvoke(QUESTION)
    graph = create_sot_graph(server.model(), closing=True, **cached)
    assert await shows_before_it(server, graph, QUESTION, POINTS)


async def test_a_thread_that_resumes_shows_all_else_before_it_is_written(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), closing=True, lead=True, checkpointer=InMemorySaver())
    await stopped_in_the_ending(server, graph)
    assert await shows_before_it(server, graph, None, f"A direct answer.\n\n{POINTS}")


# --- in agents, and offline ----------------------------------------------------------------------


async def test_the_middleware_has_it(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED)
    middleware = SkeletonOfThoughtMiddleware(create_sot_graph(server.model(), closing=True))
    message = (await run(create_agent(server.model(), middleware=[middleware]), ASKED))["messages"][-1]
    assert message.text == f"{POINTS}\n\n{ENDING}"
    assert {stage: each["calls"] for stage, each in message.response_metadata["sot"]["stages"].items()} == {
        "agent": 1,
        "expand": 4,
        "closing": 1,
    }


async def test_the_tool_has_it(server: FakeOpenAI) -> None:
    tool = create_sot_tool(create_sot_graph(server.model(), closing=True))
    assert await tool.ainvoke({"question": "Why sleep?"}) == f"{POINTS}\n\n{ENDING}"
    assert await asyncio.to_thread(tool.invoke, {"question": "Why sleep?"}) == f"{POINTS}\n\n{ENDING}"


async def test_the_demo_says_what_its_ending_is(run: Run) -> None:
    graph = create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0), closing=True)
    answer = (await run(graph, QUESTION))["answer"]
    assert answer.endswith("\n\nThis is demo text: a real model would end here, with a sentence or two.")
