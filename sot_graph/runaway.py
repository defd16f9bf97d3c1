"""Notices that a model repeats itself without end.

A loop is a piece of up to 500 characters, again and again at the end of the text; its numbers may count. Text that only
repeats something is none (a refrain, a matrix, a rule of a table, a numbered form), so a loop has a least length.
"""

import re
from collections.abc import Sequence
from itertools import cycle

LONGEST = 500  # characters of a piece
TIMES, COUNTED_TIMES = 6, 8  # how often a piece is repeated at least; if its numbers count
WORDS, COUNTED, SIGNS = 600, 1_200, 2_000  # characters of a loop at least; if its numbers count; without letters
STEP = 97  # a prime, so that a short piece does not end at the same place of it each time
KEY, TRIES = 30, 20  # characters at the end that are looked for before it; places that are looked at
WINDOW = 6_000  # more than the longest loop that is needed

_NUMBER = re.compile(r"\d{1,15}")
_UNIT = re.compile(r"\d{1,15}|\D")
_END = re.compile(r"[.!?。！？][\"')”]?\s*|\n")  # noqa: RUF001 - as models write


class Runaway:
    """Looks at a text while it grows, in chunks of any size; the time it takes grows with the text's length."""

    def __init__(self) -> None:
        self.is_found = False
        self._text, self._seen = "", 0

    def feed(self, chunk: str) -> int:
        """Add a chunk; returns how many characters to cut off the end, to keep one of the loop's pieces at most."""
        self._text += chunk
        while len(self._text) - self._seen >= STEP:
            self._seen += STEP
            if surplus := _surplus(self._text[max(0, self._seen - WINDOW) : self._seen]):
                self.is_found = True
                return surplus + len(self._text) - self._seen
        if self._seen > 2 * WINDOW:
            self._text, self._seen = self._text[self._seen - WINDOW :], WINDOW
        return 0


def _surplus(text: str) -> int:
    """How many characters at the end of a text are repeated ones of a loop; 0 without a loop."""
    numbers, plain = _NUMBER.findall(text), _NUMBER.sub("0", text)
    key, end = plain[-KEY:], len(plain) - 1
    for _ in range(TRIES if len(plain) >= WORDS else 0):
        at = plain.rfind(key, max(0, len(plain) - KEY - LONGEST), end)
        if at < 0:
            return 0
        period, end = len(plain) - KEY - at, at + KEY - 1
        if length := _length(plain, numbers, period):
            start = len(plain) - length
            while start and plain[start - 1] == plain[start - 1 + period]:
                start -= 1
            # After a sentence or a line, if the piece has one.
            kept = max((each.end() for each in _END.finditer(plain, start, start + period + 3)), default=start + period)
            return sum(map(len, _UNIT.findall(text)[kept:]))
    return 0


def _length(plain: str, numbers: Sequence[str], period: int) -> int:
    """The least length of a loop with this period, if the text ends with as much; 0 if it does not."""
    has_letters, each = any(map(str.isalpha, plain[-period:])), plain[-period:].count("0")
    shortest = max(WORDS if has_letters else SIGNS, TIMES * period)
    counted = max(COUNTED, COUNTED_TIMES * period)
    for length in (shortest, *([counted] if has_letters and each else [])):
        if length > len(plain) or plain[-length:-period] != plain[period - length :]:
            break
        last = numbers[len(numbers) - each * (length // period) :]
        if last[: len(last) - each] == last[each:] or (length == counted and _count(last, each)):
            return length
    return 0


def _count(numbers: Sequence[str], each: int) -> bool:
    """Whether numbers, so many in each piece, stay the same or grow, all that grow by the same step."""
    steps = [int(after) - int(before) for before, after in zip(numbers[:each], numbers[each : 2 * each], strict=True)]
    every = zip(numbers, numbers[each:], cycle(steps), strict=False)
    return len({*steps} - {0}) == 1 and all(int(after) - int(before) == step for before, after, step in every)
