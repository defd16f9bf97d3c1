"""Reading an outline: from any text that a model may write, to clean titles.

Structured output makes this unnecessary when it works; this is for when it does not.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.utils.json import parse_partial_json

READ_LIMIT = 100_000
"""How many characters of a model's outline are read. An honest outline has a few hundred."""
TITLE_LIMIT = 200
"""How many characters of a title are kept. An honest title has three to five words."""

_WORD = r"(?:(?:point|step|part|item|section)\s+)?"
# "1." "1)" "(1)" "1、" "1:" "Point 1 -", but neither "1.1" (a sub-point) nor "3.5 litres" nor "10:30".
_NUMBERED = re.compile(
    _WORD + r"[(\[]?\d{1,3}(?:\s*[.):、．）\]](?![\d.])|\s+[-–—](?=\s))\**\s*",  # noqa: RUF001 - as models write
    re.IGNORECASE,
)
_BULLET = re.compile(r"[-*+•‣◦▪●–—]\s+|[•‣▪●]")  # noqa: RUF001 - as models write
_HEADING = re.compile(r"#{1,6}\s+")
_BOLD_LINE = re.compile(r"\*\*[^*]+\*\*:?$")
_FENCE = re.compile(r"\s*(?:```|~~~)")
# A bold title with its explanation on the same line: "**Title**: what it says".
_BOLD_LEAD = re.compile(r"\*\*(?P<title>[^*]{2,})\*\*\s*(?:[:–—-]|$)")  # noqa: RUF001 - as models write
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_MARKUP = re.compile(r"~~|`+|(?<!\w)\*+(?=\S)|(?<=\S)\*+(?!\w)")
_ITALIC = re.compile(r"_(?=[^\W_])(.+)(?<=[^\W_])_$")
_INLINE = re.compile(r"(?:(?<=[\s;；,，。])|^)\(?(\d{1,3})(?:[.)](?=\s)|[、．）])\s*")  # noqa: RUF001 - as models write
_SENTENCE_END = re.compile(r"[.!?。](?:\s|$)")
_LEFT_EDGES = " \t:;,-–—\"'“”„‘’«»「」*#>|"  # noqa: RUF001 - as models write
_RIGHT_EDGES = " \t:;,.-–—…\"'“”„‘’«»「」*|"  # noqa: RUF001 - as models write


def read_outline(text: str) -> list[str]:
    """Read the titles of an outline out of a model's text, whatever form it has.

    Reads JSON, and lists with `1.` `1)` `1、` `-` `*` `•`, with headings or bold lines, on many lines or one, inside
    a fence, below a preamble and above an afterword. Sub-points are left out. Never raises.

    Returns:
        Clean titles in order, each once; `[]` when the text holds no list.
    """
    text = text[:READ_LIMIT]
    return clean_titles(_from_json(text) or _from_lines(text))


def clean_titles(titles: Iterable[str]) -> list[str]:
    """Strip numbering and markup from titles, and drop the empty and the repeated ones."""
    seen: dict[str, str] = {}
    for title in titles:
        cleaned = clean_title(title)
        if cleaned:
            seen.setdefault(cleaned.casefold(), cleaned)
    return list(seen.values())


def clean_title(title: str) -> str:
    """Make one line of plain text of a title: no number, no markup, no control character."""
    line = " ".join(_printable(title[: TITLE_LIMIT * 10]).split())
    line = _HEADING.sub("", _BULLET.sub("", line, count=1) if _BULLET.match(line) else line, count=1)
    line = _strip_number(line)
    if lead := _BOLD_LEAD.match(line):
        line = lead["title"]
    line = _trim(_MARKUP.sub("", _LINK.sub(r"\1", line)))
    line = _trim(_strip_number(_ITALIC.sub(r"\1", line)))
    return line if len(line) <= TITLE_LIMIT else line[: TITLE_LIMIT - 1].rstrip() + "…"


def _trim(line: str) -> str:
    return line.lstrip(_LEFT_EDGES).rstrip(_RIGHT_EDGES)


def _strip_number(line: str) -> str:
    """Take the number off the front, and not the bold marker around both number and title."""
    bare = line.lstrip("*_ ")
    number = _NUMBERED.match(bare)
    if number is None or not bare[number.end() :].strip():
        return line
    rest = bare[number.end() :]
    return f"**{rest}" if line.startswith("**") and "**" in rest else rest


