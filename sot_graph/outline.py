"""Read clean titles from any text that a model may write instead of structured output."""

import re
from ast import literal_eval
from collections.abc import Iterable, Iterator
from contextlib import suppress
from html.parser import HTMLParser
from itertools import islice, pairwise, zip_longest
from typing import Any

from markdown_it import MarkdownIt
from pydantic_core import from_json

from sot_graph.markers import HEAD, Item, numbered, plain, unmarked
from sot_graph.thoughts import strip_thoughts

READ_LIMIT = 30_000  # characters of a reply that are read; a typical outline has a few hundred
TITLE_LIMIT = 200  # characters of a title that are kept; a typical title has three to five words

_SYMBOL = r"[\u2190-\u21ff\u2300-\u25ff\u2700-\u27bf\u2900-\u297f\u2b00-\u2bff\ue000-\uf8ff•‣◦·・∙⁃]"  # noqa: RUF001 - as models write
_BULLET = rf"(?:[-*+~\"»]\s+(?:\[[ xX]\]\s+)?|{_SYMBOL}+\s*)"
_HEADING = r"#{1,6}\s+"
_IN_BOLD = r"[^*]+(?:\*[^*]+)*"  # such as "A* search"

# One group for each kind of item, strongest first: items of a weaker kind are sub-points. Numbers are stronger.
_ITEM_START = re.compile(
    rf"({_HEADING})|(\*\*)(?={_IN_BOLD}\*\*:?\s*$)|({_BULLET})"
    r"|((?:[\u231a-\u2bff\U0001f000-\U0001ffff]|-(?=[^\W\d])|o\s)[^\w\s]*)"
)
_NUMBERED, _BULLETED, _SIGNED = 0, 3, 4
_BARE_TITLE = re.compile(r"\s*[^\s.:!?。！？：](?:[^.:!?。！？：]|\.(?=\w)){1,60}\s*$")  # noqa: RUF001 - as models write
_NONE = re.compile(r"[\W_]*(?:(?i:none)[^\w\n]*(?:\n|$)|NONE\s*[^\w\s])")

# A list on one line: its start, the start of an item, and the end of the last item.
_INLINE_START = re.compile(r"(?:^|[^\w\s])[ \t]*(?=\(?1(?:[.)]\s|、))", re.MULTILINE)
_INLINE_ITEM = re.compile(r"(?:\band\s+)?(?<![^\s;,。])\(?(\d{1,3})(?:[.)]\s|、)")
_INLINE_BULLET = re.compile(rf"(?:^|[^\w\s])[ \t]*({_SYMBOL})", re.MULTILINE)
_INLINE_END = re.compile(r"\n|(?<!\d)[.!?](?=\s)|。")

_MARKDOWN = MarkdownIt("zero").enable(["table", "fence", "blockquote"])
_TEXT_LANGUAGES = frozenset({"", "json", "markdown", "md", "plaintext", "text", "txt", "xml", "yaml", "yml"})
# JSON begins a line or follows a sentence. Brackets in a list item or in an assignment are no outline.
_JSON = re.compile(r"^[ \t>`]*(?:[^\W\d_][^\n{\[]*[.:!?：。][ \t]*)?([{\[(]\s*[\"'“{\[(])", re.MULTILINE)  # noqa: RUF001 - as models write

_TAG = re.compile(r"(?:^|[.:!?：])[ \t]*<[^\W\d](?=.*(?:</|/>))", re.MULTILINE | re.DOTALL)  # noqa: RUF001 - as models write
_INLINE_TAG = re.compile(r"<(b|strong|i|em|u|code|a|span)\b[^<>]*>([^<>]*)</\1>")

