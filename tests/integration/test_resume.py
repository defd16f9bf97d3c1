"""A thread goes on after a crash, and a kept answer is mended: nothing that was paid for is asked for again."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, RetryPolicy

from sot_graph import create_sot_graph, stream_answer
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, usual
from tests.integration.conftest import THREAD, Run
from tests.integration.killed import QUESTION, answer, answer_outline, invoke
from tests.processes import Forked

FAST = RetryPolicy(initial_interval=0.01, jitter=False)


@pytest.fixture(params=["sqlite", "postgres"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A kind of database and a fresh place in it."""
    if request.param == "sqlite":
        return "sqlite", str(tmp_path / "threads.sqlite")
    uri: str = request.getfixturevalue("database")
    import psycopg  # noqa: PLC0415 - it finds its library in what the server's package brings

    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return "postgres", uri


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_a_killed_process_is_resumed_without_paying_again(
    server: FakeOpenAI, stored: tuple[str, str], form: str, *, nested: bool
) -> None:
    late = TITLES[1:3]
    server.script = lambda request: Reply("Late.", first_token=60) if request.title in late else usual(request)
    with Forked(answer, *stored, server.url, form, nested) as process:
        await until(lambda: len(server.requests) == 5 and server.in_flight == 2)
        await asyncio.sleep(0.5)  # until the process has stored what it got
        process.send(signal.SIGKILL)
    await until(lambda: server.in_flight == 0)
    server.script = usual
    result = await invoke(None, *stored, server.url, form=form, nested=nested)
    assert sorted(request.title for request in server.requests[5:]) == sorted(late)
    undisturbed = await create_sot_graph(server.model()).ainvoke({"question": QUESTION})
    assert result["messages"][-1].text == undisturbed["answer"]
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    if not nested:
        assert result["points"] == undisturbed["points"]


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_a_process_that_is_killed_in_the_second_wave_pays_nothing_twice(
    server: FakeOpenAI, stored: tuple[str, str], form: str
) -> None:
    """The point that is written by another process is shown the texts that it needs."""
    outline = [TITLES[0], TITLES[1], {"title": TITLES[2], "needs": [1, 2]}]
    server.script = lambda request: Reply("Late.", first_token=60) if request.title == TITLES[2] else usual(request)
    with Forked(answer_outline, *stored, server.url, form, outline) as process:
        await until(lambda: len(server.requests) == 3 and server.in_flight == 1)
        await asyncio.sleep(0.5)  # until the process has stored what it got
        process.send(signal.SIGKILL)
    await until(lambda: server.in_flight == 0)
    server.script = usual
    result = await invoke(None, *stored, server.url, form=form, nested=False)
    (again,) = server.requests[3:]
    assert again.title == TITLES[2]
    assert [message["content"] for message in again.messages if message["role"] == "assistant"][1:] == [
        point["text"] for point in result["points"][:2]
    ]


@pytest.mark.parametrize("question", ["What\x00now?", "What \ud83d now?", "What\x00 \udc00 now?"], ids=ascii)
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_any_text_can_be_stored(server: FakeOpenAI, stored: tuple[str, str], form: str, question: str) -> None:
    server.script = lambda request: usual(request) if request.stage == "skeleton" else Reply(f"On {request.title}\x00.")
    result = await invoke({"question": question}, *stored, server.url, form=form, nested=False)
    assert result["messages"][0].text == question.replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd")
    assert result["answer"].startswith(f"On {TITLES[0]}\ufffd.")


