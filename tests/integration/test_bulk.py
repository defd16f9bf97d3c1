"""Many questions: results as they are ready, one limit for all calls, and a server's "too many" slows all of them."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import RetryPolicy
from pydantic import SecretStr

from sot_graph import abatch_answers, batch_answers, create_sot_graph
from sot_graph.throttle import Throttle
from tests.fake_openai import FakeOpenAI, Reply, Request, usual
from tests.integration.conftest import parent_of
from tests.processes import wait_until

Batch = Callable[..., Awaitable[list[dict[str, Any]]]]
QUESTIONS = [f"How do bees of kind {number} find home?" for number in range(12)]
QUICK = RetryPolicy(initial_interval=0.01, jitter=False)
OUTLINE = ["Wings", "Scents"]


async def _batch_async(graph: Any, questions: Any, **options: Any) -> list[dict[str, Any]]:
    return [result async for result in abatch_answers(graph, questions, **options)]


async def _batch_sync(graph: Any, questions: Any, **options: Any) -> list[dict[str, Any]]:
    return await asyncio.to_thread(lambda: list(batch_answers(graph, questions, **options)))


@pytest.fixture(params=[_batch_async, _batch_sync], ids=["async", "sync"])
def batch(request: pytest.FixtureRequest) -> Batch:
    form: Batch = request.param
    return form


def question_of(request: Request) -> str:
    return next(str(m["content"]) for m in request.messages if m["role"] == "user")


async def test_each_question_has_one_result(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda request: Reply(usual(request).text, first_token=0.2)
    results = await batch(create_sot_graph(server.model()), QUESTIONS, concurrency=7)
    assert sorted(result["id"] for result in results) == [*range(1, 13)]
    assert sorted(result["question"] for result in results) == sorted(QUESTIONS)
    assert {len(result["points"]) for result in results} == {4}
    assert {result["error"] for result in results} == {None}
    assert all(result["answer"].startswith("About regular sleep hours") for result in results)
    assert all(result["usage"]["total_tokens"] > 50 and result["seconds"] > 0 for result in results)
    assert server.most_in_flight == 7, "the limit holds over all questions, and is used"
    json.dumps(results)


async def test_columns_ids_outlines_and_conversations(server: FakeOpenAI, batch: Batch) -> None:
    turns = [("user", "Tea?"), ("assistant", "Yes."), ("user", "Why?")]
    rows: list[dict[str, Any]] = [
        {"id": "a", "question": QUESTIONS[0], "outline": OUTLINE, "kind": "bees", "answer": "the reference"},
        {"id": 7, "messages": [{"role": role, "content": text} for role, text in turns]},
    ]
    found = {result["id"]: result for result in await batch(create_sot_graph(server.model()), rows)}
    assert found["a"]["kind"] == "bees"
    assert found["a"]["input_answer"] == "the reference"
    assert [point["title"] for point in found["a"]["points"]] == OUTLINE
    assert found[7]["question"] is None
    assert len(found[7]["messages"]) == 3
    assert sum("Tea?" in request.prompt for request in server.requests) == 5


async def test_a_bad_row_and_a_question_that_fails_do_not_end_the_others(server: FakeOpenAI, batch: Batch) -> None:
    def script(request: Request) -> Reply:
        return Reply(status=400, message="no") if "kind 3" in request.prompt else usual(request)

    server.script = script
    rows: list[Any] = [*QUESTIONS[:5], {"kind": "no question"}, 7, " "]
    results = await batch(create_sot_graph(server.model()), rows, concurrency=3)
    errors = {result["id"]: result["error"] for result in results if result["error"]}
    assert sorted(errors) == [4, 6, 7, 8]
    assert "400" in errors[4]
    assert "'kind'" in errors[6]
    assert {result["answer"] for result in results if result["error"]} == {None}


async def test_a_failed_point_is_in_the_error(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda request: Reply(status=400) if request.title == "Wings" else usual(request)
    row = {"question": QUESTIONS[0], "outline": OUTLINE}
    (kept,) = await batch(create_sot_graph(server.model(), on_error="keep"), [row])
    (raised,) = await batch(create_sot_graph(server.model()), [row])
    assert kept["answer"] == "About scents there is this to say."
    assert kept["error"].startswith("1 of 2 points could not be written: 1 ('Wings'): ")
    assert raised["answer"] is None
    assert [point["status"] for point in raised["points"]] == ["failed", "written"], "what was paid for is not lost"


async def test_keys_do_not_get_into_errors(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda _: Reply(status=401, message="no key like sk-test-key")
    (result,) = await batch(create_sot_graph(server.model()), ["Why?"])
    assert "sk-test" not in result["error"]


async def test_questions_are_read_as_they_are_needed(server: FakeOpenAI, batch: Batch) -> None:
    read: list[int] = []
    ahead: list[int] = []

    def questions() -> Iterator[str]:
        for number, question in enumerate(QUESTIONS):
            read.append(number)
            ahead.append(len(read) - len({question_of(each) for each in server.of_stage("expand")}))
            yield question

    await batch(create_sot_graph(server.model()), questions(), concurrency=2)
    assert len(read) == len(QUESTIONS)
    assert max(ahead) <= 5, "two are being answered, one is read ahead"


async def test_an_async_source_may_be_slow(server: FakeOpenAI) -> None:
    answered = asyncio.Event()

    async def questions() -> AsyncIterator[str]:
        yield QUESTIONS[0]
        await answered.wait()  # a result does not wait for the next question
        yield QUESTIONS[1]

    async for result in abatch_answers(create_sot_graph(server.model()), questions()):
        assert result["id"] == 1 + answered.is_set()
        answered.set()


async def test_a_source_that_fails_does_so_after_what_was_paid_for(server: FakeOpenAI, batch: Batch) -> None:
    def questions() -> Iterator[str]:
        yield from QUESTIONS[:3]
        msg = "the file is torn"
        raise OSError(msg)

    got: list[Any] = []
    with pytest.raises(OSError, match="torn"):
        await _into(got, create_sot_graph(server.model()), questions(), batch is _batch_sync)
    assert sorted(result["id"] for result in got) == [1, 2, 3]


async def _into(got: list[Any], graph: Any, questions: Any, is_sync: bool) -> None:  # noqa: FBT001 - a helper
    if is_sync:
        await asyncio.to_thread(lambda: got.extend(batch_answers(graph, questions)))
        return
    async for result in abatch_answers(graph, questions):
        got += [result]


async def test_leaving_the_loop_cancels_what_is_running(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply("x", first_token=0 if "kind 0" in request.prompt else 60)
    results = abatch_answers(create_sot_graph(server.model(), route=lambda _: False), QUESTIONS, concurrency=4)
    async for _result in results:
        break
    await results.aclose()
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)
    assert len(server.requests) <= 5


@pytest.mark.parametrize("status", [429, 529])
async def test_one_refusal_holds_all_calls_back(server: FakeOpenAI, batch: Batch, status: int) -> None:
    refused = threading.Event()

    def script(request: Request) -> Reply:
        if not refused.is_set() and "kind 5" in request.prompt:
            refused.set()
            return Reply(status=status, message="too many", headers={"retry-after": "1"})
        return usual(request)

    server.script = script
    results = await batch(create_sot_graph(server.model()), QUESTIONS, concurrency=2)
    assert {result["error"] for result in results} == {None}
    began = sorted(request.began for request in server.requests)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert max(gaps) > 0.9, "nobody sent anything for as long as the server asked"


async def test_refusals_do_not_count_as_attempts(server: FakeOpenAI, batch: Batch) -> None:
    """The server takes two at a time; ten would fail after three attempts each."""
    refusals = Counter[str]()

    def script(request: Request) -> Reply:
        if server.in_flight > 2:
            refusals[request.title] += 1
            return Reply(status=429, message="too many", headers={"retry-after-ms": "60"})
        return Reply(usual(request).text, first_token=0.02)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=RetryPolicy(max_attempts=1))
    results = await batch(graph, QUESTIONS, concurrency=10)
    assert {result["error"] for result in results} == {None}
    assert refusals.total() > 5
    assert refusals.total() < len(server.requests) / 2, "fewer run at once after a refusal"


async def test_a_quota_that_is_used_up_is_no_reason_to_wait(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda _: Reply(status=429, code="insufficient_quota", message="no money")
    results = await batch(create_sot_graph(server.model()), QUESTIONS[:3])
    assert len(server.requests) == 3
    assert all("no money" in result["error"] for result in results)


async def test_a_refusal_that_asks_for_hours_fails(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda _: Reply(status=429, message="tomorrow", headers={"retry-after": "7200"})
    (result,) = await batch(create_sot_graph(server.model()), QUESTIONS[:1])
    assert "tomorrow" in result["error"]


async def test_requests_per_minute(server: FakeOpenAI, batch: Batch) -> None:
    rows = [{"question": question, "outline": OUTLINE} for question in QUESTIONS]
    await batch(create_sot_graph(server.model()), rows, requests_per_minute=1_200, concurrency=24)
    began = sorted(request.began for request in server.requests)
    assert began[-1] - began[0] > 0.8 * (len(began) - 1) / 20, "24 requests at 20 a second"


async def test_tokens_per_minute(server: FakeOpenAI, batch: Batch) -> None:
    """Each call has some 17 tokens: 24 of them are about 400, of which a sixth of a minute's may be spent at once."""
    rows = [{"question": question, "outline": OUTLINE} for question in QUESTIONS]
    results = await batch(create_sot_graph(server.model()), rows, tokens_per_minute=12_000, concurrency=2)
    spent = sum(result["usage"]["total_tokens"] for result in results)
    began = sorted(request.began for request in server.requests)
    slow = await batch(create_sot_graph(server.model()), rows[:4], tokens_per_minute=600, concurrency=1)
    later = sorted(request.began for request in server.requests)[len(began) :]
    used = sum(result["usage"]["total_tokens"] for result in slow)
    assert spent > 300
    assert later[-1] - later[0] > 0.5 * (used - 100) / 10, "10 tokens a second, after a burst of 100"