# The layers around a title.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, lone surrogates
_MARKS = re.compile(rf"\s*(?:{_HEADING}|{_BULLET})*")
_SIGN = re.compile(r"[^\x00-\x7f\w¿¡]")
_WRAPPED = re.compile(r"""[("]([^()"]+)[)"]|\[([^\[\]]+)\]|'([^']+)'""")
# "**Title**: explanation" and "**Title:** explanation".
_EXPLAINED = re.compile(rf"^\*\*({_IN_BOLD})(?:(?<=[:：])\*\*|\*\*(?:\s*[:：–—]|\s+-\s)).*")  # noqa: RUF001 - as models write
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_TAGGED = re.compile(r"<(\w+)(?:\s[^<>]*)?>([^<>]*)</\1>")
# But not in "A* search", "2*3 and 4*5", "snake_case", "__init__".
_EMPHASIS = re.compile(r"(\*\*|(?<!\w)\*(?!\*)|`+|~~|(?<!\w)_(?!_))(?=[^\s`~])(.+?)(?<![\s*])\1(?!(?<=_)\w)")
_UNDERLINED = re.compile(r"^__(?!\w+$)([^_]+)__$")
# A small model in a loop: "1.1.1.1.1.1.1.1."
_LOOP = re.compile(r"(.{1,20}?)\1{5,}.{0,20}")
_STRAY = re.compile(r"^\*\*+|(?<!\*)\*\*+$|\s#+$")


def read_outline(text: str) -> list[str]:
    """Read the titles of an outline from a model's text: JSON, tags, a table, a list in any form, or short lines.

    Ignores text around the list, sub-points, and the thoughts of a reasoning model. Never raises.

    Returns:
        Clean titles in order, each once; `[]` if the text has no list or declines with NONE.
    """
    text = strip_thoughts(text[:READ_LIMIT]).expandtabs(4)
    if _NONE.match(text):
        return []
    lines, inside = re.sub(r"\r\n?", "\n", text).split("\n"), ""
    for token in _MARKDOWN.parse("\n".join(lines)):
        if token.type == "fence" and token.map:
            language, block = token.info.split(maxsplit=1)[:1], token.content
            is_text = {*map(str.lower, language)} <= _TEXT_LANGUAGES or block.lstrip()[:1] in tuple("[{<")
            inside += block if is_text else ""
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
    blocks = ["\n".join(lines), inside]
    outlines = (clean_titles(read(block)) for read in (_list, _bare_lines) for block in blocks)
    return next(filter(None, outlines), [])


def clean_titles(titles: Iterable[str]) -> list[str]:
    """Strip numbering and markup from titles, and drop empty and repeated ones."""
    before: list[str] | None = None
    cleaned = [*titles]
    while cleaned != before:
        before = cleaned
        unique: dict[str, str] = {}
        for title in map(clean_title, _uncounted(cleaned)):
            unique.setdefault(title.casefold(), title)
        unique.pop("", None)
        cleaned = [*unique.values()]
    return cleaned


def _uncounted(titles: list[str]) -> list[str]:
    """Titles without what all of them begin with: markers that count, or the same sign."""
    for _depth, items, _is_weak in numbered((0, title) for title in titles):
        if len(items) == len(titles):
            return [item.title for item in items]
    label = re.match(r"[^\W\d_]+: ", titles[0]) if titles[1:] else None
    if label and label[0].islower() and all(title.startswith(label[0]) for title in titles):  # "title: ", as in YAML
        return [title[label.end() :] for title in titles]
    sign, *others = {title[:1] for title in titles} or {""}
    is_marked = len(titles) > 1 and not others and _SIGN.match(plain(sign)[0])
    return [title[1:] for title in titles] if is_marked else titles


def clean_title(title: str) -> str:
    """Turn a title into one line of plain text, without numbering, markup and control characters.

    The result is empty without a letter or a digit, and if it is one string over and over. It does not change when it
    is cleaned again.
    """
    title, before = _NO_TEXT.sub(" ", title[: 5 * TITLE_LIMIT]), ""
    while title != before:  # each pass removes a layer
        before = title
        title = _unmarked(" ".join(title.split()))
        title = _LINK.sub(r"\1", _EXPLAINED.sub(r"\1", _TAGGED.sub(r"**\2**", title)))
        title = _STRAY.sub("", _UNDERLINED.sub(r"\1", _EMPHASIS.sub(r"\2", title)))
        title = title.lstrip(" :;,|").rstrip(" :;,.|-–—…。、，；：\u200b\u200e\u200f\u202c\u2069")[:TITLE_LIMIT]  # noqa: RUF001 - as models write
    return title if any(map(str.isalnum, title)) and not _LOOP.fullmatch(title) else ""


