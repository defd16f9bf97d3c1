"""The limit of many questions: what it grants, what it holds back, and its budget of tokens."""

import time
from concurrent.futures import Future
from typing import Any

import pytest
from langchain_core.messages.ai import UsageMetadata

from sot_graph import throttle as module
from sot_graph.throttle import Throttle


class RefusedError(Exception):
    """A server's "too many"."""

    status_code = 429

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.headers = {} if seconds is None else {"retry-after-ms": str(seconds * 1_000)}


def usage(tokens: int) -> UsageMetadata:
    return UsageMetadata(input_tokens=0, output_tokens=tokens, total_tokens=tokens)


def acquire(throttle: Throttle, count: int) -> list[Future[None]]:
    return [throttle.acquire((0, number)) for number in range(count)]


def granted(futures: list[Future[None]]) -> int:
    return sum(future.done() for future in futures)


def test_a_refusal_halves_what_runs_at_once_and_replies_allow_more_again() -> None:
    throttle = Throttle(8)
    futures = acquire(throttle, 8)
    assert granted(futures) == 8
    sent = time.time()
    assert [throttle.note(sent, None, RefusedError(0.05)) for _ in futures] == [True] * 8
    for _ in futures:
        throttle.release()
    waiting = acquire(throttle, 8)
    assert granted(waiting) == 0, "all wait"
    waiting[0].result(5)
    time.sleep(0.05)
    assert granted(waiting) == 4, "eight refusals of one burst are one"
    for _ in range(40):
        throttle.note(time.time(), None, None)
    assert granted(waiting) == 8


def test_without_a_time_the_hold_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    monkeypatch.setattr(module.logger, "warning", lambda _text, seconds, _limit: told.append(seconds))
    throttle = Throttle(64)
    for number in range(8):
        throttle.note(time.time() + number, None, RefusedError())
    assert told == [1, 2, 4, 8, 16, 32, 60, 60]


def test_refusals_without_any_reply_fail_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("sot_graph.throttle.time.time", lambda: now)
    throttle = Throttle(4)
    assert throttle.note(now, None, RefusedError(1))
    now += module.PATIENCE + 1
    assert not throttle.note(now, None, RefusedError(1))
    throttle.note(now, None, None)
    now += module.PATIENCE + 1
    assert throttle.note(now, None, RefusedError(1)), "a long time without calls is none of refusals"
    assert not throttle.note(now, None, RefusedError(module.LONGEST_HOLD + 1))


def test_the_budget_is_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever calls were expected to take, and however they end."""
    now = 1_000_000.0
    monkeypatch.setattr("sot_graph.throttle.time.time", lambda: now)
    throttle = Throttle(100, tokens_per_minute=60_000)
    first, *more = acquire(throttle, 30)
    assert (first.done(), granted(more)) == (True, 0), "the first call tells what a call takes"
    throttle.note(now, usage(2_000), None)
    throttle.release()
    assert granted(more) == 4, "a burst of 10,000, less what is spent"
    for future in more[5:]:
        future.cancel()
    for tokens in (1_000, 3_000, 0, 500):
        throttle.note(now, usage(tokens), None)
        throttle.release()
    budget: Any = vars(throttle)["_budget"]
    reserved = sum(vars(throttle)["_reserved"])
    assert budget + reserved == pytest.approx(10_000 - 2_000 - 4_500)


def test_a_closed_throttle_grants_nothing() -> None:
    throttle = Throttle(1)
    running, *waiting = acquire(throttle, 3)
    throttle.close()
    throttle.release()
    assert running.done()
    assert all(future.cancelled() for future in [*waiting, *acquire(throttle, 1)])
