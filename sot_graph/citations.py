"""What a text cites: its citations, its links, and the lists that say what they stand for."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

_HEADING = re.compile(
    r"citations|footnotes|references?|sources?|(sources|works) cited|bibliography|quellen?|quellenangaben|referenzen|"
    r"einzelnachweise|literatur|références|bibliographie|fuentes|referencias|bibliograf[ií]a|fonti|riferimenti|fontes|"
    r"referências|bronnen|kilder|källor|źródła|zdroje|kaynaklar|источники|список литературы|джерела|المصادر|المراجع|"
    r"स्रोत|संदर्भ|来源|资料来源|参考文献|参考资料|參考資料|資料來源|引用|出典|参考資料|출처|참고문헌|nguồn|sumber",
    re.IGNORECASE,
)
_LONGEST, _WIDEST = 60, 20  # characters of a heading; numbers of a range, as in [1-20]
_CODE = re.compile(  # a fence that is not closed holds the rest
    r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(`{3,}|~{3,})[^`\n]*(?:\n(?:.*?^[ \t>]*\1[`~]*[ \t]*$|.*)|\Z)"
    r"|(?<!`)(`+)(?!`)[^\n]{1,400}?(?<!`)\2(?!`)",
    re.MULTILINE | re.DOTALL,
)
_HTTP, _IN_BRACKETS = r"https?://(?=[\w-]+\.)", r"\([^\s<>()]*+\)"
_STOP, _NO_URL = r".,;:!?'*_~", r"\s<>()\[\]\"`|\0\u201c\u201d\u3001-\u3011\uff01-\uff1f"
_URL = rf"{_HTTP}(?:[^{_NO_URL}{_STOP}]++|[{_STOP}]++(?=[^{_NO_URL}{_STOP}]|{_IN_BRACKETS})|{_IN_BRACKETS})++"
ADDRESS = re.compile(_URL, re.IGNORECASE)
TOKEN = re.compile(  # what is no source comes first, and has no name
    rf"""\\. | <(?!https?:)[a-z/!][^<>\n]*> | ^[ ]{{0,3}}\[[^\[\]\n]+\]:[ \t]+\S+
    | !?\[(?P<label> (?: [^\[\]\n]++ | \[[^\[\]\n]*+\] )*+ )\]
        \([ \t]*<?(?P<link> {_HTTP} (?: [^\s<>()\0]++ | {_IN_BRACKETS} )++ )>?
        (?: [ \t]+ (?: "[^"\n]*" | '[^'\n]*' | \([^()\n]*\) ) )?[ \t]*\)
    | (?P<open> \[\^?(?:citation:[ ]?)? | \u3010 )
        (?P<numbers> [0-9]{{1,4}} (?: [ ]?[,;\u2013-][ ]?[0-9]{{1,4}} )*+ )
        (?P<close> \^?\] | (?: †[^\u3011\n]{{,99}} )?\u3011 )
    | \[(?P<name> \^[^\[\]\s^]{{1,60}} )\]
    | <?(?P<url> {_URL} )>?""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_ITEM = re.compile(
    r"""[ ]{0,3}(?:[-*+•][ \t]+)?(?:\*\*)?
    (?: \[(?P<name> \^[^\[\]\s^]{1,60} )\^?\](?=:) | [\[\u3010](?P<bracket> [0-9]{1,4} )[\]\u3011](?![(\[])
        | (?P<number> [0-9]{1,4} )[.)](?=[*\s]) )
    (?:\*\*)?(?P<colon>:)?\.?[ \t]*(?:[-\u2013\u2014][ \t]+)?(?P<text>\S.*)""",
    re.VERBOSE,
)
_BULLET, _MORE = re.compile(r"[ ]{0,3}[-*+•][ \t]+(?=\S)"), re.compile(r"[ \t]{2,}\S|<?https?://", re.IGNORECASE)
_ONE_LINE = re.compile(r"(\W*[^\W\d_][^:\uff1a\[\]]{,60}[:\uff1a]\W*?)(?=\[[0-9]{1,4}\])")
_LABEL = re.compile(r"#{1,6} .*|\*\*.*\*\*:?|.*[:\uff1a]")
_RULE = re.compile(r"[ ]{0,3}([-=*_])\1{2,}[ ]*")
_REFERENCE = re.compile(r"""<?(https?://[^\s<>]+)>?(?: ["'(](.+)["')])?""", re.IGNORECASE)


class Source(NamedTuple):
    """What a citation stands for."""

    key: str  # the same where it is named again
    text: str  # as a list shows it


class Item(NamedTuple):
    """A line of a list, and where in the text its source is described."""

    kind: Literal["definition", "bracket", "number", "bullet"]
    name: str  # how it is cited; "" if it cannot be
    start: int
    end: int


class SourceList(NamedTuple):
    """A list of sources, and where in the text it is."""

    start: int
    end: int
    heading: str
    items: list[Item]


def without_code(text: str) -> str:
    """The text with its code blanked out."""
    return _CODE.sub(lambda code: blank(code[0]), text)


def blank(text: str) -> str:
    """As many characters, on as many lines."""
    return re.sub(r"[^\n]", "\0", text)


def numbers_of(text: str) -> Iterator[int]:
    """1, 3, 4, 5 of "1, 3-5"."""
    for part in re.split("[,;]", text):
        ends = [int(each) for each in re.split("[\u2013-]", part)]
        yield from range(ends[0], ends[-1] + 1) if 0 < ends[-1] - ends[0] < _WIDEST else ends


def address_key(address: str) -> str:
    """The same for addresses that differ in nothing that matters."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    query = "&".join(each for each in parts.query.split("&") if not each.lower().startswith("utm_"))
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}?{query}"


def described(text: str) -> Source:
    """The source that a line of a list describes."""
    text = " ".join(text.split()).rstrip("\\ ,;")
    if reference := _REFERENCE.fullmatch(text):
        text = f"[{reference[2]}]({reference[1]})" if reference[2] else reference[1]
    found = ADDRESS.search(text)
    return Source(address_key(found[0]) if found else text.casefold().rstrip("."), text)


def source_lists(shown: str) -> Iterator[SourceList]:
    """Find the lists of sources in a text without code."""
    lines, spans, bottom = list(re.finditer(r"^.*$", shown, re.MULTILINE)), _spans(shown), len(shown.rstrip())
    at = floor = 0
    while at < len(lines):
        if not lines[at][0].strip():
            at += 1
            continue
        top, heading, is_known = _above(lines, at, floor)
        items, after = _items(lines, at, is_known=is_known)
        if one_line := _one_line(lines[at]):
            top, after, (heading, items) = at, at + 1, one_line
        if items and items[0].kind == "definition" and not (is_known or heading.startswith("#") or one_line):
            top, heading = at, ""  # it needs no heading, so what is above may be text
        start, end = lines[at].start(), lines[max(at, after - 1)].end()
        outside = (spans.get(item.name, (end, 0)) for item in items)
        cited = [first < start or last >= end for first, last in outside]
        texts = [shown[item.start : item.end] for item in items]
        if items and _is_list(items[0].kind, texts, cited, is_known=is_known, is_last=end >= bottom):
            yield SourceList(lines[top].start(), end, heading, items)
            floor = after
        at = max(after, at + 1)


def _spans(shown: str) -> dict[str, tuple[int, int]]:
    """Where each number is cited first and last."""
    spans: dict[str, tuple[int, int]] = {}
    for found in TOKEN.finditer(shown):
        for number in map(str, numbers_of(found["numbers"]) if found["numbers"] else ()):
            spans[number] = (spans.get(number, found.span())[0], found.start())
    return spans


def _is_list(kind: str, texts: Sequence[str], cited: Sequence[bool], *, is_known: bool, is_last: bool) -> bool:
    """Whether lines are sources: by their form, their heading, their addresses, or because the text cites them."""
    have_addresses = all(map(ADDRESS.search, texts))
    if kind == "definition":
        return True
    if kind == "bracket":
        return is_known or (is_last and (all(cited) or (any(cited) and have_addresses)))
    if is_known:
        return have_addresses or any(cited)
    return is_last and any(cited) and have_addresses and not any(re.search(r"\[[0-9]", text) for text in texts)


def _above(lines: Sequence[re.Match[str]], at: int, floor: int) -> tuple[int, str, bool]:
    """The first line of what belongs to a list, its heading, and whether that is one of sources."""

    def filled(below: int) -> int:
        return next((each for each in (below - 1, below - 2) if each >= floor and lines[each][0].strip()), -1)

    first = last = filled(at)
    if first > floor and _RULE.fullmatch(lines[first][0]) and lines[first - 1][0].strip():
        first -= 1  # a heading with a line under it
    line = lines[first][0].strip() if first >= 0 else ""
    is_known = _is_heading(line)
    is_label = first == last and len(line) <= _LONGEST and _LABEL.fullmatch(line) and not re.search(r"\[|://|\0", line)
    heading = "\n".join(each[0].strip() for each in lines[first : last + 1]) if is_known or is_label else ""
    top = first if heading else at
    rule = filled(top)
    if rule >= 0 and _RULE.fullmatch(lines[rule][0]) and (rule == floor or not lines[rule - 1][0].strip()):
        top = rule
    return top, heading, is_known


def _is_heading(line: str) -> bool:
    is_short = len(line) <= _LONGEST and not re.search(r"[\[\]`<\\\0]", line)
    return is_short and _HEADING.fullmatch(re.sub(r"^[\W\d_]+|[\W_]+$", "", line)) is not None


def _items(lines: Sequence[re.Match[str]], at: int, *, is_known: bool) -> tuple[list[Item], int]:
    """The items of one kind that begin at a line, and the line after them."""
    items: list[Item] = []
    after = at
    for index in range(at, len(lines)):
        line = lines[index]
        item = _item(line, may_be_bullet=is_known, may_be_bare=is_known and index == after)
        if item and (not items or item.kind == items[0].kind):
            items.append(item)
        elif items and index == after and _MORE.match(line[0]):
            items[-1] = items[-1]._replace(end=line.end())
        elif line[0].strip():
            break
        else:
            continue
        after = index + 1
    return items, after


def _item(line: re.Match[str], *, may_be_bullet: bool, may_be_bare: bool) -> Item | None:
    if found := _ITEM.match(line[0]):
        is_definition = found["name"] or (found["colon"] and _REFERENCE.match(found["text"]))
        kind: Any = "definition" if is_definition else "bracket" if found["bracket"] else "number"
        name = found["name"] or found["bracket"] or found["number"]
        return Item(kind, name, line.start() + found.start("text"), line.end())
    bullet = _BULLET.match(line[0])
    if (bullet and may_be_bullet) or (
        may_be_bare and not line[0].lstrip().startswith((">", "|")) and ADDRESS.search(line[0])
    ):
        return Item("bullet", "", line.start() + (bullet.end() if bullet else 0), line.end())
    return None


def _one_line(line: re.Match[str]) -> tuple[str, list[Item]] | None:
    """The heading and the items of "Sources: [1] https://a.org, [2] https://b.org"."""
    found = _ONE_LINE.match(line[0])
    if not found or not _is_heading(found[1].strip()):
        return None
    names = list(re.finditer(r"\[([0-9]{1,4})\](?!\()[: ]*", line[0]))
    ends = [*(name.start() for name in names[1:]), len(line[0])]
    if not all(ADDRESS.search(line[0], name.end(), end) for name, end in zip(names, ends, strict=True)):
        return None
    at = line.start()
    return found[1].strip(), [
        Item("definition", n[1], at + n.end(), at + end) for n, end in zip(names, ends, strict=True)
    ]