@pytest.mark.filterwarnings("error")
async def test_state_is_plain_under_the_strictest_setting(
    server: FakeOpenAI, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
    graph = create_sot_graph(server.model(), checkpointer=saver, review=True, on_error="keep", retry_policy=FAST)
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    await run(graph, {"question": QUESTION}, THREAD)
    await run(graph, Command(resume="shorter"), THREAD)
    result = await run(graph, Command(resume=True), THREAD)
    history = [state.values async for state in graph.aget_state_history(THREAD)]
    assert len(history) > 4
    assert history[0]["points"] == result["points"]
    server.script = usual
    await run(graph, Command(goto="merge"), THREAD)
    assert "unregistered" not in caplog.text
    assert "Blocked" not in caplog.text


# --- mending -------------------------------------------------------------------------------------


async def _kept(server: FakeOpenAI, run: Run, *lost: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A finished answer that has some of its points only."""
    server.script = lambda request: Reply(status=401) if request.title in lost else usual(request)
    graph = create_sot_graph(server.model(), on_error="keep", checkpointer=InMemorySaver(), **options)
    result = await run(graph, {"question": QUESTION}, THREAD)
    server.script = usual
    server.requests.clear()
    return graph, result


async def test_only_the_failed_points_are_written_again(server: FakeOpenAI, run: Run) -> None:
    graph, kept = await _kept(server, run, TITLES[1], TITLES[3])
    mended = await run(graph, Command(goto="merge"), THREAD)
    assert sorted(server.titles()) == sorted([TITLES[1], TITLES[3]])
    assert len(server.requests) == 2
    undisturbed = await run(create_sot_graph(server.model()), {"question": QUESTION})
    assert (mended["answer"], mended["points"]) == (undisturbed["answer"], undisturbed["points"])
    assert [message.type for message in mended["messages"]] == ["human", "ai"]
    assert mended["messages"][-1].id == kept["messages"][-1].id, "the answer's message is replaced"
    assert mended["messages"][-1].text == mended["answer"]
    sot = mended["messages"][-1].response_metadata["sot"]
    assert sot["calls"] == 5 + 2, "the failed attempts of the run before are counted"
    assert [point["attempts"] for point in sot["points"]] == [1, 2, 1, 2]


async def test_a_mended_points_prompt_is_what_it_was(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    graph = create_sot_graph(server.model(), on_error="keep", checkpointer=InMemorySaver())
    await run(graph, {"question": QUESTION}, THREAD)
    server.script = usual
    await run(graph, Command(goto="merge"), THREAD)
    first, again = (request.prompt for request in server.requests if request.title == TITLES[1])
    assert again == first


async def test_what_fails_again_can_be_mended_again(server: FakeOpenAI, run: Run) -> None:
    graph, kept = await _kept(server, run, TITLES[1])
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    again = await run(graph, Command(goto="merge"), THREAD)
    assert again["points"] == kept["points"]
    assert again["answer"] == kept["answer"]
    server.script = usual
    mended = await run(graph, Command(goto="merge"), THREAD)
    assert [point["status"] for point in mended["points"]] == ["written"] * 4
    assert len(mended["messages"]) == 2


async def test_a_whole_answer_stays_as_it_is(server: FakeOpenAI, run: Run) -> None:
    graph, whole = await _kept(server, run)
    assert await run(graph, Command(goto="merge"), THREAD) == whole
    assert server.requests == []


async def test_a_direct_answer_stays_as_it_is(server: FakeOpenAI, run: Run) -> None:
    graph, direct = await _kept(server, run, route=lambda _: False)
    assert await run(graph, Command(goto="merge"), THREAD) == direct
    assert server.requests == []


async def test_a_thread_without_an_answer_has_nothing_to_mend(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="nothing to answer"):
        await run(graph, Command(goto="merge"), THREAD)
    assert server.requests == []
    assert len((await run(graph, {"question": QUESTION}, THREAD))["points"]) == 4


@pytest.mark.parametrize("stage", ["skeleton", "expand", "direct"])
@pytest.mark.parametrize("turns", [0, 1])
async def test_mended_too_early_a_thread_is_not_lost(server: FakeOpenAI, run: Run, stage: str, turns: int) -> None:
    """Somebody mends a thread whose run was stopped; it is finished, with nothing paid for twice."""
    graph = create_sot_graph(
        server.model(), on_error="keep", checkpointer=InMemorySaver(), route=lambda _: stage != "direct"
    )
    if turns:
        server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
        await run(graph, {"question": "Something else?"}, THREAD)
    server.script = lambda request: (
        Reply("Late.", first_token=60)
        if request.stage == stage and request.title in {"", TITLES[2]}
        else usual(request)
    )
    task = asyncio.create_task(graph.ainvoke({"question": QUESTION}, THREAD))
    before = len(server.requests)
    await until(lambda: len(server.requests) == before + (5 if stage == "expand" else 1))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.script = usual
    server.requests.clear()
    result = await run(graph, Command(goto="merge"), THREAD)
    if not result.get("answer"):
        result = await run(graph, None, THREAD)
    assert result["answer"]
    assert [message.type for message in result["messages"]] == ["human", "ai"] * (turns + 1)
    assert [point["status"] for point in result["points"]] == ["written"] * (0 if stage == "direct" else 4)
    assert len(server.requests) == (5 if stage == "skeleton" else 1)


async def test_a_review_that_is_mended_too_early_stays(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver())
    await run(graph, {"question": QUESTION}, THREAD)
    await run(graph, Command(goto="merge"), THREAD)
    result = await run(graph, Command(resume=True), THREAD)
    assert len(result["points"]) == 4


async def test_after_mending_the_thread_continues(server: FakeOpenAI, run: Run) -> None:
    graph, _ = await _kept(server, run, TITLES[1])
    await run(graph, Command(goto="merge"), THREAD)
    result = await run(graph, {"question": "And in summer?"}, THREAD)
    assert [message.type for message in result["messages"]] == ["human", "ai", "human", "ai"]
    assert len({message.id for message in result["messages"]}) == 4


def test_a_mended_answer_is_read_from_its_beginning_as_one_message(server: FakeOpenAI) -> None:
    def lost(request: Request) -> Reply:
        return Reply(status=401) if request.title == TITLES[1] else usual(request)

    server.script = lost
    graph = create_sot_graph(server.model(), on_error="keep", checkpointer=InMemorySaver())
    kept = graph.invoke({"question": QUESTION}, THREAD)
    assert "".join(stream_answer(graph, Command(goto="merge"), THREAD)) == kept["answer"]
    server.script = usual
    stream: Any = graph.stream(Command(goto="merge"), THREAD, stream_mode="messages")
    messages = [message for message, _ in stream]
    mended = graph.get_state(THREAD).values
    assert "".join(message.text for message in messages) == mended["answer"]
    assert {message.id for message in messages} == {kept["messages"][-1].id}
