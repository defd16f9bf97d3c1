"""The option `--against`: options of the graph as text, such as `lead=true,max_points=4`."""

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sot_graph.graph import create_sot_graph
from sot_graph.text import storable

SENSELESS = {"checkpointer", "name", "on_error", "review"}
"""They have plain values, but say nothing of an answer, or need a person or a thread."""
WORDS: dict[Any, dict[str, Any]] = {NoneType: {"none": None}, bool: {"true": True, "false": False}}
"""What is written for a value of these types."""
TYPES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text"}
"""The other types, in the order in which they are tried."""
ITEM = re.compile(
    r"""\s*(?P<name>[^=,"'\s][^=,"']*?)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^,"'\s][^,]*)\s*(?:,|$)""", re.DOTALL
)
BARE = re.compile(r"(?!(?:none|true|false)$)[\w.:/+-]+", re.IGNORECASE)
"""A text that needs no quotes."""


@dataclass(frozen=True)
class Kind:
    """The plain values that an option may have."""

    words: dict[str, Any]
    types: set[type]

    def read(self, text: str, *, is_quoted: bool) -> Any:
        """Read a value. A quoted text is no word such as `none` if the option takes a text.

        Raises:
            ValueError: The option cannot have this value.
        """
        if text.lower() in self.words and not (is_quoted and str in self.types):
            return self.words[text.lower()]
        for kind in TYPES:
            try:
                if kind in self.types:
                    return kind(text)
            except ValueError:
                continue
        raise ValueError

    def __str__(self) -> str:
        names = [name for kind, name in TYPES.items() if kind in self.types]
        names += sorted(self.words, key="none".__eq__)
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def plain_options() -> dict[str, Kind]:
    """The options of `create_sot_graph` that may change, by name, from its signature."""
    hints = get_type_hints(create_sot_graph)
    kinds = {name: _kind(hints[name]) for name in _defaults() if name not in SENSELESS}
    return {name: kind for name, kind in kinds.items() if kind.types or set(kind.words) - {"none"}}


def _defaults() -> dict[str, Any]:
    parameters = inspect.signature(create_sot_graph).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is Literal:
        return Kind({str(choice).lower(): choice for choice in get_args(hint)}, set())
    if get_origin(hint) in {Union, UnionType}:
        kinds = [_kind(each) for each in get_args(hint)]
        words = {word: value for kind in kinds for word, value in kind.words.items()}
        return Kind(words, set().union(*(kind.types for kind in kinds)))
    return Kind(WORDS.get(hint, {}), {hint} & set(TYPES))


def read_change(text: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """Read the options that change. Long texts come last, so that a short name of the change has the others.

    Args:
        text: `name=value`, divided by commas. A text with commas stands in quotes; in double quotes, with the escapes
            of JSON.
        base: The options of the other graph.

    Raises:
        ValueError: An option is not valid, or nothing changes.
    """
    options, found = plain_options(), dict[str, Any]()
    valid = f"These options can change: {', '.join(sorted(options))}."
    for name, value in _items(text):
        if name not in options:
            msg = f"{name!r:.80} cannot change. {valid}"
            raise ValueError(msg)
        if name in found:
            msg = f"{name} stands there twice."
            raise ValueError(msg)
        found[name] = _value(name, value, options[name])
    if not found:
        msg = f"no option is named. {valid}"
        raise ValueError(msg)
    found = dict(sorted(found.items(), key=lambda item: (len(_written(item[1])), item[0])))
    base = {**_defaults(), **base}
    if all(base[name] == value for name, value in found.items()):
        msg = f"nothing changes: the graph has {write_change(found)} already."
        raise ValueError(msg)
    return found


def _items(text: str) -> list[tuple[str, str]]:
    items, start, text = [], 0, text.strip()
    while start < len(text):
        item = ITEM.match(text, start)
        if item is None:
            msg = (
                f"{text[start:]!r:.80} is not name=value. Divide options by commas; a text with commas, and an empty "
                'one, stands in quotes: system_prompt="Short, please."'
            )
            raise ValueError(msg)
        items.append((item["name"].replace("-", "_"), item["value"].strip()))
        start = item.end()
    return items


def _value(name: str, written: str, kind: Kind) -> Any:
    is_quoted = written[0] in "\"'"
    try:
        text = json.loads(written, strict=False) if written[0] == '"' else written.strip("'" * is_quoted)
        return kind.read(storable(text), is_quoted=is_quoted)
    except ValueError:
        msg = f"{name} must be {kind}, not {written:.80}."
        raise ValueError(msg) from None


def write_change(change: Mapping[str, Any]) -> str:
    """Write options as they can be read."""
    return ",".join(f"{name}={_written(value)}" for name, value in change.items())


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value if BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return str(value).lower().removesuffix(".0")
