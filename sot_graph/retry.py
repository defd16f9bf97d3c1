"""Which errors a retry may mend, and when to retry.

Each client has errors of its own, so they are read by what they carry: a status, a code, headers, in the error itself,
in its response or in the JSON body. A closed list of classes would miss the next client.
"""

import errno
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import JSONDecodeError
from math import isfinite
from typing import Any

from langgraph.types import RetryPolicy
from pydantic import ValidationError

TRANSIENT_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
TOO_MANY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, 529})
LONGEST_PAUSE = 60.0
"""Seconds that a server may ask to wait; a call that would have to wait longer has failed."""
OUT_OF_QUOTA = "insufficient_quota"
"""OpenAI's code for a 429 that no pause mends."""

_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
"""What clients raise over no choices, an error object with status 200, a web page."""
_ABOUT_REPLY = re.compile(r"response|generation|chunk|choices|output|\w_error\b", re.IGNORECASE)
"""What a bare ValueError says that is not one of the caller's own."""
_LOST = frozenset({errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPIPE, errno.ENETDOWN})
_AWAY = frozenset({"ConnectError", "ConnectTimeout", "gaierror", "ClientConnectorError"})
_INSIDE = ("response", "body", "details", "error", "Error", "ResponseMetadata")
_MOST_SOURCES = 20
_STATUS = ("status_code", "status", "code", "http_status", "HTTPStatusCode", "type", "Code")
_HEADERS = ("headers", "HTTPHeaders")
_MAY_PASS = re.compile(
    r"time.?out|timed.?out|deadline|connect|network|transport|protocol|peer|unavailable|overload|capacity|busy|throttl"
    r"|rate.?limit|too.?many|exhausted|aborted|not.?ready|incomplete.?read|payload|internal|server.?error|api_error"
    r"|stream(?:ing)?.?error|chunked|decoding|model.?error|data.?loss",
    re.IGNORECASE,
)
"""Words of codes and of the names of exceptions."""
_TOO_MANY = re.compile(r"throttl|rate.?limit|too.?many.?requests|exhausted|overloaded", re.IGNORECASE)
_STAYS = re.compile(
    r"invalid|authent|permission|denied|not.?found|context.?length|quota|billing|policy|filter|support|argument",
    re.IGNORECASE,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed on a retry.

    True for 408, 429 and 5xx, timeouts, refused and dropped connections, corrupt or unfinished streams and empty
    replies. False for everything else, such as 400, 401, 403, 404 and 422, and if the server asks to wait for more than
    a minute or says that the account has no quota left.
    """
    codes = _codes(error)
    if (retry_after(error) or 0) > LONGEST_PAUSE or OUT_OF_QUOTA in codes:
        return False
    status, may_pass = http_status(error), any(map(_MAY_PASS.search, codes))
    if status is not None and (status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR):
        return True
    retryable = getattr(error, "is_retryable", None)  # langchain-core's ModelError, and our ReplyError
    if isinstance(retryable, bool) or status is not None:
        return bool(retryable) or (status is not None and may_pass)  # Bedrock throttles with a 400, too
    if may_pass or isinstance(error, ConnectionError | TimeoutError | JSONDecodeError):
        return True
    if any(isinstance(each, OSError) and each.errno in _LOST for each in _causes(error)):
        return True
    names = [cls.__name__ for each in _causes(error) for cls in type(each).__mro__]
    # "APIError" itself is what OpenAI-like clients raise over an error event in a stream.
    is_event = type(error).__name__ == "APIError" and not any(map(_STAYS.search, codes))
    return is_event or any(map(_MAY_PASS.search, names))


def is_rate_limit(error: BaseException) -> bool:
    """Whether a server refuses a request because of too many others (429, Anthropic's 529): fewer may help."""
    if OUT_OF_QUOTA in (codes := _codes(error)):
        return False
    return http_status(error) in TOO_MANY or any(map(_TOO_MANY.search, [*codes, type(error).__name__]))


def is_unreachable(error: BaseException) -> bool:
    """Whether there was no connection to the server: it is down, or the network is."""
    return any(isinstance(each, ConnectionRefusedError) or type(each).__name__ in _AWAY for each in _causes(error))


def _causes(error: BaseException) -> list[BaseException]:
    """The error, and what caused it."""
    chain: list[BaseException] = [error]
    for each in chain:  # it grows
        inside = (each.__cause__, getattr(each, "reason", None))
        chain += [cause for cause in inside if isinstance(cause, BaseException) and len(chain) < _MOST_SOURCES]
    return chain


def has_no_reply(error: BaseException) -> bool:
    """Whether a chat model's client failed to read a reply, which may be whole on a retry: 200 without an answer."""
    if not isinstance(error, _UNREADABLE) or http_status(error) is not None:
        return False
    if isinstance(error, ValidationError):  # its text speaks of invalid values in any case
        return True
    is_message = type(error) is ValueError and isinstance((*error.args, "")[0], str)
    about_reply = not is_message or _ABOUT_REPLY.search(str(error))
    return bool(about_reply) and not any(map(_STAYS.search, [*_codes(error), str(error)[:100]]))


def http_status(error: BaseException) -> int | None:
    """The status of a failed request (400 to 599), if the error has one: by HTTP, or as the code of an error object."""
    numbers = (int(each) for each in _values(error, _STATUS) if re.fullmatch(r"[45]\d\d", str(each)))
    return next(numbers, None)


def words_of(error: BaseException) -> str:
    """What a server says: the error's message, and the JSON body, which some clients leave out of it."""
    return f"{error} {getattr(error, 'body', None) or ''}"


def retries_in(error: BaseException, default: int) -> int:
    """How often the client repeated a failed request by itself, if the error says it (botocore's does)."""
    return next((int(each) for each in _values(error, ("RetryAttempts",)) if isinstance(each, int)), default)


def retry_after(error: BaseException) -> float | None:
    """Seconds that a server asks to wait (`Retry-After`: a number of seconds, or a date), if it does."""
    for headers in _values(error, _HEADERS):
        try:
            milliseconds = str(headers.get("retry-after-ms") or "")
            value = headers.get("retry-after") or headers.get("Retry-After")
            if milliseconds.replace(".", "", 1).isdigit():
                seconds = float(milliseconds) / 1000
            elif value[:1].isalpha():
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            else:
                seconds = float(value)
        except (AttributeError, TypeError, ValueError):
            continue
        if seconds > 0 and isfinite(seconds):
            return seconds
    return None


def _codes(error: BaseException) -> list[str]:
    """The codes of an error that are words, such as "server_error"."""
    return [code for code in _values(error, _STATUS) if isinstance(code, str)]


def _values(error: BaseException, names: Sequence[str]) -> Iterator[Any]:
    """The values under these names: of the error, and of what describes it."""
    sources: list[Any] = [error, *(each for each in error.args if not isinstance(each, str | int)), error.__cause__]
    for source in sources:  # it grows
        inside = [value for name in _INSIDE if (value := _value(source, name)) is not None]
        sources += [each for each in inside if not isinstance(each, str | list) and len(sources) < _MOST_SOURCES]
        for name in names:
            value = _value(source, name)
            if value is not None:
                yield getattr(value, "name", value) if not isinstance(value, int) else int(value)


def _value(source: Any, name: str) -> Any:
    try:
        value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        return value() if callable(value) and name == "code" else value  # gRPC's is a method
    except Exception:  # noqa: BLE001 - a property of somebody else's response
        return None


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


def pause_before_retry(error: Exception, requests: int, policies: Sequence[RetryPolicy]) -> float | None:
    """Seconds to wait before the next attempt; None if there is none. As in LangGraph, the first match counts."""
    policy = next((each for each in policies if _matches(each, error)), None)
    if policy is None or requests >= policy.max_attempts:
        return None
    interval = min(policy.max_interval, policy.initial_interval * policy.backoff_factor ** (requests - 1))
    jitter = random.uniform(0, 1) if policy.jitter else 0.0  # noqa: S311 - no secret
    return max(interval + jitter, min(retry_after(error) or 0.0, LONGEST_PAUSE))


def _matches(policy: RetryPolicy, error: Exception) -> bool:
    kinds = policy.retry_on
    if isinstance(kinds, type | Sequence):
        return isinstance(error, kinds if isinstance(kinds, type) else tuple(kinds))
    return bool(kinds(error))
