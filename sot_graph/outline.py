"""Reading an outline: from any text that a model may write, to clean titles.

Structured output makes this unnecessary when it works; this is for when it does not.
"""

import re
from collections.abc import Iterable
from enum import IntEnum, auto
from itertools import islice, pairwise
from typing import Any, NamedTuple

from pydantic_core import from_json

from sot_graph.live import THOUGHT

READ_LIMIT = 30_000
"""How many characters of a model's outline are read. An honest outline has a few hundred."""
TITLE_LIMIT = 200
"""How many characters of a title are kept. An honest title has three to five words."""

_READ_PER_TITLE = 5 * TITLE_LIMIT  # a link or an explanation may stand around a title
_JSON_TRIES = 5  # other brackets may stand before the JSON

# "1." "1)" "(1)." "1、" "1:" "1 -" "Point 1:", but neither "1.1" (a sub-point) nor "3.5 litres", "10:30", "5 - 7 cups".
_NUMBER = r"(?:(?:point|step|part|item|section)\s+)?[(\[]?\d{1,3}"
_STOP = r"(?:\s*(?:[.):：．）\]]++(?!\d)|、)|\s+[-–—]\s++(?!\d))"  # noqa: RUF001 - as models write
_BULLET = r"(?:[-*+–—]\s+(?:\[[ x]\]\s+)?|[•‣◦▪●]\s*)"  # noqa: RUF001 - as models write
_HEADING = r"#{1,6}\s+"
_IN_BOLD = r"[^*]+(?:\*[^*]+)*"  # such as "A* search"


class _Kind(IntEnum):
    """What a line of a list begins with, the strongest first: weaker ones below it are sub-points."""

    NUMBERED_HEADING = auto()
    NUMBERED_BOLD = auto()
    NUMBER = auto()
    HEADING = auto()
    BOLD = auto()
    WEAK_NUMBER = auto()  # a lone number, or numbers that start anew, as they do below each heading
    BULLET = auto()


_MARKED_LINE = re.compile(
    rf"(?P<NUMBERED_HEADING>{_HEADING}\**{_NUMBER}\**{_STOP})"
    rf"|(?P<NUMBERED_BOLD>\*\*{_NUMBER}(?:\*\*)?{_STOP})"
    rf"|(?P<NUMBER>{_NUMBER}{_STOP})"
    rf"|(?P<HEADING>{_HEADING})"
    rf"|(?P<BOLD>\*\*{_IN_BOLD}\*\*:?\s*$)"
    rf"|(?P<BULLET>{_BULLET})",
    re.IGNORECASE,
)
_NUMBER_ONE = re.compile(r"\D*1(?!\d)")

# A list on one line: where it begins, what parts its items, and where its last item ends.
_INLINE_START = re.compile(r"(?:^|[^\w\s])[ \t]*(?=\(?1(?:[.)]\s|[、．）]))", re.MULTILINE)  # noqa: RUF001 - as models write
_INLINE = re.compile(r"(?:\band\s+)?(?<![^\s;；,，。])\(?(\d{1,3})(?:[.)]\s|[、．）])")  # noqa: RUF001 - as models write
_ITEM_END = re.compile(r"\n|(?<!\d)[.!?](?=\s)|。")

# A fenced block holds a program, unless its language is none.
_FENCE = re.compile(r"[\s>]*(?:`{3,}+|~{3,}+)\s*+([^\s`]*+)[^`]*+$")
_TEXT_LANGUAGES = frozenset({"", "json", "markdown", "md", "plaintext", "text", "txt"})
# JSON begins a line or stands behind talk. In an item of a list or in an assignment, brackets are no outline.
_JSON = re.compile(r"^[ \t>`]*(?:[^\W\d_][^\n{\[]*[.:!?][ \t]*)?([{\[]\s*[\"{\[])", re.MULTILINE)
_TRAILING_COMMA = re.compile(r",(?=\s*[\]}])")

