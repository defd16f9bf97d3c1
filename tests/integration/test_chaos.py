"""Many runs, a fifth of all replies faulted: each run ends as it should, and leaves nothing behind."""

import asyncio
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, SotInput, create_sot_graph
from sot_graph.outline import read_outline
from tests.fake_openai import FakeOpenAI, Reply, Request, outline_json
from tests.faults import ASKED_PLAINLY, BROKEN_TEXT, CUT_OFF, FAULTS, TRANSIENT, Call, Faults

SEED = 20240314  # of these runs, each form meets each fault, and each end
RUNS, AT_ONCE = 48, 6
FAULTED = 0.2
TITLES = [f"Point {letter}" for letter in "abcdef"]
FAST = RetryPolicy(initial_interval=0.001, jitter=False)


def plan(call: Call, attempt: int) -> str | None:
    """The same fault for the same request, whenever it comes."""
    dice = random.Random(f"{SEED} {call} {attempt}")
    return dice.choice(list(FAULTS)) if dice.random() < FAULTED else None


def script(request: Request) -> Reply:
    if request.stage == "skeleton":
        return Reply(outline_json(TITLES))
    return good_text(request.title)


def good_text(title: str) -> Reply:
    return Reply(f"What there is to say about {title or 'it'}.")


class Foretold:
    """How a run has to end, and how often each of its calls is sent."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.sent: Counter[Call] = Counter()
        self.ends: dict[str, str | None] = {}
        """The fault of the last reply, by the title of what was to be written."""
        self.texts: dict[str, str] = {}
        self.outline: list[str] = []
        transient: Any = {*TRANSIENT, "aborted"}
        fault, reply = self._last("skeleton", "", Reply(outline_json(TITLES)), transient)
        if fault in ASKED_PLAINLY:
            fault, reply = self._last("skeleton", "", Reply(outline_json(TITLES)), transient)
        self.error = FAULTS[fault].says if fault in transient or reply.status != 200 else None
        if self.error is None:
            outline = read_outline(reply.text or "")
            self.outline = outline if len(outline) > 1 else []
            for title in self.outline or [""]:
                stage, transient = "expand" if title else "direct", {**TRANSIENT, **BROKEN_TEXT}
                fault, reply = self._last(stage, title, good_text(title), transient)
                self.ends[title] = fault
                self.texts[title] = (reply.text or "").strip() if fault in {None, *CUT_OFF} else ""
            if not self.outline and not self.texts[""]:
                self.error = FAULTS[self.ends[""] or ""].says

    def _last(self, stage: str, title: str, good: Reply, transient: Any) -> tuple[Any, Reply]:
        """Go through the attempts at one call; gives the last one's fault, and its reply."""
        call = Call(self.question, stage, title)
        for _ in range(3):
            self.sent[call] += 1
            fault = plan(call, self.sent[call])
            if fault not in transient:
                break
        return fault, FAULTS[fault].spoil(good) if fault else good

    @property
    def statuses(self) -> list[str]:
        ends = {None: "written", "cut off": "truncated"}
        return [ends.get(self.ends[title], "failed") for title in self.outline]

    def check(self, outcome: Any, on_error: str) -> str:
        """Compare a run with what was foretold; gives the kind of its end."""
        if self.error:
            assert isinstance(outcome, Exception)
            assert not isinstance(outcome, ExpansionError)
            assert re.search(self.error, str(outcome))
            return "the model's own error"
        failed = [title for title, status in zip(self.outline, self.statuses, strict=True) if status == "failed"]
        if failed and (on_error == "raise" or failed == self.outline):
            assert isinstance(outcome, ExpansionError), outcome
            assert [point["title"] for point in outcome.failed] == failed
            assert [point["title"] for point in outcome.written] == [t for t in self.outline if t not in failed]
            assert all(point["text"] == self.texts[point["title"]] for point in outcome.written)
            return "ExpansionError"
        assert isinstance(outcome, dict), outcome
        assert [(p["title"], p["text"], p["status"]) for p in outcome["points"]] == [
            (title, self.texts[title], status) for title, status in zip(self.outline, self.statuses, strict=True)
        ]
        assert outcome["answer"] == "\n\n".join(text for text in self.texts.values() if text)
        return "direct" if not self.outline else "kept" if failed else "whole"


def left_open() -> set[Any]:
    """Threads, tasks, sockets and files: what a run may leave behind."""
    files = set()
    for number in os.listdir("/dev/fd"):  # noqa: PTH208 - its entries are no paths to be kept
        with suppress(OSError):  # the listing itself was one of them
            files.add(os.readlink(f"/dev/fd/{number}"))  # noqa: PTH115 - a socket's target is no path
    # The event loop has a pool of threads of its own, which it fills by and by, up to a limit, and keeps.
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    return files | threads | asyncio.all_tasks()


async def until(condition: Callable[[], bool]) -> bool:
    """Wait for what the server's thread, and threads that end, have still to do."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - other threads do it
                await asyncio.sleep(0.02)
    return condition()


async def chaos(server: FakeOpenAI, form: str, runs: range, faults: Faults) -> dict[int, Any]:
    """Make runs, several at once, every second one with `on_error="keep"`; gives what each returned or raised."""
    model = faults.model(server, timeout=2.0)
    loop, turn = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as pool:

        async def one(number: int) -> Any:
            # A graph of its own: a graph remembers a server that refused a schema.
            mode: Any = ("raise", "keep")[number % 2]
            graph = create_sot_graph(model, retry_policy=FAST, on_error=mode)
            given: SotInput = {"question": f"Question {number}?"}
            if form == "sync":
                return await loop.run_in_executor(pool, lambda: graph.invoke(given))
            async with turn:
                return await graph.ainvoke(given)

        outcomes = await asyncio.gather(*map(one, runs), return_exceptions=True)
    return dict(zip(runs, outcomes, strict=True))


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_whatever_fails_each_run_ends_as_it_should_and_leaves_nothing_behind(
    server: FakeOpenAI, form: str
) -> None:
    runs = range(RUNS) if form == "sync" else range(RUNS, 2 * RUNS)
    outcomes: dict[int, Any] = {}
    before: set[Any] = set()
    for these in (range(-AT_ONCE, 0), runs):  # the first ones warm up
        faults = Faults()
        before = left_open() if these is runs else before
        faults.begin(server, plan, script)
        outcomes = await chaos(server, form, these, faults)
        sent = faults.sent
        await faults.close()
        assert await until(lambda: server.in_flight == 0)
    assert await until(lambda: left_open() <= before), left_open() - before

    foretold = {number: Foretold(f"Question {number}?") for number in runs}
    ends = Counter(foretold[n].check(outcome, ("raise", "keep")[n % 2]) for n, outcome in outcomes.items())
    assert sent == sum((each.sent for each in foretold.values()), Counter()), "no more requests, and no fewer"
    assert max(sent.values()) == 3
    assert ends.keys() == {"whole", "kept", "direct", "ExpansionError", "the model's own error"}, ends