def _printable(text: str) -> str:
    """Leave out what no title holds: control characters and lone surrogates."""
    return "".join(char if char.isspace() or unicodedata.category(char) not in {"Cc", "Cs"} else " " for char in text)


def _from_json(text: str) -> list[str]:
    """Titles from JSON, which may be fenced, cut off, or wrapped in talk."""
    start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
    if start < 0 or not re.match(r"[\[{]\s*[\"{\[]", text[start:]):
        return []
    ends = (text.rfind("}") + 1, text.rfind("]") + 1, len(text))
    for end in (end for end in ends if end > start):
        try:
            titles = list(_titles_in(parse_partial_json(text[start:end])))
        except (ValueError, RecursionError):  # not JSON after all, or nested past all reason
            continue
        if titles:
            return titles
    return []


def _titles_in(value: Any) -> Iterator[str]:
    """The titles of a JSON value: strings in a list, or the first string of each object in it."""
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if lists else []
    if not isinstance(value, list):
        return
    for item in value:
        if isinstance(item, dict):
            item = next((v for v in item.values() if isinstance(v, str)), None)  # noqa: PLW2901
        if isinstance(item, str):
            yield item


def _from_lines(text: str) -> list[str]:
    """Titles from a list in plain text or Markdown."""
    outside, inside = _split_fences(text.splitlines())
    return _list_items(outside) or _list_items(inside)


def _split_fences(lines: list[str]) -> tuple[list[str], list[str]]:
    """Lines outside and inside fenced blocks: a list may stand in one, and so may a program."""
    outside: list[str] = []
    inside: list[str] = []
    fenced = False
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        else:
            (inside if fenced else outside).append(line)
    return outside, inside


def _list_items(lines: list[str]) -> list[str]:
    """The top-level items of the list in these lines, by the strongest kind of marker that they have."""
    kinds: dict[str, list[tuple[int, str]]] = {
        "number": [],
        "heading": [],
        "bullet": [],
        "bold": [],
    }
    for line in lines:
        if marked := _marked(line):
            kind, indent, title = marked
            kinds[kind].append((indent, title))
    if len(kinds["number"]) <= 1 and (inline := _inline_items(" ".join(lines))):
        return inline
    # Bullets below numbers or headings are sub-points; one heading alone is the list's own title.
    if len(kinds["heading"]) == 1:
        kinds["heading"].clear()
    several = (found for found in kinds.values() if len(found) > 1)
    items = next(several, None) or next((found for found in kinds.values() if found), [])
    top = min((indent for indent, _ in items), default=0)
    return [title for indent, title in items if indent <= top + 1]


def _marked(line: str) -> tuple[str, int, str] | None:
    """The kind of marker that a line begins with, how far in it stands, and what follows it."""
    body = line.expandtabs(4).lstrip(" >")
    indent = len(line.expandtabs(4)) - len(body)
    heading = _HEADING.match(body)
    bullet = None if heading else _BULLET.match(body)
    marker = heading or bullet
    inner = body[marker.end() :] if marker else body
    # "## 1. Title", "- 1. Title" and "**1. Title**" are numbered too.
    if (unnumbered := _strip_number(inner)) != inner:
        return "number", indent, unnumbered
    if heading:
        return "heading", 0, inner
    if bullet and inner.strip():
        return "bullet", indent, inner
    return ("bold", 0, body) if _BOLD_LINE.match(body.strip()) else None


def _inline_items(text: str) -> list[str]:
    """Items of a list that stands on one line: "1. This 2. That 3. The other", or "• this • that"."""
    cuts: list[tuple[int, int]] = []
    for match in _INLINE.finditer(text):
        if int(match[1]) == len(cuts) + 1:  # in sequence from 1, so that "here are 3. things" is no item
            cuts.append(match.span())
    if len(cuts) > 1:
        ends = [*(start for start, _ in cuts[1:]), len(text)]
        *items, last = [text[start:end] for (_, start), end in zip(cuts, ends, strict=True)]
        return [*items, _SENTENCE_END.split(last)[0]]  # an afterword may stand behind the last one
    return text.split("•")[1:] if text.count("•") > 1 else []
