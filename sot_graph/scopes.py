"""What an outline may say of a point beside its title: what it covers, which points it builds on, how long it is.

Points that need the text of others: Jin et al., "Plato: Plan to Efficiently Decode for Large Language Model Inference",
2024, arXiv 2402.12280.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sot_graph.outline import clean_title, clean_titles
from sot_graph.state import Scope

logger = logging.getLogger(__name__)
WAVES = 3
"""Points that are written one after the other at most, each of which needs the one before."""
COVERS_LIMIT = 500
"""Characters of what a point covers."""


_FIELDS: Mapping[str, Any] = {
    "covers": lambda value: isinstance(value, str),
    "needs": lambda value: isinstance(value, list | tuple) and all(type(each) is int for each in value),
    "words": lambda value: type(value) is int and value > 0,
}


def check_items(outline: object) -> None:
    """Refuse what is no outline of a caller's.

    Raises:
        TypeError: It is no list, or an item is neither a title nor an object with one.
    """
    items = outline if isinstance(outline, list | tuple) else [None]
    for item in items:
        fields = {key: item[key] for key in item if key != "title"} if isinstance(item, Mapping) else {}
        is_known = all(value is None or (key in _FIELDS and _FIELDS[key](value)) for key, value in fields.items())
        if not isinstance(title_of(item), str) or not is_known:
            msg = (
                "`outline` must be a list of titles, such as ['Causes', 'Symptoms', 'Treatment'], or objects such as "
                "{'title': 'Treatment', 'covers': 'what helps', 'needs': [1], 'words': 60} (`title` at least), "
                f"not {outline!r:.200}."
            )
            raise TypeError(msg)


def title_of(item: Any) -> Any:
    """The title of an item of an outline."""
    return item.get("title") if isinstance(item, Mapping) else item


def items_in(value: Any) -> list[Any]:
    """The items of an outline that a model wrote as objects; what of them is unusable is left out."""
    points = value.get("points") if isinstance(value, Mapping) else value
    found: list[Any] = []
    for point in points if isinstance(points, list) else ():
        if isinstance(title := title_of(point), str):
            item = point if isinstance(point, Mapping) else {}
            known: Any = {key: item[key] for key in _FIELDS if key in item and _FIELDS[key](item[key])}
            found.append({"title": title, **known} if any(known.values()) else title)
    return found


def clean_items(items: Sequence[Any], most: int | None = None) -> tuple[list[str], list[Scope]]:
    """The titles of an outline, cleaned, and the scope of each; no scopes if there is nothing but titles.

    Args:
        items: Titles, and objects with a title.
        most: How many points are kept.
    """
    given = [title_of(item) for item in items]
    titles = clean_titles(given)
    numbers = {title.casefold(): number for number, title in reversed([*enumerate(titles, 1)])}
    is_whole = len(titles) == len(given)
    places = [n if is_whole else numbers.get(clean_title(title).casefold()) for n, title in enumerate(given, 1)]
    titles = titles[:most]
    scopes = [Scope() for _ in titles]
    for item, place in zip(items, places, strict=True):
        if isinstance(item, Mapping) and place and place <= len(titles) and not scopes[place - 1]:
            scopes[place - 1] = _clean(item, places)
    _keep_possible_needs(titles, scopes)
    return titles, scopes if any(scopes) else []


def items_of(titles: Sequence[str], scopes: Sequence[Scope]) -> list[Any]:
    """The items of an outline: a title alone where nothing else is said."""
    return [{"title": title, **scope} if scope else title for title, scope in zip(titles, scopes, strict=True)]


def with_scopes(edited: Sequence[Any], titles: Sequence[str], scopes: Sequence[Scope]) -> list[Any]:
    """An outline that a person has edited: a title that stays keeps its scope, unless the person gives one."""
    if not scopes:
        return [*edited]
    places = {title_of(item): number for number, item in enumerate(edited, 1)}
    kept = dict(zip(titles, scopes, strict=True))

    def item(edit: Any) -> Any:
        if not isinstance(edit, str) or not kept.get(edit):
            return edit
        needs = [places[titles[n - 1]] for n in kept[edit].get("needs", []) if titles[n - 1] in places]
        return {"title": edit, **kept[edit], "needs": needs}

    return [item(edit) for edit in edited]


def outlined(outline: Sequence[Any] | None, scopes: Sequence[Scope] | None) -> tuple[list[str], list[Scope]]:
    """The titles of the state's outline, and its scopes; none if somebody has put another outline in its place."""
    titles = [*map(title_of, outline or [])]
    return titles, [*scopes] if scopes and len(scopes) == len(titles) else []


def needs_of(scopes: Sequence[Scope], index: int) -> list[int]:
    """The indexes of the points that a point needs."""
    return scopes[index - 1].get("needs", []) if scopes else []


def _clean(item: Mapping[str, Any], places: Sequence[int | None]) -> Scope:
    scope = Scope()
    if covers := " ".join(str(item.get("covers") or "").split()).strip(" .;")[:COVERS_LIMIT]:
        scope["covers"] = covers
    if needs := [places[n - 1] if 0 < n <= len(places) else n for n in item.get("needs") or []]:
        scope["needs"] = sorted({n for n in needs if n is not None})
    if words := item.get("words"):
        scope["words"] = words
    return scope


def _keep_possible_needs(titles: Sequence[str], scopes: Sequence[Scope]) -> None:
    """Drop needs that cannot be met: of a point that there is not, of itself, in a circle, or in too many waves."""
    chains = _Chains(len(titles))
    for index, scope in enumerate(scopes, 1):
        for need in scope.get("needs", []):
            if not chains.add(index, need):
                is_known = 0 < need <= len(titles) and need != index
                why = "it leads to more than three waves, or in a circle" if is_known else "there is no such point"
                logger.warning("Point %d (%s) is written without point %d: %s.", index, titles[index - 1], need, why)
    for index, scope in enumerate(scopes, 1):
        if scope.pop("needs", None) and chains.needs[index]:
            scope["needs"] = chains.needs[index]


class _Chains:
    """Which points need which, and the longest chain of points that ends, and that begins, at each."""

    def __init__(self, count: int) -> None:
        self.needs: dict[int, list[int]] = {index: [] for index in range(1, count + 1)}
        self._needed_by: dict[int, list[int]] = {index: [] for index in self.needs}
        self._ends, self._begins = dict.fromkeys(self.needs, 1), dict.fromkeys(self.needs, 1)

    def add(self, index: int, need: int) -> bool:
        """Add a need, unless a chain becomes too long; one in a circle would."""
        if need not in self.needs or need == index or self._ends[need] + self._begins[index] > WAVES:
            return False
        self.needs[index].append(need)
        self._needed_by[need].append(index)
        _lengthen(index, self._ends[need] + 1, self._ends, self._needed_by)
        _lengthen(need, self._begins[index] + 1, self._begins, self.needs)
        return True


def _lengthen(index: int, length: int, lengths: dict[int, int], following: Mapping[int, Sequence[int]]) -> None:
    if length > lengths[index]:
        lengths[index] = length
        for each in following[index]:
            _lengthen(each, length + 1, lengths, following)
