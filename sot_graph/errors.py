"""The exceptions of sot_graph.

The tree::

    SotError
    ├── ReplyError        a model call returned nothing that can be used
    └── ExpansionError    points of an answer could not be written

Misuse is a `ValueError` or a `TypeError`. An error of the model's client (a refused key, an unknown model) is raised as
it is when the outline or the direct answer fails; when a point fails, it is in the point's `error`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sot_graph.state import Point


class SotError(Exception):
    """The base class of the exceptions of sot_graph."""


class ReplyError(SotError):
    """A model call ended without a reply that can be used.

    Attributes:
        is_retryable: Whether a retry may help: not after a refusal.
    """

    def __init__(self, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.is_retryable = is_retryable


def failures(points: Sequence["Point"]) -> str:
    """Which points failed and why, each error once."""
    names: dict[str | None, list[str]] = {}
    for point in points:
        names.setdefault(point["error"], []).append(f"{point['index']} ({point['title']!r})")
    return "; ".join(f"{', '.join(failed)}: {str(error).rstrip('.')}" for error, failed in names.items())


class ExpansionError(SotError):
    """Points of an answer could not be written, after all retries.

    Raised when a point failed with `on_error="raise"`, and in both modes when all points failed. Its cause is an
    `ExceptionGroup` of the exceptions, in the process in which they were raised.

    Attributes:
        failed: The points that failed, in order, each with its `error`.
        written: The points that were written or truncated, in order.
    """

    def __init__(self, failed: Sequence["Point"], written: Sequence["Point"]) -> None:
        self.failed, self.written = list(failed), list(written)
        super().__init__(
            f"{len(self.failed)} of {len(self.failed) + len(self.written)} points could not be written: "
            f"{failures(self.failed)}. The "
            "written points are in `.written`. With a checkpointer, `invoke(None, config)` on the same thread writes "
            "only the failed points"
            + ("; with on_error='keep' the answer consists of the written points." if self.written else ".")
        )

    def __reduce__(self) -> tuple[type["ExpansionError"], tuple[list["Point"], list["Point"]]]:
        return type(self), (self.failed, self.written)  # the default is the message alone
