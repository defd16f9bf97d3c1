"""Which errors a retry may mend, and when to retry."""

import random
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import JSONDecodeError
from math import isfinite

from langgraph.types import RetryPolicy

from sot_graph.errors import ReplyError

TRANSIENT_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
LONGEST_PAUSE = 60.0
"""Seconds that a server may ask to wait; a call that would have to wait longer has failed."""
OUT_OF_QUOTA = "insufficient_quota"
"""OpenAI's code for a 429 that no pause mends."""
# By name, because the classes are those of HTTP and provider packages that may not be installed: the base class of
# httpx's errors (and httpx2's), and OpenAI's for an error event or a lost connection within a stream.
TRANSIENT_NAMES = frozenset({"TransportError", "APIConnectionError", "APIError"})


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed on a retry.

    True for 408, 429 and 5xx, timeouts, refused and dropped connections, corrupt or unfinished streams and empty
    replies. False for everything else, such as 400, 401, 403, 404 and 422, and if the server asks to wait for more than
    a minute or says that the account has no quota left.
    """
    if (retry_after(error) or 0) > LONGEST_PAUSE or getattr(error, "code", None) == OUT_OF_QUOTA:
        return False
    retryable = getattr(error, "is_retryable", None)  # langchain-core's ModelError, and our ReplyError
    if retryable is not None:
        return bool(retryable)
    status = http_status(error)
    if status is not None:
        return status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, ConnectionError | TimeoutError | JSONDecodeError):
        return True
    return any(cls.__name__ in TRANSIENT_NAMES for cls in type(error).__mro__)


def named(error: Exception) -> Exception:
    """The same error; a `ReplyError` for the bare ValueError that langchain-core raises over an empty stream."""
    if isinstance(error, ValueError) and "No generation" in str(error):
        return ReplyError("The model's stream ended without a single token.", is_retryable=True)
    return error


def http_status(error: BaseException) -> int | None:
    """The HTTP status of a failed request, if the error has one."""
    statuses = (getattr(source, "status_code", None) for source in (error, getattr(error, "response", None)))
    return next((each for each in statuses if isinstance(each, int) and each >= HTTPStatus.BAD_REQUEST), None)


def retry_after(error: BaseException) -> float | None:
    """Seconds that a server asks to wait (`Retry-After`: a number of seconds, or a date), if it does."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after") or ""
        if milliseconds:
            seconds = float(milliseconds) / 1000
        elif value[:1].isalpha():
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        else:
            seconds = float(value)
    except (AttributeError, TypeError, ValueError):
        return None
    return seconds if seconds > 0 and isfinite(seconds) else None


DEFAULT_RETRY = RetryPolicy(max_interval=8.0, retry_on=is_transient)
"""Three attempts; the first pause takes 0.5 to 1.5 seconds, the second one 1 to 2."""


def retry_policies(policy: RetryPolicy | Sequence[RetryPolicy] | None) -> list[RetryPolicy]:
    """Check a caller's retry policy.

    LangGraph's default for `retry_on` repeats a request that was refused with a 400 or a 401; a policy with that
    default gets `is_transient`.
    """
    policies = [policy] if isinstance(policy, RetryPolicy) else [DEFAULT_RETRY] if policy is None else policy
    if not isinstance(policies, Sequence) or not all(isinstance(each, RetryPolicy) for each in policies):
        msg = f"retry_policy must be a langgraph RetryPolicy or a sequence of them, not {policy!r}."
        raise TypeError(msg)
    for each in policies:
        if not (isinstance(each.retry_on, type | Sequence) or callable(each.retry_on)):
            msg = f"retry_on must be an exception class, a sequence of them or a function, not {each.retry_on!r}."
            raise TypeError(msg)
    default = RetryPolicy().retry_on
    return [each._replace(retry_on=is_transient) if each.retry_on is default else each for each in policies]


def pause_before_retry(error: Exception, attempts: int, policies: Sequence[RetryPolicy]) -> float | None:
    """Seconds to wait before the next attempt; None if there is none. As in LangGraph, the first match counts."""
    policy = next((each for each in policies if _matches(each, error)), None)
    if policy is None or attempts >= policy.max_attempts:
        return None
    interval = min(policy.max_interval, policy.initial_interval * policy.backoff_factor ** (attempts - 1))
    jitter = random.uniform(0, 1) if policy.jitter else 0.0  # noqa: S311 - no secret
    return max(interval + jitter, min(retry_after(error) or 0.0, LONGEST_PAUSE))


def _matches(policy: RetryPolicy, error: Exception) -> bool:
    kinds = policy.retry_on
    if isinstance(kinds, type | Sequence):
        return isinstance(error, kinds if isinstance(kinds, type) else tuple(kinds))
    return bool(kinds(error))
