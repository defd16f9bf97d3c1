"""Markers of list items in any script: what counts up from the first is a marker, and "A good start" is not."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

HEAD = 80  # characters of a line that may be its marker

_LIKE = {"Cf": "", "Mn": "", "Mc": "", "Me": "", "Ps": "(", "Pe": ")", "Pi": '"', "Pf": '"', "Pd": "-"}
# The first one makes a keycap of the digit before it.
_SPECIAL = {"\u20e3": ") ", "🔟": " (10) ", "º": "", "ª": "", "【": "[", "】": "] ", "।": ".", "\u06d4": "."}
_CHINESE = "一二三四五六七八九十"
_ROMAN = ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")
_SYSTEMS = (
    [f"{'x' * (index // 10)}{_ROMAN[index % 10]}" for index in range(1, 40)],
    [*_CHINESE, *(f"十{one}" for one in _CHINESE[:9]), "二十"],
    *("abcdefghijklmnopqrstuvwxyz", "甲乙丙丁戊己庚辛壬癸", "イロハニホヘトチリヌ"),
)
_VALUES = [{name: value for value, name in enumerate(system, start=1)} for system in _SYSTEMS]
_NEAR = 6  # codes between the first two letters of an alphabet

_OPEN, _WORD = r"[^\w*]{0,6}(?P<mark>\*{1,2}|__)?[^\w*]{0,3}", r"(?:[^\W\d_]{2,20}\s+)?"
_UNIT = r"(?P<unit>[a-z]{1,2}(?=[.:)])|[\u3041-\ud7a3]{0,3})"  # as in "1st:" and 第1章
_STOP = r"(?P<stop>[.)\]](?:[.:)]|\s[.:、](?=\s))|[.:)、\]}>|/,~=-]|\s+[:-](?=\s)|)"
_END = rf"(?(mark)(?P<closed>(?P=mark))?){_STOP}(?(mark)(?P<ended>(?P=mark))?)(?P<gap>\s*+)(?=\S|$)"
_PATTERNS = [
    (re.compile(rf"(?P<shape>{_OPEN}{before})(?P<number>{number}){_UNIT}{_END}", re.IGNORECASE), systems)
    for before, number, systems in (
        (r"[^\d\n*]{0,20}?(?:\d{1,2}\.)*", r"\d{1,3}(?!\d)", "d"),
        (rf"(?:{_WORD}|[^\W\d_])", rf"[{_CHINESE}]{{1,3}}", "1"),
        (_WORD, r"[ivx]{1,5}(?![^\W\d_])", "0"),
        ("", r"[^\W\d_](?![^\W\d_])", "234o"),
    )
]


_CLEAR = re.compile(r"\s*(?:(?:#+|[-*+])\s+)?\**(?:(?:point|step|part|item|section)\s+)?[(\[]?", re.IGNORECASE)


class Item(NamedTuple):
    """A line with a marker that counts, such as "II." or "Punkt 2:"."""

    line: int
    number: str
    title: str


@lru_cache(maxsize=4096)
def _plain_char(char: str) -> str:
    category, value = unicodedata.category(char), unicodedata.numeric(char, 0)
    if char.isascii() or char in _SPECIAL:
        return _SPECIAL.get(char, char)
    form = unicodedata.decomposition(char)
    if category == "Nd":
        return str(int(value))
    if category == "No" and value == int(value) and "<su" not in form:
        return f" ({int(value)}) "
    if category == "Lo" and value in range(1, 11):
        return _CHINESE[int(value) - 1]
    if category == "So":
        return f" ({unicodedata.normalize('NFKC', char)}) " if form.startswith("<circle>") else char
    like = _LIKE.get(category, unicodedata.normalize("NFKC", char))
    is_wide = unicodedata.east_asian_width(char) in "FW" and category in {"Po", "Pe"}
    return like + " " * (is_wide and char not in "、・")


def plain(text: str) -> tuple[str, list[int]]:
    """Text with ASCII digits, brackets, dashes and stops for those of all scripts, and where each character was.

    It has no signs without a width of their own, such as marks of the writing direction.
    """
    pieces = [*map(_plain_char, text)]
    return "".join(pieces), [*(at for at, piece in enumerate(pieces) for _ in piece), len(text)]


def names(index: int) -> list[str]:
    """How a point's number is written: in digits, as a roman or a Chinese numeral, as a letter."""
    return [str(index), *(system[index - 1] for system in _SYSTEMS[:3] if 0 < index <= len(system))]


