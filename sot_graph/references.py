"""The points' own lists of sources become one."""

import re
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import count

from sot_graph.citations import (
    ADDRESS,
    TOKEN,
    Source,
    address_key,
    blank,
    described,
    numbers_of,
    source_lists,
    without_code,
)
from sot_graph.messages import GAP
from sot_graph.state import Point

_OWN_NUMBER = re.compile(r"\[?\^?([0-9]{1,2})\^?\]?")
"""The text of a link that is a citation, as in `[[1]](https://a.org)`."""
_NEAR = len(" (")


def merge_with_references(points: Sequence[Point]) -> str:
    """Join the points, with one list of their sources at the end, numbered through.

    Each point may have numbers of its own, as agents with a search write them: `[1]`, `[1, 2]`, `[^1]`, with a list
    below. The lists become one, under the first one's heading, and a source that several points name is in it once.
    A link stays where it is, and its number stands behind it. A citation without a source stays as it is, and no
    source gets its number. Code stays as it is.

    Args:
        points: The written points.

    Returns:
        The answer. Without citations and links, it is what the default merge makes.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph, merge_with_references

        graph = create_sot_graph(DemoChatModel(), merge=merge_with_references)  # expander= an agent with a search
        print(graph.invoke({"question": "How can I sleep better?"})["answer"])
        ```
    """
    parts = [_Part(point["text"]) for point in points if point["text"]]
    taken = {number for part in parts for number in part.undefined()}
    free = (number for number in count(1) if number not in taken)
    numbers: dict[str, int] = {}
    texts: dict[str, str] = {}

    def number_of(source: Source) -> int:
        if source.key not in numbers:
            numbers[source.key] = next(free)
        if source.key not in texts or (ADDRESS.fullmatch(texts[source.key]) and not ADDRESS.fullmatch(source.text)):
            texts[source.key] = source.text  # a title says more
        return numbers[source.key]

    bodies = [part.numbered(number_of) for part in parts]
    for source in (source for part in parts for source in part.listed):
        number_of(source)  # those that no text cites come last
    headings = [each.heading for part in parts for each in part.lists if each.heading]
    lines = [f"[{number}] {texts[key]}" for key, number in numbers.items()]
    listed = [*(headings or ["References"])[:1], "  \n".join(lines)] if lines else []
    return GAP.join([*filter(None, bodies), *listed])


class _Part:
    """The text of a point: its lists of sources, and what stands for a source in the rest."""

    def __init__(self, text: str) -> None:
        self.text = text
        shown = without_code(text)
        self.lists = list(source_lists(shown))
        self._defined: dict[str, tuple[list[int], list[Source]]] = {}
        self.listed: list[Source] = []
        for start, item in ((each.start, item) for each in self.lists for item in each.items):
            self.listed.append(described(text[item.start : item.end]))
            starts, sources = self._defined.setdefault(item.name, ([], []))
            starts.append(start)
            sources.append(self.listed[-1])
        shown = _edited(shown, [(start, end, blank(shown[start:end])) for start, end, *_ in self.lists])
        tokens = [found for found in TOKEN.finditer(shown) if found.lastgroup and found[0][0] != "!"]
        self._cited = [(token, self._sources(token)) for token in tokens]

    def undefined(self) -> set[int]:
        """The numbers of citations without a source."""
        cited = (each for _token, sources in self._cited for each in sources.items())
        return {int(name) for name, source in cited if source is None and name.isdecimal()}

    def numbered(self, number_of: Callable[[Source], int]) -> str:
        """The text without its lists, and with the numbers of the whole answer."""
        edits = []
        for at, (token, sources) in enumerate(self._cited):
            if any(sources.values()):
                numbers = [number_of(source) if source else int(name.strip("^")) for name, source in sources.items()]
                edits.append(_edit(token, list(dict.fromkeys(numbers)), is_cited=self._is_cited(at)))
        for start, end, *_ in self.lists:
            above = next(at for at in range(start, -1, -1) if not at or not self.text[at - 1].isspace())
            edits.append((above, end, ""))
        text = _edited(self.text, sorted(edits))
        return text.strip("\n") if self.lists else text

    def _is_cited(self, at: int) -> bool:
        """Whether the next citation stands right behind this one, and has its source."""
        (token, sources), (after, others) = self._cited[at], self._cited[min(at + 1, len(self._cited) - 1)]
        keys = {source.key for source in others.values() if source}
        nearest = _NEAR if "" in sources else 0  # a link stands before its citation, and two citations touch
        return 0 <= after.start() - token.end() <= nearest and all(
            each and each.key in keys for each in sources.values()
        )

    def _sources(self, token: re.Match[str]) -> dict[str, Source | None]:
        """The sources of a token, by what it calls them."""
        if address := token["link"] or token["url"]:
            label = token["label"] or ""
            is_bare = not label or "![" in label or _OWN_NUMBER.fullmatch(label)
            return {"": Source(address_key(address), address if is_bare else self.text[token.start() : token.end()])}
        mark = "^" if "^" in token[0] else ""
        names = [token["name"]] if token["name"] else [f"{mark}{number}" for number in numbers_of(token["numbers"])]
        return {name: self._named(name, token.start()) for name in names}

    def _named(self, name: str, at: int) -> Source | None:
        """The source that a name stands for: of several lists, the next one below has it."""
        starts, sources = self._defined.get(name) or self._defined.get(name.removeprefix("^")) or ([], [])
        return sources[min(bisect(starts, at), len(sources) - 1)] if sources else None


def _edit(token: re.Match[str], numbers: Sequence[int], *, is_cited: bool) -> tuple[int, int, str]:
    """What changes where something stands for a source."""
    if own := _OWN_NUMBER.fullmatch(token["label"] or ""):
        at = token.start("label")
        return at + own.start(1), at + own.end(1), f"{numbers[0]}"
    if token["link"] or token["url"]:
        return token.end(), token.end(), "" if is_cited else f" [{numbers[0]}]"
    return *token.span(), "" if is_cited else _renumbered(token, numbers)


def _renumbered(token: re.Match[str], numbers: Sequence[int]) -> str:
    """A citation with other numbers."""
    comma, dash = (re.search(between, token["numbers"] or "") for between in ("[ ]?[,;][ ]?", "[\u2013-]"))
    inner = (comma[0] if comma else ", ").join(map(str, numbers))
    if dash and not comma and len(numbers) > 1 and [*numbers] == [*range(numbers[0], numbers[-1] + 1)]:
        inner = f"{numbers[0]}{dash[0]}{numbers[-1]}"
    return f"{token['open'] or '['}{inner}{token['close'] or ']'}".replace("^", "")


def _edited(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """The text with pieces of it replaced."""
    pieces, at = [], 0
    for start, end, new in edits:
        pieces += [text[at:start], new]
        at = end
    return "".join([*pieces, text[at:]])
