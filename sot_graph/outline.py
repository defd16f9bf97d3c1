"""Read clean titles from any text that a model may write instead of structured output."""

import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice, pairwise
from typing import Any

from pydantic_core import from_json

from sot_graph.thoughts import strip_thoughts

READ_LIMIT = 30_000  # characters of a reply that are read; a typical outline has a few hundred
TITLE_LIMIT = 200  # characters of a title that are kept; a typical title has three to five words

# "1." "1)" "(1)." "1、" "1:" "1 -" "Point 1:", but neither "1.1" (a sub-point) nor "3.5 litres", "10:30", "5 - 7 cups".
_NUMBER = r"(?i:(?:point|step|part|item|section)\s+)?[(\[]?\d{1,3}"
_STOP = r"(?:\s*(?:[.):：．）\]]++(?!\d)|、)|\s+[-–—]\s++(?!\d))"  # noqa: RUF001 - as models write
_BULLET = r"(?:[-*+–—]\s+(?:\[[ xX]\]\s+)?|[•‣◦▪●]\s*)"  # noqa: RUF001 - as models write
_HEADING = r"#{1,6}\s+"
_IN_BOLD = r"[^*]+(?:\*[^*]+)*"  # such as "A* search"

# One group for each kind of item, strongest first: items of a weaker kind are sub-points.
_ITEM_START = re.compile(
    rf"({_HEADING}\**{_NUMBER}\**{_STOP})|(\*\*{_NUMBER}(?:\*\*)?{_STOP})|({_NUMBER}{_STOP})"
    rf"|({_HEADING})|(\*\*)(?={_IN_BOLD}\*\*:?\s*$)|({_BULLET})"
)
_NUMBERED, _BULLETED = 3, 6
_NUMBER_ONE = re.compile(r"\D*1(?!\d)")
_BARE_TITLE = re.compile(r"\s*[^\s.:!?](?:[^.:!?]|\.(?=\w)){2,60}\s*$")
_NONE = re.compile(r"[\s*_\"'`#-]*none\b", re.IGNORECASE)

# A list on one line: its start, the start of an item, and the end of the last item.
_INLINE_START = re.compile(r"(?:^|[^\w\s])[ \t]*(?=\(?1(?:[.)]\s|[、．）]))", re.MULTILINE)  # noqa: RUF001 - as models write
_INLINE_ITEM = re.compile(r"(?:\band\s+)?(?<![^\s;；,，。])\(?(\d{1,3})(?:[.)]\s|[、．）])")  # noqa: RUF001 - as models write
_INLINE_END = re.compile(r"\n|(?<!\d)[.!?](?=\s)|。")

_FENCE = re.compile(r"^[ >]*(?:`{3,}+|~{3,}+) *+([^\s`]*+)[^`\n]*+$", re.MULTILINE)
_TEXT_LANGUAGES = frozenset({"", "json", "markdown", "md", "plaintext", "text", "txt"})  # a program has another one
# JSON begins a line or follows a sentence. Brackets in a list item or in an assignment are no outline.
_JSON = re.compile(r"^[ \t>`]*(?:[^\W\d_][^\n{\[]*[.:!?][ \t]*)?([{\[]\s*[\"{\[])", re.MULTILINE)

# The layers around a title.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, lone surrogates
_MARKERS = re.compile(rf"^(?:{_HEADING}|{_BULLET}|(?:{_NUMBER}{_STOP}|\*\*{_NUMBER}(?:{_STOP}\*\*|\*\*{_STOP}))\s*)+")
# "**Title**: explanation" and "**Title:** explanation".
_EXPLAINED = re.compile(rf"^\*\*({_IN_BOLD})(?:(?<=[:：])\*\*|\*\*(?:\s*[:：–—]|\s+-\s)).*")  # noqa: RUF001 - as models write
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
# But not in "A* search", "2*3 and 4*5", "snake_case", "__init__".
_EMPHASIS = re.compile(r"(\*\*|(?<!\w)\*(?!\*)|`+|~~|(?<!\w)_(?!_))(?=[^\s`~])(.+?)(?<![\s*])\1(?!(?<=_)\w)")
_QUOTED = re.compile(
    r"^(?:[\"“„«「]([^\"“”„«»「」]+)[\"”“»」]|['‘]([^'‘’]+)['’]|__(?!\w+$)([^_]+)__)$"  # noqa: RUF001 - as models write
)
_STRAY = re.compile(r"^\*\*+|(?<!\*)\*\*+$|\s#+$")


def read_outline(text: str) -> list[str]:
    """Read the titles of an outline from a model's text: JSON, a list in any form, or short lines.

    Ignores text around the list, sub-points, and the thoughts of a reasoning model. Never raises.

    Returns:
        Clean titles in order, each once; `[]` if the text has no list or begins with NONE.
    """
    text = strip_thoughts(text[:READ_LIMIT]).expandtabs(4)
    if _NONE.match(text):
        return []
    parts = _FENCE.split(text)  # text outside fences, a language, text inside, "", text outside, and so on
    fenced = zip(parts[1::4], parts[2::4], strict=True)
    inside = (block for language, block in fenced if language.lower() in _TEXT_LANGUAGES)
    blocks = ["".join(parts[::4]), "".join(inside)]
    outlines = (clean_titles(read(block)) for read in (_list, _bare_lines) for block in blocks)
    return next(filter(None, outlines), [])