async def test_a_graph_around_the_graph_shares_the_limit(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda request: Reply(usual(request).text, first_token=0.2)
    rows = [{"messages": [{"role": "user", "content": question}]} for question in QUESTIONS[:6]]
    results = await batch(parent_of(create_sot_graph(server.model())), rows, concurrency=3)
    assert {result["error"] for result in results} == {None}
    assert all(result["answer"].startswith("About regular sleep hours") for result in results)
    assert server.most_in_flight == 3


async def test_with_a_checkpointer_nothing_is_paid_twice(server: FakeOpenAI, batch: Batch) -> None:
    fails = threading.Event()
    fails.set()

    def script(request: Request) -> Reply:
        is_hit = fails.is_set() and request.title == "Wings" and "kind 1 " in request.prompt
        return Reply(status=400) if is_hit else usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    rows = [{"id": question[16:18], "question": question, "outline": OUTLINE} for question in QUESTIONS[:4]]
    first = await batch(graph, rows)
    assert sum(result["error"] is not None for result in first) == 1
    fails.clear()
    server.requests.clear()
    second = await batch(graph, rows)
    assert {result["error"] for result in second} == {None}
    assert server.titles() == ["Wings"], "the one point that had failed"
    changed = [{**row, "question": f"{row['question']} And why?"} for row in rows]
    assert len(await batch(graph, changed)) == 4
    assert len(server.requests) == 1 + 8, "another question under the same id is another thread"


async def test_the_first_questions_come_first(server: FakeOpenAI) -> None:
    """Points of a question that was begun go before the outlines of later ones, so that answers are done early."""
    server.script = lambda request: Reply(usual(request).text, first_token=0.01)
    got = [result["id"] async for result in abatch_answers(create_sot_graph(server.model()), QUESTIONS, concurrency=4)]
    assert sum(got[:4]) <= 1 + 2 + 3 + 4 + 4


async def test_misuse_is_refused_at_once(server: FakeOpenAI) -> None:
    graph: Any = create_sot_graph(server.model())
    for form in (abatch_answers, batch_answers):
        with pytest.raises(TypeError, match="questions must be several"):
            form(graph, "How do bees fly?")
        with pytest.raises(TypeError, match="graph must be"):
            form(server.model(), ["Why?"])
        with pytest.raises(ValueError, match="concurrency must be a whole number of at least 1"):
            form(graph, ["Why?"], concurrency=0)
        with pytest.raises(TypeError, match="requests_per_minute must be a number above 0"):
            form(graph, ["Why?"], requests_per_minute="60")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="tokens_per_minute must be a number above 0"):
            form(graph, ["Why?"], tokens_per_minute=0)
        with pytest.raises(ValueError, match="requests_per_minute must be a number above 0"):
            form(graph, ["Why?"], requests_per_minute=float("nan"))


