"""The limit that the calls of many questions share: how many at once, how many a minute, and a server's "too many"."""

import threading
import time
from contextlib import suppress

from langchain_core.rate_limiters import InMemoryRateLimiter

from sot_graph.concurrency import ConcurrencyLimit
from sot_graph.retry import is_rate_limit, retry_after

LONGEST_HOLD = 900.0
"""Seconds that a server may ask all calls to wait; after a longer wait, a later run goes on."""
PATIENCE = 1800.0
"""Seconds without any reply after which refused calls fail."""
FIRST_HOLD, MOST_HOLD = 1.0, 60.0
"""Seconds that all calls wait if the server does not say how long; doubled each time that it refuses again."""
BURST = 1 / 6
"""Of a minute's tokens, what may be spent at once."""
UNKNOWN = 500
"""Tokens of a call, as long as none has ended."""
TICK = 0.05
"""Seconds after which LangChain's rate limiter is asked again."""


class Throttle(ConcurrencyLimit):
    """A concurrency limit that knows time.

    If the server refuses a call because there are too many, all calls wait as long as it asks, and then half as many
    run at once; each reply allows a little more again. Such a refusal does not count as an attempt of the call.

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
        self._until = self._reduced = self._replied = 0.0  # since the epoch
        self._hold = FIRST_HOLD
        rate = (requests_per_minute or 0) / 60
        # The bucket has what comes between two looks at it; otherwise a fast rate would not be reached.
        self._requests = rate and InMemoryRateLimiter(requests_per_second=rate, max_bucket_size=max(1, 2 * TICK * rate))
        self._rate = (tokens_per_minute or 0) / 60
        self._budget, self._refilled = self._rate * 60 * BURST, time.time()
        self._calls, self._spent = 0, 0
        self._timer: threading.Timer | None = None

    def note(self, sent: float, tokens: int, error: Exception | None = None) -> bool:
        """An attempt has ended; returns whether it was refused because of too many others, and these wait now, too."""
        with self._lock:
            self._budget += self._expected - tokens
            self._calls, self._spent = self._calls + bool(tokens), self._spent + tokens
            if error is not None:
                return is_rate_limit(error) and self._hold_back(sent, retry_after(error))
            self._replied, self._hold = time.time(), FIRST_HOLD
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._grant()
            return False

    def _hold_back(self, sent: float, asked: float | None) -> bool:
        now, pause = time.time(), asked or self._hold
        if pause > LONGEST_HOLD or now - self._replied > PATIENCE:
            return False
        self._until = max(self._until, now + pause)
        if sent >= self._reduced:  # the refusals of calls that were sent before are the same one
            self._reduced, self._limit = now, max(1.0, self._limit / 2)
            self._hold = min(MOST_HOLD, 2 * self._hold)
        return True

    @property
    def _expected(self) -> float:
        """The tokens of a call."""
        return self._spent / self._calls if self._calls else UNKNOWN

    def _take(self) -> bool:
        now = time.time()
        self._replied = self._replied or now
        self._refill(now)
        if self._busy + 1 > self._limit:
            return False
        closed = max(self._until - now, -self._budget / self._rate if self._rate else 0.0)
        if closed <= 0 and self._requests and not self._requests.acquire(blocking=False):
            closed = TICK
        if closed > 0:
            self._later(closed)
            return False
        self._budget -= self._expected
        return super()._take()

    def _refill(self, now: float) -> None:
        self._budget = min(self._rate * 60 * BURST, self._budget + self._rate * (now - self._refilled))
        self._refilled = now

    def _later(self, seconds: float) -> None:
        """Grant slots later, if nothing does it before."""
        if self._timer is None:
            self._timer = threading.Timer(max(seconds, TICK), self._tick)
            self._timer.daemon = True
            with suppress(RuntimeError):  # the interpreter ends
                self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            self._grant()
