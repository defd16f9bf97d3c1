"""Clean the text of a reply while it is streamed: echoes of the title, repetition after a retry."""

import re
from collections.abc import Callable

RETRY_WINDOW = 60  # characters that decide whether a retry repeats text that readers already have
TITLE_WINDOW = 40  # characters beyond the title's length that decide whether a reply begins with the title
LIST_WINDOW = 400  # characters that decide whether a number in front begins a list

# Parts of verbose patterns. Opening parts are optional; a closing part matches only what was opened.
_START, _UNMARK = r"(?P<hash> \#{1,6} [ \t]++ )? (?P<mark> \*\*|__|\*|_ )?", r"(?(mark) (?P=mark) )"
_INNER, _UNINNER = r"(?P<inner> \*\*|__|\*|_ )?", r"(?(inner) (?P=inner) )"
_QUOTE, _UNQUOTE = r"(?P<quote> [\"'“‘«] )?", r"(?(quote) [\"'”’»] )"  # noqa: RUF001 - as models write
_WORD = r"(?P<word> (?:point|step|part|section) \s++ )?"
_DASH = r"[^\S\n]+ [-–—] (?=\s)"  # noqa: RUF001 - as models write
_STOP = rf"(?: [.:)]{{1,2}} (?=[\s*_]) | [、．：] | (?(word) (?: {_DASH} | [^\S\n]*\n ) | (?!) ) )"  # noqa: RUF001 - as models write
_FLAGS = re.IGNORECASE | re.VERBOSE
_NUMBERED = re.compile(rf"[#*_(\[\s]*+ {_WORD} (?P<digits> \d++ ) (?P<stop> [)\]]?[*_]*[.:)、．：] )?", _FLAGS)  # noqa: RUF001 - as models write
# What follows an echoed title. A dash or a space may also follow a title that begins a sentence.
_PAUSE = rf"[^\S\n]* (?: :(?=\s|$) | ： | \n | $ ) | \.(?=\s|$) | (?P<dash> {_DASH} ) | (?P<space> \s )"  # noqa: RUF001 - as models write
_END = rf"(?P<stop> [.:] (?=[*_]*(?:\s|$)) )? {_UNINNER} {_UNMARK} (?(stop) (?=\s|$) | (?: {_PAUSE} ) ) \s*"


class ReplyText:
    """The text of a reply without an echo in front and without white space around it.

    Text that was shown never changes: after a retry, the new reply continues the text `shown` by the failed attempt.
    `echo` measures an echo in front of the reply; it is called like `echo_length`, with its last two arguments.
    """

    def __init__(self, shown: str = "", echo: Callable[[str, bool], int | None] | None = None) -> None:
        self.text = shown
        self._echo = echo or (lambda _text, _whole: 0)
        self._buffer = ""
        self._is_front = True

    def feed(self, chunk: str) -> str:
        """Add a chunk of the reply and return the text that can be shown now."""
        self._buffer += chunk
        return self._flush(whole=False)

    def finish(self) -> str:
        """End the reply and return the rest of its text."""
        return self._flush(whole=True)

    def _flush(self, *, whole: bool) -> str:
        if self._is_front:
            text = self._clean_front(self._buffer, whole=whole)
            if not text:
                return ""
            self._buffer, self._is_front = text, False
        new = self._buffer.rstrip()
        self._buffer = self._buffer[len(new) :]  # shown only if more text follows
        self.text += new
        return new

    def _clean_front(self, text: str, *, whole: bool) -> str:
        """The new text in a reply that has just begun; empty while more of it is needed to decide."""
        bare = text.lstrip()
        length = self._echo(bare, whole)
        if length is None:
            return ""
        text = bare[length:].lstrip() if length or not self.text else text
        return _continuation(self.text, text, whole=whole) if self.text else text


def encodable(text: str) -> str:
    """Replace lone surrogates, which cannot be sent."""
    return re.sub(r"[\ud800-\udfff]", "\ufffd", text)


def storable(text: str) -> str:
    """Replace lone surrogates and null characters, which JSON columns reject."""
    return encodable(text).replace("\x00", "\ufffd")


