"""Taking an echoed number or title off the front of a point's text, and touching nothing else of it."""

import re

# Pieces of verbose patterns. What opens an echo is optional, and what closes it stands there only if it was opened.
_HASH = r"(?P<hash> \#{1,6} [ \t]++ )?"
_MARK, _UNMARK = r"(?P<mark> \*\*|__|\*|_ )?", r"(?(mark) (?P=mark) )"
_INNER, _UNINNER = r"(?P<inner> \*\*|__|\*|_ )?", r"(?(inner) (?P=inner) )"
_QUOTE, _UNQUOTE = r"(?P<quote> [\"'“‘«] )?", r"(?(quote) [\"'”’»] )"  # noqa: RUF001 - as models write
_WORD = r"(?P<word> (?:point|step|part|section) \s++ )?"
_DASH = r"[^\S\n]+ [-–—] (?=\s)"  # noqa: RUF001 - as models write
# What stands behind a number in front of the text, after "Point" or alone; a title tells enough by itself.
_STOP = rf"(?: [.:)]{{1,2}} (?=[\s*_]) | [、．：] | (?(word) (?: {_DASH} | [^\S\n]*\n ) | (?!) ) )"  # noqa: RUF001 - as models write
_TITLE_STOP = r"[])]? [.:)、．：]{0,2}"  # noqa: RUF001 - as models write
_FLAGS = re.IGNORECASE | re.VERBOSE

# What tells a title from the first words of a sentence: "Title: text", "Title. Text", "Title" on a line of its own.
_PAUSE = re.compile(r"[^\S\n]*(?::(?=\s|$)|：|\n|$)\s*|\.(?=\s|$)\s*")  # noqa: RUF001 - as models write
_DASH_PAUSE = re.compile(rf"{_DASH} \s*", _FLAGS)
_SPACE = re.compile(r"\s+|$")


TITLE_WINDOW = 40
"""How many characters beyond the title's length tell whether a text begins with an echo of it."""
LIST_WINDOW = 400
"""How many characters tell whether a number in front is the point's own, or the first of a list's."""
_NUMBERED = re.compile(
    r"[#*_(\[\s]*+(?:(?:point|step|part|section)\s+)?(?P<digits>\d++)(?P<stop>[)\]]?[*_]*[.:)、．：])?",  # noqa: RUF001
    re.IGNORECASE,
)


def echo_length(index: int, title: str, text: str, whole: bool) -> int | None:  # noqa: FBT001 - as LiveText calls it
    """How long an echo at the front of a text is, told as early as it can be: "Point 6: Title -", "6.", "**Title**".

    Args:
        index: The point's own number. A text that begins with another number keeps it, and so does one that counts on
            from its own number, because it is a list.
        title: The point's title; a sentence that merely begins with these words keeps them.
        text: The text so far, without white space in front.
        whole: Whether that is all of it.

    Returns:
        The echo's length; None while more text is needed to tell.
    """
    number = _NUMBERED.match(text)
    is_own = number is not None and number["digits"] == str(index)
    if number and not is_own and not title[:1].isdigit() and number.end() < len(text):
        return 0  # "20-minute naps", "7 to 9 hours"
    if not number and not _may_echo(text, title):
        return 0
    # Only the first characters count, so that it makes no difference in what pieces a text arrives. The own number with
    # a stop behind it takes more of them: it may begin a list.
    window = LIST_WINDOW if number and is_own and number["stop"] else len(title) + TITLE_WINDOW
    if len(text) < window and not whole:
        return None
    front = text[:window]
    return _title_end(front, index, title) or _number_end(front, index)


def _may_echo(text: str, title: str) -> bool:
    """Whether a text begins as an echo does, as far as it goes."""
    if not text or not text[0].isalpha():
        return True
    begins = " ".join(text[: len(title) + 1].split()).casefold()
    words = (" ".join(title.split()).casefold(), "point", "step", "part", "section")
    return any(word.startswith(begins) or begins.startswith(word) for word in words)


def _title_end(text: str, index: int, title: str) -> int:
    """Where an echoed title ends, with the number before it and the pause behind it; 0 where there is none."""
    words = r"\s+".join(map(re.escape, title.split()))
    if not words:
        return 0
    number = rf"""(?P<bold>\*\*)? {_WORD} [(\[]? {index} (?![^\W_])
        (?: {_TITLE_STOP} (?(bold) \*\*[.:]? ) | (?(bold) \*\* ) {_DASH} ) \s*+"""
    echo = re.match(
        rf"""{_HASH} {_MARK} (?P<number> {number} )? {_INNER} {_QUOTE} {words} {_UNQUOTE}
        (?P<stop> [.:] (?=[*_]*(?:\s|$)) )? {_UNINNER} {_UNMARK}""",
        text,
        _FLAGS,
    )
    if echo is None or (echo["number"] and _counts_on(text[echo.end() :], index)):
        return 0
    pause = _pause(echo, text[echo.end() :])
    return echo.end() + pause.end() if pause else 0


def _pause(echo: re.Match[str], rest: str) -> re.Match[str] | None:
    """What parts an echoed title from the text; None where the title begins a sentence of the text."""
    space = _SPACE.match(rest)
    if pause := space if echo["stop"] else _PAUSE.match(rest):
        return pause
    is_marked = echo["mark"] or echo["inner"]
    # "Time blocking - you may know it - is a technique." And "**Time blocking** is a technique."
    if dash := _DASH_PAUSE.match(rest):
        goes_on = rest[dash.end() : dash.end() + 1].islower()
        return dash if is_marked or echo["number"] or echo["hash"] or not goes_on else None
    return space if is_marked and space and rest[space.end() : space.end() + 1].isupper() else None


def _number_end(text: str, index: int) -> int:
    """Where the point's own number at the front ends; 0 where there is none."""
    echo = re.match(
        rf"{_HASH} {_MARK} {_WORD} \(? {index} (?: {_STOP} {_UNMARK} | {_UNMARK} {_STOP} ) \s*",
        text,
        _FLAGS,
    )
    if echo is None or _counts_on(text[echo.end() :], index):
        return 0
    # "## 6. Another title" is a heading of the text's own.
    return echo.end() if not echo["hash"] or "\n" in echo[0] else 0


def _counts_on(rest: str, index: int) -> bool:
    """Whether the next number comes behind the point's own: then that one began a list."""
    number = re.search(
        rf"(?:^|\s) [*_\#(\[]* {_WORD} (?: {index} | (?P<next> {index + 1} ) ) {_STOP}",
        rest,
        _FLAGS,
    )
    return number is not None and number["next"] is not None
