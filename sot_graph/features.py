"""What a router weighs in a question: its words and the classes they belong to, signs of any script, and length.

Training and routing share it, so that what was trained is what decides.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

HEAD, TAIL = 240, 120
"""Characters that are read at the beginning and at the end: what is pasted between them does not name the task."""
DENSITY = 3
"""How many times fewer those are in Chinese, Japanese, Korean or Thai, which say more in one."""
OPENING, CLOSING = 3, 2
"""Words at the beginning and at the end that are features of their own."""
EDGE = 6
"""Characters at the beginning and at the end, where words have no spaces between them."""
STEM = 5
"""Letters that stand for a longer word with any ending."""
PREFIXES = range(2, 9)
"""Lengths of the beginnings that a class may name, as in `explain*`."""
GRAMS, SHORT_GRAMS = range(1, 5), range(2, 4)
"""Characters of what a class may name, where words have no spaces between them, and of what is a feature itself."""
SHARE = 0.35
"""The value of a feature that is no word of the question."""
# Marks are parts of words: without them, words of Devanagari and of Arabic with vowels fall apart.
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0dff"
_WORD = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[\w{_MARKS}])+")
_DIGITS = re.compile(r"\d+")
_SIGNS = {
    "sum": re.compile(r"\d\s*[-+*/^=<>×÷%]\s*\(?\s*[\w(]|\b[a-z]\s*[=<>^²³+]\s*\w|[√∫∑π²³]"),  # noqa: RUF001 - meant
    "code": re.compile(
        r"`|[{}\[\]<>]|\bC(?:\+\+|#)|\w\(|==|!=|->|=>|::|//|;\s*$|\b[a-z]+_[a-z_]+\b|\b[a-z]+[A-Z]\w+|\w\.[a-z]{2,4}\b"
    ),
    "lines": re.compile(r"\n\s*\S"),
    "quote": re.compile(r"[\"“”«»„「『]|(?<!\w)'"),
    "colon": re.compile(r"[:：]\s*\S"),  # noqa: RUF001 - of East Asia
    "question": re.compile(r"[?？؟]\s*$"),  # noqa: RUF001 - the same
    "sentences": re.compile(r"[.!?。！？।؟]\s*(?=\S)"),  # noqa: RUF001 - the same
    "number": re.compile(r"\d"),
    "numbers": re.compile(r"\d\D+\d"),
}
"""What questions of all languages have in common."""


class Term(NamedTuple):
    """A word, or some characters where words have no spaces between them, and where it stands."""

    text: str
    is_first: bool
    is_last: bool
    forms: Sequence[str]
    """What the list of a class may have of it: the word, and its beginnings."""
    is_short: bool = True
    """Whether it is a feature of its own, and not only looked up in the classes."""


def lexicon_of(classes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The class of each word, of words that stand together, and of beginnings of words (`explain*`)."""
    return {word: name for name, words in classes.items() for word in words}


def as_terms(text: str) -> str:
    """A text as its words are compared: in one form, without case, and a space between two words."""
    return " ".join(word for word, _ in _words(text))


def features(question: str, lexicon: Mapping[str, str]) -> dict[str, float]:
    """The features of a question with their values; those of its words are together a vector of length 1."""
    text = _clip(question.strip())
    words = _words(text)
    terms, classes = set[str](), set[str]()
    for term in _terms(words):
        edges = "^" * term.is_first + "$" * term.is_last
        if term.is_short:
            terms.update((term.text, *(edge + term.text for edge in edges)))
        for name in {lexicon[form] for form in term.forms if form in lexicon}:
            classes.update((f"@{name}", *(f"{edge}@{name}" for edge in edges)))
    plain = sorted(name for name in classes if name[0] == "@")
    size = sum(len(word) / 2 if is_unspaced else 1 for word, is_unspaced in words)
    others = {*classes, *map("+".join, combinations(plain, 2))}
    others.update(f"#{name}" for name, sign in _SIGNS.items() if sign.search(text))
    others.add(f"#length {min(int(2 * math.log2(size + 1)), 14)}")
    value = 1 / math.sqrt(len(terms) or 1)
    return {**dict.fromkeys(terms, value), **dict.fromkeys(others, SHARE)}


def _words(text: str) -> list[tuple[str, bool]]:
    """The words of a text, and whether each is of a script without spaces, so that it may be a whole sentence."""
    runs = _WORD.finditer(_DIGITS.sub("0", unicodedata.normalize("NFKC", text).casefold()))
    return [(run[0], run["unspaced"] is not None) for run in runs]


def _clip(text: str) -> str:
    density = DENSITY if re.search(f"[{_UNSPACED}]{{2}}", text[:HEAD]) else 1
    head, tail = HEAD // density, TAIL // density
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def _terms(words: Sequence[tuple[str, bool]]) -> Iterator[Term]:
    for place, (word, is_unspaced) in enumerate(words):
        is_first, is_last = place < OPENING, place >= len(words) - CLOSING
        if is_unspaced:
            yield from _grams(word, is_first=is_first, is_last=is_last)
            continue
        beginnings = (f"{word[:length]}*" for length in PREFIXES if length <= len(word))
        yield Term(word, is_first, is_last, (word, *beginnings))
        if len(word) > STEM:
            yield Term(f"{word[:STEM]}*", is_first, is_last, ())
        for count in (2, 3):
            several = " ".join(each for each, _ in words[place : place + count])
            yield Term(several, is_first, is_last, (several,), is_short=count == 2 or place == 0)  # noqa: PLR2004


def _grams(word: str, *, is_first: bool, is_last: bool) -> Iterator[Term]:
    for length in GRAMS:
        for start in range(len(word) - length + 1):
            gram = word[start : start + length]
            begins, ends = start + length <= EDGE, start >= len(word) - EDGE
            yield Term(gram, is_first and begins, is_last and ends, (gram,), is_short=length in SHORT_GRAMS)