# What stands around a title, layer upon layer.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, lone surrogates
_MARKERS = re.compile(
    rf"^(?:{_HEADING}|{_BULLET}|{_NUMBER}{_STOP}\s*|\*\*{_NUMBER}(?:{_STOP}\*\*|\*\*{_STOP})\s*)+",
    re.IGNORECASE,
)
# "**Title**: what it says" and "**Title:** what it says".
_EXPLAINED = re.compile(rf"^\*\*({_IN_BOLD})(?:(?<=[:：])\*\*|\*\*(?:\s*[:：–—]|\s+-\s)).*")  # noqa: RUF001 - as models write
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
# A single asterisk may belong to a word: "A* search", "2*3 and 4*5".
_EMPHASIS = re.compile(r"((?<!\w)\*|`+|~~)(?=\S)([^*`~]+)(?<=\S)\1")
_UNDERLINED = re.compile(r"(?<!\w)_(?=\S)([^_]+)(?<=\S)_(?!\w)|^__(?!\w+$)([^_]+)__$")  # but not "__init__"
_QUOTED = re.compile(r"^(?:[\"“„«「]([^\"“”„«»「」]+)[\"”“»」]|['‘]([^'‘’]+)['’])$")  # noqa: RUF001 - as models write
_STRAY = re.compile(r"^\*\*+|(?<!\*)\*\*+$|\s#+$")
_LEFT_EDGES = " :;,|"
_RIGHT_EDGES = " :;,.|-–—…"  # noqa: RUF001 - as models write


FEWEST_BARE_LINES = 3
_BARE_TITLE = re.compile(r"\s*[^\s.:!?](?:[^.:!?]|\.(?=\w)){2,60}\s*$")
_NONE = re.compile(r"[\s*_\"'`#-]*none\b", re.IGNORECASE)


def read_outline(text: str) -> list[str]:
    """Read the titles of an outline out of a model's text, whatever form it has.

    Reads JSON, and lists with `1.` `1)` `1、` `-` `*` `•`, with headings or bold lines, on many lines or one, inside
    a fence, below a preamble and above an afterword; else short lines with no marker at all. Sub-points are left out,
    and so are a reasoning model's thoughts. Never raises.

    Returns:
        Clean titles in order, each once; `[]` when the text holds no list, or begins with NONE.
    """
    text = text[:READ_LIMIT].rpartition(THOUGHT)[2]
    if _NONE.match(text):
        return []
    blocks = _split_fences(text.split("\n"))
    readings = (clean_titles(read(block)) for read in (_list, _lone_bullet, _bare_lines) for block in blocks)
    return next(filter(None, readings), [])


def clean_titles(titles: Iterable[str]) -> list[str]:
    """Strip numbering and markup from titles, and drop the empty and the repeated ones."""
    cleaned: dict[str, str] = {}
    for title in map(clean_title, titles):
        cleaned.setdefault(title.casefold(), title)
    cleaned.pop("", None)
    return list(cleaned.values())


def clean_title(title: str) -> str:
    """Make one line of plain text of a title: no number, no markup, no control character.

    Returns:
        The title, which stays as it is when it is cleaned again; empty where it has neither a letter nor a digit.
    """
    cleaned = _NO_TEXT.sub(" ", title[:_READ_PER_TITLE])
    while (peeled := _peel(cleaned)) != cleaned:
        cleaned = peeled
    return cleaned


def _peel(title: str) -> str:
    """Take a layer of markers and markup off a title."""
    if not any(map(str.isalnum, title)):
        return ""
    title = _MARKERS.sub("", " ".join(title.split()))
    title = _LINK.sub(r"\1", _EXPLAINED.sub(r"\1", title))
    title = _EMPHASIS.sub(r"\2", _BOLD.sub(r"\1", title))
    title = _STRAY.sub("", _QUOTED.sub(r"\1\2", _UNDERLINED.sub(r"\1\2", title)))
    return title.lstrip(_LEFT_EDGES).rstrip(_RIGHT_EDGES)[:TITLE_LIMIT]


def _split_fences(lines: list[str]) -> tuple[list[str], list[str]]:
    """Split the lines outside fenced blocks from those inside, where a list may stand too. Programs are left out."""
    outside: list[str] = []
    inside: list[str] = []
    program: list[str] = []
    block = outside
    for line in lines:
        if not (fence := _FENCE.match(line)):
            block.append(line)
        elif block is outside:
            block = inside if fence[1].casefold() in _TEXT_LANGUAGES else program
        else:
            block = outside
    return outside, inside


def _list(lines: list[str]) -> list[str]:
    """Items of the list in these lines, whatever form it has."""
    text = "\n".join(lines)
    return _from_json(text) or _from_lines(lines) or _from_one_line(text)


def _lone_bullet(lines: list[str]) -> list[str]:
    """The only item, where one bullet is all the list there is."""
    return [text for style, text in _marked(lines) if style.kind is _Kind.BULLET][:1]