def numbered(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[Item], bool]]:
    """The lists with numbers or letters in lines that are given with their depths.

    Each comes with its depth, and with whether it is weak: its numbers begin anew, or it has one item.
    """
    found: dict[tuple[Any, ...], list[Item]] = {}
    for at, (depth, line) in enumerate(lines):
        for kind, item in _items(at, line):
            found.setdefault((depth, *kind), []).extend([item] if item.title else [])
    for (depth, system, shape, *_, is_clear), items in found.items():
        values = _values(system, [item.number for item in items])
        starts, chain = values.count(1), list[Item]()
        for item, value in zip(items, values, strict=True):
            chain += [item] if value == len(chain) + 1 else []
        is_chain, is_sub = len(chain) > 1, bool(re.search(r"\d", shape))  # as in "1.1"
        if is_chain or (is_clear and (len(items) > 1 or starts)):
            yield depth + is_sub, items if is_clear else chain, starts > 1 or starts == len(items)


def unmarked(line: str) -> str:
    """The line without a number or a letter that is a marker without others beside it, such as "1." or "a)"."""
    return next((item.title for kind, item in _items(0, line) if kind[-1]), line)


def _items(at: int, line: str) -> Iterator[tuple[tuple[Any, ...], Item]]:
    """What the start of a line may be: the kind of its marker, and the item."""
    head, origin = plain(line[:HEAD])
    for pattern, systems in _PATTERNS:
        if not (match := pattern.match(head)):
            continue
        shape, unit, stop, gap = (match[part] for part in ("shape", "unit", "stop", "gap"))
        is_bare = not any(map(str.isalpha, shape))
        is_sure = (is_bare and systems in {"d", "1"}) or not line[origin[match.start("number")]].isascii()
        is_range = head[match.end() :][:1].isdigit() and (
            stop.endswith("-") if gap else stop != "、"
        )  # "5 - 7 cups", "24/7"
        is_title = match["closed"] and systems != "d"  # "**A**: what it says"
        if is_range or is_title or not (stop or (gap and (unit or is_sure))):
            continue
        stops = {"d": ".:)]、-" if gap else ".:)]、", "1": ".:)、"}.get(systems, ")" if gap else "")
        is_clear = stop != "" and stop[-1] in stops and not unit and _CLEAR.fullmatch(shape) is not None
        mark = "" if match["closed"] or match["ended"] else match["mark"] or ""
        item = Item(at, match["number"].casefold(), mark + line[origin[match.end()] :])
        for system in systems if stop else systems.replace("o", ""):
            yield (
                (system, shape.casefold(), "" if unit.isascii() else unit, "" if is_clear else stop[:1], is_clear),
                item,
            )


def _values(system: str, numbers: list[str]) -> list[int]:
    if system == "d":
        return [*map(int, numbers)]
    if system != "o":
        return [_VALUES[int(system)].get(number, 0) for number in numbers]
    # The letters of an alphabet, whose order is known only for the first two.
    letters = list(dict.fromkeys(number for number in numbers if not number.isascii()))
    first, second = (ord(unicodedata.normalize("NFD", letter)[0]) for letter in letters[:2]) if letters[1:] else (0, 0)
    order = {letter: value for value, letter in enumerate(letters, start=1)} if 0 < second - first <= _NEAR else {}
    return [order.get(number, 0) for number in numbers]
