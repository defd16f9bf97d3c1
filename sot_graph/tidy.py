"""Taking an echoed number or title off the front of a point's text, and touching nothing else of it."""

import re

_MARK = r"\*\*|__|\*|_"
_DASH = "[-–—]"  # noqa: RUF001 - as models write
_QUOTE = "[\"'“”‘’«»]?"  # noqa: RUF001 - as models write
# "6." "Point 6:" "(6)" in front of a title, bold by itself or not.
_NUMBER = (
    r"(?P<bold>\*\*|__)?(?:(?:point|step|part|section)\s+)?[(\[]?\d{1,3}[)\]]?"
    rf"\s*(?:[.:)、．]|{_DASH})?(?(bold)(?P=bold))\s*"  # noqa: RUF001 - as models write
)
# What tells a title from a sentence's first words: "Title: text", "Title - text", "Title. Text", "Title" on a line.
_BREAK = re.compile(rf"\s*[:：]\s*|\s+{_DASH}\s+|\.(?=\s|$)\s*|[ \t]*(?:\n\s*|$)")  # noqa: RUF001


def tidy(text: str, index: int, title: str) -> str:
    """Remove what a model echoes of its order: "Point 6: Title -", "6.", "**Title**", "## Title".

    Args:
        text: What the model wrote for the point.
        index: The point's own number; a text that begins with any other number keeps it.
        title: The point's title; a sentence that merely begins with these words keeps them.

    Returns:
        The text without the echo and without white space around it. The rest is as it was.
    """
    text = text.strip()
    return text[_title_echo(text, title) or _number_echo(text, index) :]


def _title_echo(text: str, title: str) -> int:
    """The length of an echoed title at the front, with the number before it and the break after it."""
    words = r"\s+".join(re.escape(word) for word in title.split())
    if not words:
        return 0
    echo = re.match(
        rf"(?P<hash>#{{1,6}}[ \t]+)?(?P<mark>{_MARK})?(?P<number>{_NUMBER})?(?P<inner>{_MARK})?"
        rf"{_QUOTE}{words}{_QUOTE}(?P<end>[:：]?)(?(inner)(?P=inner))(?(mark)(?P=mark))",  # noqa: RUF001
        text,
        re.IGNORECASE,
    )
    if echo is None:
        return 0
    rest = text[echo.end() :]
    after = len(rest) - len(rest.lstrip())
    if echo["end"]:
        return echo.end() + after
    if pause := _BREAK.match(rest):
        return echo.end() + pause.end()
    # Set off by markup or a number, a title is an echo unless the sentence goes on: "**Title** is what ...".
    set_off = echo["hash"] or echo["mark"] or echo["inner"] or echo["number"]
    return echo.end() + after if set_off and after and not rest[after].islower() else 0


def _number_echo(text: str, index: int) -> int:
    """The length of the point's own number at the front."""
    word = re.match(
        rf"(?P<mark>{_MARK})?(?:point|step|part|section)\s+{index}(?P<end>[.:)]?)(?(mark)(?P=mark))"
        rf"(?(end)\s+|(?:[:.]\s+|\s*{_DASH}\s+|[ \t]*\n\s*))",
        text,
        re.IGNORECASE,
    )
    if word:
        return word.end()
    number = re.match(rf"(?P<mark>{_MARK})?\(?{index}(?:[.)](?=[\s*_])|[、．])(?(mark)(?P=mark))\s*", text)  # noqa: RUF001
    # A text that is itself a list numbered from here keeps its first number.
    if number and not re.search(rf"^\s*\(?{index + 1}[.)、．]", text, re.MULTILINE):  # noqa: RUF001
        return number.end()
    return 0
