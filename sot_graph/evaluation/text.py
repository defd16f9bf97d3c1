"""Text that is safe and short enough to display: no control characters, one line, a fixed width."""

import unicodedata

from rich.text import Text

DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e")
"""They reverse the direction of the text around them. Right-to-left scripts display well without them."""


def strip_controls(text: str) -> str:
    """Remove the characters that a terminal interprets, such as escape sequences."""
    return "".join(c for c in text if c in "\n\t" or not _is_control(c))


def escape_controls(json: str) -> str:
    """Write the characters of a JSON text that a terminal interprets as JSON escapes."""
    return "".join(c if c == "\n" or not _is_control(c) else f"\\u{ord(c):04x}" for c in json)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs"} or character in DIRECTION_MARKS


def one_line(text: str) -> str:
    """Put a text on one line, without control characters."""
    return " ".join(strip_controls(text).split())


def fit(text: str, cells: int, *, pad: bool = False) -> str:
    """Shorten a text to a number of terminal cells, with an ellipsis where it is cut.

    Args:
        text: One line.
        cells: The maximum width.
        pad: Whether to fill up a shorter text with spaces.
    """
    line = Text(text)
    line.truncate(cells, overflow="ellipsis", pad=pad)
    return line.plain
