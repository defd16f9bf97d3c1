"""What sot_graph raises by itself.

The tree::

    SotError
    ├── ReplyError        one model call gave nothing that can be used
    └── ExpansionError    points of an answer could not be written

Misuse is a plain `ValueError` or `TypeError`. An error of the model's own client (a refused key, an
unknown model) is never wrapped when the skeleton or the direct answer meets it; when a point meets it,
the point says so in its `error`.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sot_graph.state import Point


class SotError(Exception):
    """The base of every error that sot_graph raises by itself."""


class ReplyError(SotError):
    """A model call ended without a reply that can be used.

    Attributes:
        is_retryable: Whether the same request may do better: true for an empty reply and for a stream
            that broke off, false for a refusal.
    """

    def __init__(self, message: str, *, is_retryable: bool) -> None:
        super().__init__(message)
        self.is_retryable = is_retryable

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would leave the keyword out.
        return partial(type(self), is_retryable=self.is_retryable), self.args


class ExpansionError(SotError):
    """Points of an answer could not be written, after all retries.

    Raised when any point failed with `on_error="raise"`, and in both modes when all of them did.

    Attributes:
        failed: The points that failed, in order, each with its `error`.
        written: The points that were written (or truncated), in order: nothing that was paid for is lost.
    """

    def __init__(self, failed: Sequence["Point"], written: Sequence["Point"]) -> None:
        self.failed = list(failed)
        self.written = list(written)
        names = "; ".join(f"{p['index']} ({p['title']!r}): {p['error']}" for p in self.failed)
        message = (
            f"{len(self.failed)} of {len(self.failed) + len(self.written)} points could not be written: "
            f"{names}. The written ones are in `.written`. With a checkpointer, `invoke(None, config)` on "
            "the same thread asks for the failed points only"
        )
        if self.written:
            message += "; with on_error='keep' the answer is made of the written points"
        super().__init__(message + ".")

    def __reduce__(self) -> tuple[type["ExpansionError"], tuple[list["Point"], list["Point"]]]:
        # The default would pickle the message alone, which is not what __init__ takes.
        return type(self), (self.failed, self.written)
