"""The short texts of an answer, its opening and its ending: where they end, and that it can do without them."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from langgraph.errors import GraphBubbleUp

from sot_graph.calls import Call
from sot_graph.redaction import describe
from sot_graph.run import TextWriter

logger = logging.getLogger(__name__)

MOST, LONGEST = 2, 1_000
"""Sentences of such a text, and characters if no sentence ends."""
SHORTEST = 20
"""Characters of a sentence: less is a greeting, a title or an abbreviation."""
_SENTENCE_END = re.compile(
    r"""
    (?: (?<!\b[A-Z]) (?<!\b[A-Z][a-z]) (?<!\b[A-Z][a-z]{2}) (?P<stop> [.!?…]++ ["'”’»)\]*_]*+ ) (?=\s)
      | (?P<full> [。！？｡।॥؟۔։။።]++ ["'”’」』）)\]*_]*+ )
      | (?=\s*\n) )
    \s*+ (?P<next> \S )
    """,  # noqa: RUF001 - as models write
    re.VERBOSE,
)
"""The end of a sentence or of a line, once there is more: a model that stops there ends its reply itself."""
_LISTED = re.compile(r"[-*+•#>|\d]")


class Sentences:
    """Finds where it ends: after two sentences, before a list, or after the next sentence once that is due."""

    def __init__(self, is_due: Callable[[], bool] = lambda: False) -> None:
        self._is_due, self._found = is_due, 0

    def __call__(self, text: str) -> int | None:
        """Where the text so far ends; None if it goes on."""
        (ends, is_listed), before = _ends(text), self._found
        self._found = len(ends)
        if is_listed or len(ends) >= MOST or (len(ends) > before and self._is_due()):
            return ends[:MOST][-1]
        return LONGEST if len(text) > LONGEST else None


@contextmanager
def dispensable(what: str, call: Call, writer: TextWriter) -> Iterator[None]:
    """Around a call without whose text an answer is an answer: if it fails, what subscribers have received stays."""
    try:
        yield
    except GraphBubbleUp:
        raise
    except Exception as error:  # noqa: BLE001 - the log says it
        logger.warning("The %s failed: %s", what, describe(error, call.secrets))
        writer.drop()
    writer.end()


def _ends(text: str) -> tuple[list[int], bool]:
    """Where the sentences end, and whether a list follows the last one."""
    ends: list[int] = []
    for found in _SENTENCE_END.finditer(text):
        end = max(found.start(), found.end("stop"), found.end("full"))
        if end and "\n" in found[0] and _LISTED.match(found["next"]):
            return [*ends, end], True
        is_long = found["full"] or end - max(ends, default=0) >= SHORTEST
        if is_long and not found["next"].islower():
            ends.append(end)
    return ends, False
