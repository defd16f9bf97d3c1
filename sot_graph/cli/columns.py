"""The columns of a Parquet file: each has one type; a column with several becomes text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 2**63
"""A whole number that a column of numbers cannot hold."""
MOST_FIELDS = 200
"""An object with more names than this, over all rows, is a mapping rather than a record."""
MIXED = "mixed"


@dataclass
class Columns:
    """The types of the columns, learned from the rows."""

    _types: dict[str, Any] = field(default_factory=dict)

    def note(self, row: Mapping[str, Any]) -> None:
        """Learn the types of a row."""
        for name, value in row.items():
            self._types[name] = _both(self._types.get(name), _type(value))

    def fitted(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with text in the columns of several types."""
        return {name: as_text(value) if _is_mixed(self._types[name]) else value for name, value in row.items()}


def as_text(value: Any) -> str | None:
    """A text as it is, other values as JSON; None stays."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _type(value: Any) -> Any:
    """A name; for a list, a list with the type of its items; for an object, the types of its fields."""
    if isinstance(value, list):
        found = None
        for item in value:
            found = _both(found, _type(item))
        return [found]
    if isinstance(value, dict):
        return {name: _type(each) for name, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return "number" if -LARGEST <= value < LARGEST else MIXED
    return None if value is None else "number" if isinstance(value, float) else type(value).__name__


def _both(one: Any, other: Any) -> Any:
    """A type that has room for both."""
    if one is None or other is None or one == other:
        return other if one is None else one
    if isinstance(one, list) and isinstance(other, list):
        return [_both(one[0], other[0])]
    if isinstance(one, dict) and isinstance(other, dict):
        fields = one | {name: _both(one.get(name), each) for name, each in other.items()}
        return fields if len(fields) <= MOST_FIELDS else MIXED
    return MIXED


def _is_mixed(kind: Any) -> bool:
    """Whether it has several types, or an object without fields, which Parquet does not know."""
    if isinstance(kind, dict):
        return not kind or any(map(_is_mixed, kind.values()))
    return _is_mixed(kind[0]) if isinstance(kind, list) else kind == MIXED
