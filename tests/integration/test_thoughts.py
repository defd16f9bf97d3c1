"""Thoughts in what a real client receives never reach a reader: not in points, openings, direct answers or outlines."""

from typing import Any

import pytest
from langgraph.types import RetryPolicy

from sot_graph import create_sot_graph
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import Run

QUESTION: Any = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.001, jitter=False)
FORMS = {
    "tags": "<think>A secret, 1. One\n2. Two</think>\n{}",
    "closing tag alone": "A secret, so to say.\n</think>\n\n{}",
    "two thoughts": "<think>A secret.</think><think>More secrets.</think>{}",
    "another name": "<reasoning>A secret.</reasoning>{}",
    "capitals": "[THINK]A secret.[/THINK]{}",
    "channels": "<|channel|>analysis<|message|>A secret.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>{}<|return|>",
    "trailing token": "{}<|im_end|>\n<|im_start|>user\nA secret?",
}
STAGES = {"lead": "the opening", "direct": "a direct answer", "expand": "points", "skeleton": "the outline"}


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Any:
    """All that a subscriber of a run receives: its events, its chunks and its answer."""

    async def run(graph: Any, *, streamed: bool) -> tuple[list[Any], dict[str, Any]]:
        modes = ["values", "custom", "messages"] if streamed else ["values"]
        if request.param == "sync":
            parts = list(graph.stream(QUESTION, stream_mode=modes))
        else:
            parts = [part async for part in graph.astream(QUESTION, stream_mode=modes)]
        return parts, [part for mode, part in parts if mode == "values"][-1]

    return run


def thinking(form: str, stage: str) -> Any:
    def script(request: Request) -> Reply:
        good = usual(request)
        if stage == "direct" and request.stage == "skeleton":
            return Reply(outline_json([]))
        if request.stage == "skeleton" and stage == "skeleton":
            return Reply(FORMS[form].format("\n".join(f"{i}. {title}" for i, title in enumerate(TITLES, 1))))
        is_it = request.stage == {"lead": "direct"}.get(stage, stage)
        return Reply(FORMS[form].format(good.text)) if is_it else good

    return script


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("form", FORMS)
async def test_no_thought_is_shown(server: FakeOpenAI, read: Any, form: str, stage: str, *, streamed: bool) -> None:
    server.script = thinking(form, stage)
    graph = create_sot_graph(server.model(), retry_policy=FAST, lead=stage == "lead")
    parts, result = await read(graph, streamed=streamed)
    assert "secret" not in str(parts)
    assert "<|" not in result["answer"]
    expected = "A direct answer." if stage == "direct" else f"About {TITLES[0].lower()} there is this to say."
    assert expected in result["answer"]
    if streamed:
        chunks = [event["text"] for mode, event in parts if mode == "custom" and event["type"] == "answer"]
        assert "".join(chunks) == result["answer"]
        messages = [part[0].text for mode, part in parts if mode == "messages"]
        assert "".join(messages) == result["answer"]
    assert [point["title"] for point in result["points"]] == ([] if stage == "direct" else TITLES)


async def test_a_json_outline_after_thoughts_is_read(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        if request.stage != "skeleton":
            return usual(request)
        return Reply(f'<think>{{"points": ["A", "B"]}} or not?</think>{outline_json(TITLES)}')

    server.script = script
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert [point["title"] for point in result["points"]] == TITLES


@pytest.mark.parametrize(
    "cut", ["<think>1. A secret\n2. Another", "[THINK]1. A secret", "<|channel|>analysis<|message|>- A\n- B"]
)
async def test_thoughts_that_were_cut_off_are_no_outline(server: FakeOpenAI, run: Run, cut: str) -> None:
    server.script = lambda request: Reply(cut, finish="length") if request.stage == "skeleton" else usual(request)
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert (result["answer"], result["points"]) == ("A direct answer.", [])


async def test_a_point_of_thoughts_alone_is_written_again(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        is_first = request.title == TITLES[0] and request.attempt == 1
        return Reply("<think>A secret", finish="stop") if is_first else usual(request)

    server.script = script
    result = await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert len(server.requests) == 6


async def test_the_graph_learns_that_a_model_thinks_aloud(server: FakeOpenAI, read: Any) -> None:
    """A live reply of an unknown model shows its first thoughts; in later points and runs none are shown."""

    def script(request: Request) -> Reply:
        good = usual(request)
        is_slow = request.stage == "expand"
        return Reply(f"A secret, word by word.\n</think>\n\n{good.text}", per_token=0.03) if is_slow else good

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST)
    _parts, result = await read(graph, streamed=True)
    assert [("secret" in point["text"]) for point in result["points"]] == [True, False, False, False]
    parts, result = await read(graph, streamed=True)
    assert "secret" not in str(parts)
    assert result["answer"].startswith("About")


async def test_a_thinking_models_name_is_enough(server: FakeOpenAI, read: Any) -> None:
    server.script = lambda request: (
        Reply(f"A secret.\n</think>\n\n{usual(request).text}", per_token=0.03)
        if request.stage == "expand"
        else usual(request)
    )
    model = server.model().model_copy(update={"model_name": "Qwen/Qwen3-4B-Thinking-2507"})
    parts, _result = await read(create_sot_graph(model, retry_policy=FAST), streamed=True)
    assert "secret" not in str(parts)


async def test_the_tokens_of_a_failed_attempt_are_that_attempts(server: FakeOpenAI, read: Any) -> None:
    """Also if they arrived in one burst, and were held back until the connection was lost."""
    first = TITLES[0]
    server.script = lambda request: (
        Reply("One two three", drop_after=2) if (request.title, request.attempt) == (first, 1) else usual(request)
    )
    parts, _result = await read(create_sot_graph(server.model(), retry_policy=FAST), streamed=True)
    tokens = [event for mode, event in parts if mode == "custom" and event["type"] == "token" and event["index"] == 1]
    assert [event["text"] for event in tokens if event["attempt"] == 1] == ["One", " two"]
    assert {event["attempt"] for event in tokens} == {1, 2}