def _bare_lines(lines: list[str]) -> list[str]:
    """Short lines without any marker, where there are several and nothing else."""
    titles = [line for line in lines if line.strip()]
    are_titles = len(titles) >= FEWEST_BARE_LINES and all(map(_BARE_TITLE.match, titles))
    return titles if are_titles else []


def _from_json(text: str) -> list[str]:
    """Titles from JSON, which may be cut off or wrapped in talk."""
    starts = (match.start(1) for match in islice(_JSON.finditer(text), _JSON_TRIES))
    readings = (_titles_in(_parse(text[start:])) for start in starts)
    return next(filter(None, readings), [])


def _parse(text: str) -> Any:
    """Parse the JSON that the text begins with, as far as it goes."""
    text = _NO_TEXT.sub(" ", text)
    for attempt in (text + '"', text, _TRAILING_COMMA.sub("", text)):  # the quote keeps a title that was cut off
        try:
            return from_json(attempt, allow_partial=True)
        except ValueError:
            continue
    return None


def _titles_in(value: Any) -> list[str]:
    """The titles of a JSON value: those of its list, or of the first list within it."""
    if isinstance(value, dict):
        if all(isinstance(item, str) for item in value.values()):  # {"1": "This", "2": "That"}, or a list in a string
            return list(value.values()) if len(value) > 1 else _from_lines("".join(value.values()).split("\n"))
        return next(filter(None, map(_titles_in, value.values())), [])
    if not isinstance(value, list):
        return []
    titles = (_title_of(item) for item in value)
    return [title for title in titles if isinstance(title, str)]


def _title_of(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return item.get("title") or next((text for text in item.values() if isinstance(text, str)), None)


class _Style(NamedTuple):
    """What the items of one list have in common. Of several lists, the one with the smallest style is the outline."""

    depth: int
    kind: _Kind
    level: int
    """How many `#` a heading has."""


def _from_lines(lines: list[str]) -> list[str]:
    """The top-level items of a list in plain text or Markdown."""
    lists: dict[_Style, list[str]] = {}
    for style, item in _marked(lines):
        lists.setdefault(style, []).append(item)
    ranked = {rank: items for style, items in lists.items() if (rank := _rank(style, items))}
    if not ranked:
        return []
    items = ranked[min(ranked)]
    # A lone number may have the others behind it.
    return items if len(items) > 1 else _from_one_line(items[0]) or items


def _marked(lines: list[str]) -> list[tuple[_Style, str]]:
    """The lines that begin with a marker, each with its style."""
    marked: list[tuple[int, _Kind, int, str]] = []
    for line in (line.expandtabs(4) for line in lines):
        body = line.lstrip(" >")
        if (marker := _MARKED_LINE.match(body)) and marker.lastgroup:
            marked.append((len(line) - len(body), _Kind[marker.lastgroup], len(body) - len(body.lstrip("#")), body))
    least = min((indent for indent, *_ in marked), default=0)
    # By twos, because " 9." stands one space further in than "10.".
    return [(_Style((indent - least) // 2, kind, level), body) for indent, kind, level, body in marked]


def _rank(style: _Style, items: list[str]) -> _Style | None:
    """The style to compare a list by; None for what is no list, such as one heading."""
    starts = sum(1 for item in items if _NUMBER_ONE.match(item))
    if style.kind is _Kind.NUMBER and (starts > 1 or starts == len(items)):
        return style._replace(kind=_Kind.WEAK_NUMBER)
    return style if len(items) > 1 else None


def _from_one_line(text: str) -> list[str]:
    """Items of a list that stands on one line: "1. This 2. That 3. The other", or "• this • that"."""
    for parts in (_numbered_parts(text), text.split("•")[1:]):
        if len(parts) > 1:
            *items, last = parts
            return [*items, _ITEM_END.split(last.lstrip(), maxsplit=1)[0]]  # an afterword may stand behind the last one
    return []


def _numbered_parts(text: str) -> list[str]:
    """What stands behind "1.", behind "2." and so on: in sequence, so that "here are 3. things" is no item."""
    cuts: list[tuple[int, int]] = []
    start = _INLINE_START.search(text)
    for match in _INLINE.finditer(text, start.end()) if start else ():
        if int(match[1]) == len(cuts) + 1:
            cuts.append(match.span())
    return [text[begin:end] for (_, begin), (end, _) in pairwise([*cuts, (len(text), len(text))])]
