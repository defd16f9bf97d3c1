"""Markers of list items in any script: what counts up from the first is a marker, and "A good start" is not."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

HEAD = 80  # characters of a line that may be its marker

_LIKE = {"Cf": "", "Mn": "", "Mc": "", "Me": "", "Ps": "(", "Pe": ")", "Pi": '"', "Pf": '"', "Pd": "-"}
_SPECIAL = {"\u20e3": ") ", "🔟": " (10) ", "º": "", "ª": "", "【": "[", "】": "] "}  # the first one makes a keycap of the digit before it
_CHINESE = "一二三四五六七八九十"
_ROMAN = " i ii iii iv v vi vii viii ix".split(" ")
_SYSTEMS = (
    [f"{'x' * (index // 10)}{_ROMAN[index % 10]}" for index in range(1, 40)],
    [*_CHINESE, *(f"十{one}" for one in _CHINESE[:9]), "二十"],
    *("abcdefghijklmnopqrstuvwxyz", "甲乙丙丁戊己庚辛壬癸", "イロハニホヘトチリヌ"),
)
_VALUES = [{name: value for value, name in enumerate(system, start=1)} for system in _SYSTEMS]
_NEAR = 6  # codes between the first two letters of an alphabet

_OPEN, _WORD = r"[^\w*]{0,6}(?P<mark>\*{1,2})?[^\w*]{0,3}", r"(?:[^\W\d_]{2,20}\s+)?"
_UNIT = r"(?:[a-z]{1,2}(?=[.:)]))?(?P<unit>[\u3041-\ud7a3]{0,3})"  # as in "1st:" and 第1章
_CLEAR = r"(?P<unit>)(?![^\W\d_])"
_STOP = r"(?(mark)(?P<closed>\*{1,2}+)?)(?P<stop>[.)\]][.:)]|[.:)、\]>|/,~=-]|\s+[:-](?=\s)|)(?(mark)(?P<ended>\*{1,2}+)?)"
_COUNTERS = (
    rf"(?P<shape>{_OPEN}[^\d\n*]{{0,20}}?(?:\d{{1,2}}\.)*)(?P<number>\d{{1,3}})(?!\d){_UNIT}",
    rf"(?P<shape>{_OPEN}(?:{_WORD}|[^\W\d_]))(?P<number>[{_CHINESE}]{{1,3}}){_UNIT}",
    rf"(?P<shape>{_OPEN}{_WORD})(?P<number>[ivx]{{1,5}}){_CLEAR}",
    rf"(?P<shape>{_OPEN})(?P<number>[^\W\d_]){_CLEAR}",
)
_PATTERNS = [re.compile(rf"{counter}{_STOP}(?P<gap>\s*+)(?=\S)", re.IGNORECASE) for counter in _COUNTERS]


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


def chains(lines: Sequence[str]) -> Iterator[tuple[list[Item], bool]]:
    """The lines whose markers count up from the first one, for each kind of marker; and whether they begin anew."""
    found: dict[tuple[str, ...], list[Item]] = {}
    for number, line in enumerate(lines):
        for kind, item in _items(number, line):
            found.setdefault(kind, []).append(item)
    for (system, *_), items in found.items():
        values = _values(system, [item.number for item in items])
        chain: list[Item] = []
        for item, value in zip(items, values, strict=True):
            chain += [item] if value == len(chain) + 1 else []
        if len(chain) > 1:
            yield chain, values.count(1) > 1


def _items(number: int, line: str) -> Iterator[tuple[tuple[str, ...], Item]]:
    """What the start of a line may be."""
    head, origin = plain(line[:HEAD])
    for pattern, systems in zip(_PATTERNS, ("d", "1", "0", "234o"), strict=True):
        if not (match := pattern.match(head)):
            continue
        shape, unit, stop, gap = (match[part] for part in ("shape", "unit", "stop", "gap"))
        is_sure = not any(map(str.isalpha, shape)) and systems in "d1" or not line[origin[match.start("number")]].isascii()
        is_range = head[match.end()].isdigit() and (not gap or stop.endswith("-"))
        if not is_range and (stop or (gap and (unit or is_sure))):
            mark = "" if match["closed"] or match["ended"] else match["mark"] or ""
            item = Item(number, match["number"].casefold(), mark + line[origin[match.end()] :])
            for system in systems if stop else systems.replace("o", ""):
                yield (system, shape.casefold(), unit, stop[:1]), item


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