async def test_runs_carry_the_callers_config_and_the_id(server: FakeOpenAI, batch: Batch) -> None:
    seen: list[tuple[str, list[str]]] = []

    class Seen(BaseCallbackHandler):
        def on_chat_model_start(self, *_args: Any, metadata: Any = None, tags: Any = None, **_kwargs: Any) -> None:
            seen.append((metadata["question_id"], tags))

    rows = [{"id": "tea", "question": "Why?", "outline": OUTLINE}]
    await batch(create_sot_graph(server.model()), rows, config={"callbacks": [Seen()], "tags": ["evals"]})
    assert {ident for ident, _tags in seen} == {"tea"}
    assert all("evals" in tags for _ident, tags in seen)


async def test_a_kept_answer_without_a_point_is_asked_again_in_whole(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda request: Reply(status=400) if request.title == "Wings" else usual(request)
    graph = create_sot_graph(server.model(), on_error="keep", checkpointer=InMemorySaver())
    row = {"question": QUESTIONS[0], "outline": OUTLINE}
    (first,) = await batch(graph, [row])
    server.script = usual
    (second,) = await batch(graph, [row])
    assert first["error"]
    assert second["error"] is None
    assert server.titles().count("Scents") == 2
    assert all("there is this to say" not in request.prompt for request in server.requests), "a fresh thread"


async def test_a_parent_with_a_checkpointer_is_not_asked_again(server: FakeOpenAI, batch: Batch) -> None:
    graph = parent_of(create_sot_graph(server.model()), checkpointer=InMemorySaver())
    rows = [{"messages": [{"role": "user", "content": question}]} for question in QUESTIONS[:2]]
    first, second = await batch(graph, rows), await batch(graph, rows)
    assert len(server.requests) == 2 * 5
    assert sorted(each["answer"] for each in first) == sorted(each["answer"] for each in second)


async def test_leaving_batch_answers_starts_no_call_any_more(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply(usual(request).text, first_token=0.0 if "kind 0" in request.prompt else 0.5)

    def leave() -> None:
        for _result in batch_answers(create_sot_graph(server.model()), QUESTIONS, concurrency=6):
            break

    await asyncio.to_thread(leave)
    assert server.in_flight == 0, "what ran has ended by itself"
    assert {request.stage for request in server.requests if "kind 0" not in request.prompt} == {"skeleton"}


async def test_leaving_during_a_hold_does_not_wait_for_it(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        is_first = "kind 0" in request.prompt
        return usual(request) if is_first else Reply(status=429, headers={"retry-after": "600"})

    server.script = script
    row = {"question": QUESTIONS[0], "outline": ["Wings"]}

    def leave() -> None:
        for _result in batch_answers(create_sot_graph(server.model()), [row, *QUESTIONS[1:]], concurrency=2):
            break

    await asyncio.wait_for(asyncio.to_thread(leave), 60)


async def test_a_server_that_is_away_for_a_moment_is_waited_for(batch: Batch) -> None:
    """Once it has replied: a wrong address fails at once."""
    wrong = create_sot_graph(ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key=SecretStr("k")))
    (result,) = await batch(wrong, QUESTIONS[:1])
    assert "Connection" in result["error"]
    throttle = Throttle(4)
    error = ConnectionRefusedError()
    assert not throttle.note(0.0, None, error)
    throttle.note(0.0, None, None)
    assert throttle.note(0.0, None, error)


async def test_a_request_that_is_too_large_fails_in_the_end(server: FakeOpenAI, batch: Batch) -> None:
    """OpenAI refuses it with a 429, too, however often it is sent."""

    def script(request: Request) -> Reply:
        if "kind 3" in request.prompt:
            return Reply(status=429, message="Request too large", headers={"retry-after-ms": "1"})
        return usual(request)

    server.script = script
    results = await batch(create_sot_graph(server.model(), retry_policy=QUICK), QUESTIONS[:5], concurrency=2)
    failed = [result for result in results if result["error"]]
    assert [result["id"] for result in failed] == [4]
    assert sum("kind 3" in request.prompt for request in server.requests) == 20 + 3


async def test_what_a_failed_question_has_cost_is_known(server: FakeOpenAI, batch: Batch) -> None:
    server.script = lambda request: Reply(status=400) if request.title == "Wings" else usual(request)
    (result,) = await batch(create_sot_graph(server.model()), [{"question": "Why?", "outline": OUTLINE}])
    assert result["answer"] is None
    assert result["usage"]["total_tokens"] == 10 + 7


async def test_a_route_of_ones_own_is_no_call(server: FakeOpenAI, batch: Batch) -> None:
    rows = [{"question": question} for question in QUESTIONS]
    await batch(create_sot_graph(server.model(), route=lambda _: False), rows, requests_per_minute=1_200)
    began = sorted(request.began for request in server.requests)
    assert len(began) == 12
    assert began[-1] - began[0] < 2 * 12 / 20 + 1, "12 requests at 20 a second, not 24"


async def test_a_graph_with_a_review_is_refused(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="review=True waits for a person"):
        abatch_answers(graph, ["Why?"])


async def test_an_async_source_is_closed_when_the_results_are_left(server: FakeOpenAI) -> None:
    closed = asyncio.Event()

    async def questions() -> AsyncIterator[str]:
        try:
            for question in QUESTIONS:
                yield question
        finally:
            closed.set()

    results = abatch_answers(create_sot_graph(server.model()), questions(), concurrency=2)
    async for _result in results:
        break
    await results.aclose()
    assert closed.is_set()