def clean_titles(titles: Iterable[str]) -> list[str]:
    """Strip numbering and markup from titles, and drop empty and repeated ones."""
    cleaned: dict[str, str] = {}
    for title in map(clean_title, titles):
        cleaned.setdefault(title.casefold(), title)
    cleaned.pop("", None)
    return list(cleaned.values())


def clean_title(title: str) -> str:
    """Turn a title into one line of plain text, without numbering, markup and control characters.

    The result is empty without a letter or a digit. It does not change when it is cleaned again.
    """
    title, before = _NO_TEXT.sub(" ", title[: 5 * TITLE_LIMIT]), ""
    while title != before:  # each pass removes a layer
        before = title
        title = _MARKERS.sub("", " ".join(title.split()))
        title = _LINK.sub(r"\1", _EXPLAINED.sub(r"\1", title))
        title = _STRAY.sub("", _QUOTED.sub(r"\1\2\3", _EMPHASIS.sub(r"\2", title)))
        title = title.lstrip(" :;,|").rstrip(" :;,.|-–—…")[:TITLE_LIMIT]  # noqa: RUF001 - as models write
    return title if any(map(str.isalnum, title)) else ""


def _bare_lines(text: str) -> list[str]:
    """Short lines without a marker, if there are at least three and nothing else."""
    titles = [line for line in text.split("\n") if line.strip()]
    return titles if titles[2:] and all(map(_BARE_TITLE.match, titles)) else []


def _list(text: str) -> list[str]:
    """The items of a list: in JSON, on a line each, or on one line."""
    if titles := _from_json(text):
        return titles
    lines = [(line, line.lstrip(" >")) for line in text.split("\n")]
    found = [(len(line) - len(item), item, start) for line, item in lines if (start := _ITEM_START.match(item))]
    least = min((indent for indent, *_ in found), default=0)
    lists: dict[tuple[int, int, int], list[str]] = {}
    for indent, item, start in found:
        # A depth is two spaces, because " 9." is indented by one more than "10.".
        style = (indent - least) // 2, start.lastindex or 0, start[0].count("#")
        lists.setdefault(style, []).append(item)
    ranked = [(rank, items) for style, items in lists.items() if (rank := _rank(style, items))]
    items = min(ranked)[1] if ranked else []
    return items if len(items) > 1 else _from_one_line(items[0] if items else text) or items


def _from_json(text: str) -> list[str]:
    """Titles from JSON, which may be cut off and may have text around it."""
    for match in islice(_JSON.finditer(text), 5):  # other brackets may come before the JSON
        json = _NO_TEXT.sub(" ", text[match.start(1) :])
        for attempt in (json + '"', json, re.sub(r",(?=\s*[\]}])", "", json)):  # the quote ends a cut-off title
            with suppress(ValueError):
                if titles := _titles_in(from_json(attempt, allow_partial=True)):
                    return titles
    return []


def _titles_in(value: Any) -> list[str]:
    """The titles in a JSON value: its own items, or those of the first list inside it."""
    if isinstance(value, dict):
        if all(isinstance(item, str) for item in value.values()):  # {"1": "This", "2": "That"}, or a list in a string
            return list(value.values()) if len(value) > 1 else _list("".join(value.values()))
        return next(filter(None, map(_titles_in, value.values())), [])
    titles: list[str] = []
    for item in value if isinstance(value, list) else []:
        texts = [item.get("title"), *item.values()] if isinstance(item, dict) else [item]
        titles += [text for text in texts if isinstance(text, str)][:1]
    return titles


def _rank(style: tuple[int, int, int], items: list[str]) -> tuple[bool, int, int, int] | None:
    """The rank of a list; the lowest one is the outline. None if it is no list, such as a single heading."""
    depth, kind, level = style
    starts = sum(1 for item in items if _NUMBER_ONE.match(item))
    if kind == _NUMBERED and (starts > 1 or starts == len(items)):
        return False, depth, _BULLETED, -1  # numbers that restart, or only one: nearly as weak as bullets
    is_lone = len(items) == 1
    return (is_lone, depth, kind, level) if not is_lone or kind == _BULLETED else None


def _from_one_line(text: str) -> list[str]:
    """Items of a list on one line: "1. This 2. That 3. The other", or "• this • that"."""
    cuts: list[tuple[int, int]] = []
    start = _INLINE_START.search(text)
    for match in _INLINE_ITEM.finditer(text, start.end()) if start else ():
        if int(match[1]) == len(cuts) + 1:  # but not in "here are 3. things"
            cuts.append(match.span())
    numbered = [text[begin:end] for (_, begin), (end, _) in pairwise([*cuts, (len(text), len(text))])]
    *items, last = numbered if len(numbered) > 1 else text.split("•")[1:] or [""]
    return [*items, _INLINE_END.split(last.lstrip(), maxsplit=1)[0]] if items else []  # without an afterword
