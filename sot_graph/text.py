"""Clean the text of a reply while it is streamed: echoes of the title, repetition after a retry."""

import re
from collections.abc import Callable
from functools import lru_cache, partial

from sot_graph.markers import names, plain

RETRY_WINDOW = 60  # characters that decide whether a retry repeats text that readers already have
TITLE_WINDOW = 40  # characters beyond the title's length that decide whether a reply begins with the title
LIST_WINDOW = 400  # characters that decide whether a number in front begins a list

# Parts of verbose patterns. Opening parts are optional; a closing part matches only what was opened.
_START, _UNMARK = r"\s* (?P<hash> \#{1,6} [ \t]++ )? (?P<mark> \*\*|__|\*|_ )?", r"(?(mark) (?P=mark) )"
_WORD, _ANY_WORD = r"(?P<word> (?:point|step|part|section) \s++ )?", r"[^\W\d_]{1,20}? \.? \s*+"
_DASH = r"[^\S\n]+ - (?=\s)"
_STOP = rf"(?: [.:)]{{1,2}} (?=[\s*_]) | 、 | (?(word) (?: {_DASH} | [^\S\n]*\n ) | (?!) ) )"
_LABEL = rf"(?: [*_]{{0,2}} {_ANY_WORD} (?: :[*_]{{0,2}} | [*_]{{1,2}}: ) \s*+ )"  # as in "Title: Sleep"
_FLAGS = re.IGNORECASE | re.VERBOSE
_compiled = lru_cache(maxsize=5_000)(partial(re.compile, flags=_FLAGS))  # Python keeps 512; a point's number has five
_NUMBERED = re.compile(rf"[#*_(\[\s]*+ {_WORD} (?P<digits> \d++ ) (?P<stop> [)\]]?[*_]*[.:)、] )?", _FLAGS)
_UNDECIDED = re.compile(rf"[\W_]* (?: {_ANY_WORD} )? \d* [\W_]*", _FLAGS)
# What follows an echoed title. A dash or a space may also follow a title that begins a sentence.
_PAUSE = rf"[^\S\n]* (?: :(?=\s|$) | \n | $ ) | \.(?=\s|$) | (?P<dash> {_DASH} ) | (?P<space> \s )"
_END = rf"(?P<stop> [.:] (?=[*_]*(?:\s|$)) )? (?(inner) (?P=inner) ) {_UNMARK} (?(stop) (?=\s|$) | (?: {_PAUSE} ) ) \s*"


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

    def cut(self, surplus: int) -> None:
        """Cut so many characters off the end of what was fed."""
        kept = (self.text + self._buffer)[:-surplus]
        if len(kept) < len(self.text):
            self.text = kept.rstrip()
        self._buffer = kept[len(self.text) :]

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
    """The length of an echo in front of a point's text, such as "Point 6: Title -", "⑥", "**Title**", "Titel: Title".

    A title that begins a sentence is no echo, nor is a number that begins a list. `text` is the reply so far, without
    white space in front, and `whole` says whether it is complete. Returns None while more text is needed to decide.
    """
    words, (front, _) = " ".join(plain(title)[0].split()), plain(text[:LIST_WINDOW])
    number = _NUMBERED.match(front)
    is_own = number is not None and number["digits"] == str(index)
    if not is_own and not _may_be_title(front, index, words):
        return 0  # "20-minute naps", "Most people"
    window = LIST_WINDOW if number and is_own and number["stop"] else len(title) + TITLE_WINDOW
    if len(text) < window and not whole:
        return None
    front, origin = plain(text[:window])
    end = _title_end(front, index, words) or _number_end(front, index)
    following = rf"(?:^|\s) [*_\#(\[]* {_WORD} (?: {index} | (?P<next> {index + 1} ) ) {_STOP}"
    other = _compiled(following).search(front[end:]) if is_own else None
    if not end or (other and other["next"]):
        return 0  # the next number, and not the same one again, continues a list
    return min(origin[end - 1] + 1, origin[end])


def _number(index: int) -> str:
    """A pattern of what may stand before a title, such as "Point 6:", "第六章 " or "(f)"."""
    return rf"(?: {_ANY_WORD} )? [^\w\s*]? \s? (?: {'|'.join(names(index))} ) [\u3041-\ud7a3]{{0,3}} (?![^\W_])"


def _may_be_title(text: str, index: int, title: str) -> bool:
    """Whether the text begins with the title, after a number or a label, or still may."""
    bare, number = re.sub(r"^[\W_]+", "", title).casefold(), _number(index)
    for before in ("", number, _LABEL, rf"{number} [\W_]* {_LABEL}"):
        if front := _compiled(rf"[\W_]* {before} [\W_]*").match(text):
            rest = " ".join(text[front.end() :].split()).casefold()
            if rest.startswith(bare) or bare.startswith(rest):
                return True
    return _UNDECIDED.fullmatch(text) is not None


def _title_end(text: str, index: int, title: str) -> int:
    """Where an echoed title ends, with what names it before and the pause after it; 0 if there is none."""
    words = re.compile(r"\s+".join(map(re.escape, title.split())), re.IGNORECASE)
    pattern = rf"""{_START}
        (?P<number> (?P<bold>\*\*)? {_number(index)}
            (?: [])]? (?: [.:)、]{{0,2}} | \s? [:-] (?=\s) ) (?(bold) \*\*[.:]? ) | (?(bold) \*\* ) {_DASH} ) \s*+ )?
        {_LABEL}? (?P<inner> \*\*|__|\*|_ )? (?P<quote> ["'([] )? ø?\0 (?(quote) ["')\]] ) {_END}"""
    sign = "ø\0" if title[:1].isalnum() else "\0"  # for the title, whose own pattern would take long to compile
    places = reversed([*words.finditer(text)] if title else [])
    tried = ((_compiled(pattern).match(text[: at.start()] + sign + text[at.end() :]), at) for at in places)
    echo, place = next((each for each in tried if each[0]), (None, None))
    if not echo or not place:
        return 0
    is_marked, next_char = echo["mark"] or echo["inner"], echo.string[echo.end() : echo.end() + 1]
    if echo["dash"]:  # but "Time blocking - you may know it - is a technique."
        is_echo = is_marked or echo["number"] or echo["hash"] or not next_char.islower()
    else:
        is_framed = echo["quote"] == "[" and not next_char.islower()
        is_echo = not echo["space"] or is_framed or (is_marked and next_char.isupper())
    return echo.end() + len(place[0]) - len(sign) if is_echo else 0


def _number_end(text: str, index: int) -> int:
    """Where an echo of the point's number ends; 0 if there is none."""
    pattern = rf"{_START} {_WORD} \(? {index} (?: {_STOP} {_UNMARK} | {_UNMARK} {_STOP} ) \s*"
    echo = _compiled(pattern).match(text)
    is_heading = echo and echo["hash"] and "\n" not in echo[0]  # of the text, as in "## 6. Noise"
    return echo.end() if echo and not is_heading else 0
