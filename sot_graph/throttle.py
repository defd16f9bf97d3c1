"""The limit that the calls of many questions share: how many at once, how many a minute, and a server's "too many"."""

import logging
import threading
import time
from collections import deque

from langchain_core.messages.ai import UsageMetadata
from langchain_core.rate_limiters import InMemoryRateLimiter

from sot_graph.concurrency import ConcurrencyLimit
from sot_graph.retry import is_rate_limit, is_unreachable, retry_after

logger = logging.getLogger(__name__)

LONGEST_HOLD = 900.0
"""Seconds that a server may ask all calls to wait; a call that would have to wait longer has failed."""
PATIENCE = 1800.0
"""Seconds of refusals without any reply after which refused calls fail."""
FIRST_HOLD, MOST_HOLD = 1.0, 60.0
"""Seconds that all calls wait if the server does not say how long; doubled each time that it refuses again."""
BURST = 1 / 6
"""Of a minute's tokens, what may be spent at once."""
TICK = 0.05
"""Seconds after which LangChain's rate limiter is asked again."""


class Throttle(ConcurrencyLimit):
    """A concurrency limit that knows time.

    If the server refuses a call because there are too many, all calls wait as long as it asks, and then half as many
    run at once; each reply allows a little more again. All wait, too, if a server that has replied before cannot be
    reached. Neither counts as an attempt of the call.

    Args:
        limit: How many calls run at once, at most.
        requests_per_minute: How many start in a minute, at most.
        tokens_per_minute: How many tokens they take in a minute. What a call will take is not known when it starts; it
            is taken for the average of those before.
    """

    def __init__(
        self, limit: int, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        super().__init__(limit)
        self._most = float(limit)
        self._until = self._reduced = self._refused = 0.0  # since the epoch; the first refusal since the last reply
        self._hold = FIRST_HOLD
        rate = (requests_per_minute or 0) / 60
        # The bucket has what comes between two looks at it; otherwise a fast rate would not be reached.
        self._requests = rate and InMemoryRateLimiter(requests_per_second=rate, max_bucket_size=max(1, 2 * TICK * rate))
        self._rate = (tokens_per_minute or 0) / 60
        self._burst = self._rate * 60 * BURST
        self._budget, self._refilled = self._burst, time.time()
        self._reserved = deque[float]()  # of the budget, for the calls that run
        self._replies, self._spent = 0, 0
        self._timer: threading.Timer | None = None

    def note(self, sent: float, usage: UsageMetadata | None, error: Exception | None) -> bool:
        """An attempt has ended; returns whether it was refused because of too many others, and these wait now, too."""
        tokens = usage["total_tokens"] if usage else 0
        with self._lock:
            self._budget -= tokens
            self._spent += tokens
            if error is not None:
                is_away = self._replies > 0 and is_unreachable(error)
                return (is_away or is_rate_limit(error)) and self._hold_back(sent, retry_after(error))
            self._replies, self._refused, self._hold = self._replies + 1, 0.0, FIRST_HOLD
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._grant()
            return False

    def _hold_back(self, sent: float, asked: float | None) -> bool:
        now, pause = time.time(), asked or self._hold
        self._refused = self._refused or now
        if pause > LONGEST_HOLD or now - self._refused > PATIENCE:
            return False
        self._until = max(self._until, now + pause)
        if sent >= self._reduced:  # the refusals of calls that were sent before are the same one
            self._reduced, self._limit = now, max(1.0, self._limit / 2)
            self._hold = min(MOST_HOLD, 2 * self._hold)
            logger.warning("The server refuses calls: all wait %.0f s, then %d run at once.", pause, self._limit)
        return True

    def _take(self) -> bool:
        now = time.time()
        self._refill(now)
        # What a call takes is not known before the first one has ended.
        is_first = self._rate and not self._replies
        if self._busy + 1 > (1 if is_first else self._limit):
            return False
        expected = self._spent / self._replies if self._replies else 0.0
        missing = min(expected, self._burst) - self._budget
        closed = max(self._until - now, missing / self._rate if self._rate else 0.0)
        if closed <= 0 and self._requests and not self._requests.acquire(blocking=False):
            closed = TICK
        if closed > 0:
            self._later(closed)
            return False
        self._reserved.append(expected)
        self._budget -= expected
        return super()._take()

    def _give_back(self) -> None:
        super()._give_back()
        self._budget += self._reserved.popleft()

    def _refill(self, now: float) -> None:
        self._budget = min(self._burst, self._budget + self._rate * (now - self._refilled))
        self._refilled = now

    def _later(self, seconds: float) -> None:
        """Grant slots later, if nothing does it before."""
        if self._timer is None:
            timer = threading.Timer(max(seconds, TICK), self._tick)
            timer.daemon = True
            timer.start()
            self._timer = timer

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            self._grant()