def _unmarked(title: str) -> str:
    """The title without the markers in front, and without brackets or quotes around all of it."""
    head, origin = plain(title)
    marks = _MARKS.match(head)
    title = unmarked(title[origin[marks.end() if marks else 0] :])
    return title[1:-1] if _WRAPPED.fullmatch(plain(title)[0].strip()) else title


def _bare_lines(text: str) -> list[str]:
    """At least three short lines without a marker, but for one line before and one after them."""
    lines = [line for line in text.split("\n") if line.strip()]
    first = bool(lines) and not _BARE_TITLE.match(lines[0])
    last = len(lines) - (bool(lines) and not _BARE_TITLE.match(lines[-1]))
    titles = lines[first:last]
    return titles if titles[2:] and all(map(_BARE_TITLE.match, titles)) else []


def _list(text: str) -> list[str]:
    """The items of a list: in JSON, in tags, in a table, on a line each, or on one line."""
    if titles := _from_json(text) or _from_tags(text) or _from_table(text):
        return titles
    lines = [line for line in text.split("\n") if line.strip()]
    bare = [line.lstrip(" >") for line in lines]
    indents = [len(line) - len(item) for line, item in zip(lines, bare, strict=True)]
    least = min((indent for indent, item in zip(indents, bare, strict=True) if not item[:1].isalpha()), default=0)
    # A depth is two spaces, because " 9." is indented by one more than "10.".
    found = [(max(indent - least, 0) // 2, item) for indent, item in zip(indents, bare, strict=True)]
    lists: dict[tuple[int, int, int], list[Item]] = {}
    for at, (depth, item) in enumerate(found):
        if start := _ITEM_START.match(item) or _ITEM_START.match(plain(item[:HEAD])[0]):
            kind = start.lastindex or 0
            title = item[start.end() :] if kind == _SIGNED else item
            lists.setdefault((depth, kind, start[0].count("#")), []).append(Item(at, "", title))
    ranked = [
        ((len(items) == 1, *style, items[0].line), items)
        for style, items in lists.items()
        if len(items) > 1 or style[1] == _BULLETED
    ]
    for depth, items, is_weak in numbered(found):  # weak ones are nearly bullets
        rank = (_BULLETED, -1) if is_weak else (_NUMBERED, 0)
        ranked.append(((False, depth, *rank, items[0].line), items))
    items = min(ranked)[1] if ranked else []
    titles = [item.title for item in items]
    return titles if len(titles) > 1 else _from_one_line(bare[items[0].line] if items else text) or titles


def _from_json(text: str) -> list[str]:
    """Titles from JSON or Python's literals, which may be cut off and may have text around them."""
    for match in islice(_JSON.finditer(text), 5):  # other brackets may come before the JSON
        for value in _values(_NO_TEXT.sub(" ", text[match.start(1) :])):
            if titles := titles_in(value):
                return titles
    return []


def _values(json: str) -> Iterator[Any]:
    """What a text may be: JSON, without a title that is cut off; objects side by side; Python's literals."""
    straight = re.sub(r",(?=\s*[\]}])", "", re.sub("[“”„]", '"', json))
    objects, count = re.subn(r"\}\s*,?\s*(?=\{)", "},", json)
    for attempt in (json, straight, *[f"[{objects}]"] * min(count, 1)):
        with suppress(ValueError):
            yield from_json(attempt, allow_partial=True)
    ends = (end.end() for end in islice(re.finditer(r"[\]})]", json), 20))
    for attempt in (*(json[:end] for end in ends), json + "']", json.rstrip(" ,") + "]"):
        with suppress(SyntaxError, ValueError, MemoryError, RecursionError):
            yield literal_eval(attempt)


def titles_in(value: Any) -> list[str]:
    """The titles in a JSON value: its own items, or those of the first list inside it."""
    if isinstance(value, dict):
        keys, items = [*map(str, value)], [*value.values()]
        are_titles = not any(key[:1].islower() or re.search(r"\d", key) for key in keys) and not _counts(keys)
        if are_titles and len(items) > 1 and len({*map(type, items)}) == 1:  # {"This": "why", "That": "how"}
            return keys
        if all(isinstance(item, str) for item in items):  # {"1": "This", "2": "That"}, or a list in a string
            return items if len(items) > 1 else _list("".join(items))
        if len(items) > 1 and all(isinstance(item, dict) for item in items):
            return titles_in(items)
        return next(filter(None, map(titles_in, items)), [])
    values = value if isinstance(value, list | tuple) else ()
    return [item for item in values if isinstance(item, str)] or _column(map(_texts, values))


def _texts(item: Any) -> list[str]:
    """The texts of a list's item, the title first."""
    if isinstance(item, dict):
        values = [item.get("title"), *(value for value in item.values() if not isinstance(value, list))]
        return [text for value in values for text in _texts(value)]
    texts = item if isinstance(item, list | tuple) else [item]
    return [text for text in texts if isinstance(text, str)]


def _column(rows: Iterable[list[str]]) -> list[str]:
    """The first column that has titles: letters in more than one row, which do not only count the rows."""
    for column in map(list, zip_longest(*rows, fillvalue="")):
        titled = sum(any(map(str.isalpha, cell)) for cell in column)
        if titled and titled >= min(2, len(column)) and not _counts(column):
            return column
    return []


def _counts(cells: list[str]) -> bool:
    """Whether the cells are nothing but numbers, such as "Step 1" and "Step 2"."""
    is_long = max(map(len, cells), default=0) > 1  # "A" may be a title
    lists = numbered((0, f"{cell}: x") for cell in cells)
    return is_long and any([item.title for item in items] == ["x"] * len(cells) for _, items, _ in lists)


class _Tags(HTMLParser):
    """Collects the first text of each element, by its depth, its name and its column in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.path, self.column, self.is_new = [""], 0, False
        self.titles: dict[tuple[bool, int, str, int], list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != self.path[-1] or self.is_new:  # `<li>` also ends the one before
            self.path.append(tag)
        self.column = 0 if tag == "tr" else self.column + (tag == "td")
        self.is_new = True
        self.handle_data(next((value for key, value in attrs if value and key in {"title", "name"}), ""))

    def handle_endtag(self, tag: str) -> None:
        while tag in self.path and self.path.pop() != tag:
            pass
        self.is_new = False

    def handle_data(self, data: str) -> None:
        tag = self.path[-1]
        if self.is_new and tag != "th" and any(map(str.isalpha, data)):
            self.titles.setdefault((tag == "p", len(self.path), tag, self.column), []).append(data)
            self.is_new = False


def _from_tags(text: str) -> list[str]:
    """The first texts of the elements that repeat, such as `<li>` or `<point>`; of paragraphs only without others."""
    parser = _Tags()
    with suppress(AssertionError):  # at "<![x"
        parser.feed(_INLINE_TAG.sub(r"**\2**", text) if _TAG.search(text) else "")
        parser.close()
    repeated = [kind for kind, titles in parser.titles.items() if len(titles) > 1]
    return parser.titles[min(repeated, key=lambda kind: kind[:2])] if repeated else []


def _from_table(text: str) -> list[str]:
    """The first column of a table that has titles, and not only numbers."""
    rows: list[list[str]] = []
    for token, inner in pairwise(_MARKDOWN.parse(text)):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "td_open":
            rows[-1].append(inner.content)
    return _column(filter(None, rows))


def _from_one_line(text: str) -> list[str]:
    """Items of a list on one line: "1. This 2. That 3. The other", or "• this • that"."""
    cuts: list[tuple[int, int]] = []
    line, origin = plain(text)
    start = _INLINE_START.search(line)
    for match in _INLINE_ITEM.finditer(line, start.end()) if start else ():
        if int(match[1]) == len(cuts) + 1:  # but not in "here are 3. things"
            cuts.append((origin[match.start()], origin[match.end()]))
    parts = [text[begin:end] for (_, begin), (end, _) in pairwise([*cuts, (len(text), len(text))])]
    bullet = _INLINE_BULLET.search(text)
    *items, last = parts if len(parts) > 1 else text.split(bullet[1])[1:] if bullet else [""]
    return [*items, _INLINE_END.split(last.lstrip(), maxsplit=1)[0]] if items else []  # without an afterword