def _continuation(shown: str, text: str, *, whole: bool) -> str:
    """What a retry adds to the text that readers already have; empty while more of it is needed to decide."""
    bare = text.strip()
    if shown.casefold().startswith(bare.casefold()) or (len(bare) < RETRY_WINDOW and not whole):
        return ""
    if bare.casefold().startswith(shown.casefold()):
        return text.lstrip()[len(shown) :]
    tail = shown[-RETRY_WINDOW - 1 :]
    ends = (tail[space.end() :] for space in re.finditer(r"\s", tail))
    if repeated := next((len(end) for end in ends if bare.startswith(end) and len(end.split()) > 1), 0):
        return text.lstrip()[repeated:]
    # The reply continues where the text ends. Models often leave out the space in between.
    return f" {text}" if text[0].isalnum() and not shown[-1].isspace() else text


def echo_length(index: int, title: str, text: str, whole: bool) -> int | None:  # noqa: FBT001 - as ReplyText calls it
    """The length of an echo in front of a point's text, such as "Point 6: Title -", "6." or "**Title**".

    A title that begins a sentence is no echo, nor is a number that begins a list. `text` is the reply so far, without
    white space in front, and `whole` says whether it is complete. Returns None while more text is needed to decide.
    """
    number = _NUMBERED.match(text)
    is_own = number is not None and number["digits"] == str(index)
    if number and not is_own and not title[:1].isdigit() and number.end() < len(text):
        return 0  # "20-minute naps", "7 to 9 hours"
    start = " ".join(text[: len(title) + 1].split()).casefold()
    words = (" ".join(title.split()).casefold(), "point", "step", "part", "section")
    if text[:1].isalpha() and not any(word.startswith(start) or start.startswith(word) for word in words):
        return 0
    # Only these characters count, so that chunks of any size give the same text.
    window = LIST_WINDOW if number and is_own and number["stop"] else len(title) + TITLE_WINDOW
    if len(text) < window and not whole:
        return None
    front = text[:window]
    end = _title_end(front, index, title) or _number_end(front, index)
    following = rf"(?:^|\s) [*_\#(\[]* {_WORD} (?: {index} | (?P<next> {index + 1} ) ) {_STOP}"
    other = re.search(following, front[end:], _FLAGS) if is_own else None
    return 0 if other and other["next"] else end  # the next number, and not the same one again, continues a list


def _title_end(text: str, index: int, title: str) -> int:
    """Where an echoed title ends, with the number before it and the pause after it; 0 if there is none."""
    words = r"\s+".join(map(re.escape, title.split()))
    pattern = rf"""{_START}
        (?P<number> (?P<bold>\*\*)? {_WORD} [(\[]? {index} (?![^\W_])
            (?: [])]? [.:)、．：]{{0,2}} (?(bold) \*\*[.:]? ) | (?(bold) \*\* ) {_DASH} ) \s*+ )?
        {_INNER} {_QUOTE} {words} {_UNQUOTE} {_END}"""  # noqa: RUF001 - as models write
    echo = re.match(pattern, text, _FLAGS)
    if not echo or not words:
        return 0
    is_marked, next_char = echo["mark"] or echo["inner"], text[echo.end() : echo.end() + 1]
    if echo["dash"]:  # but "Time blocking - you may know it - is a technique."
        is_echo = is_marked or echo["number"] or echo["hash"] or not next_char.islower()
    else:
        is_echo = not echo["space"] or (is_marked and next_char.isupper())
    return echo.end() if is_echo else 0


def _number_end(text: str, index: int) -> int:
    """Where an echo of the point's number ends; 0 if there is none."""
    pattern = rf"{_START} {_WORD} \(? {index} (?: {_STOP} {_UNMARK} | {_UNMARK} {_STOP} ) \s*"
    echo = re.match(pattern, text, _FLAGS)
    is_heading = echo and echo["hash"] and "\n" not in echo[0]  # of the text, as in "## 6. Noise"
    return echo.end() if echo and not is_heading else 0
