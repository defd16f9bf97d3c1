"""A trained router: whether a question suits an outline, by weights from a file, without a model call.

A router is data: words and their weights. `sot_graph/evaluation/training.py` makes it of labelled questions.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from sot_graph.features import features, lexicon_of

FORMAT = "sot-graph router"
VERSION = 1
"""The newest version of the format that is read here."""
DEFAULT = "router.json"
"""The router that comes with the package."""


_MOST = 1e100
"""No number of a router is larger; neither NaN nor infinity is a number here."""


@dataclass(frozen=True, eq=False)
class Router:
    """Decides by trained weights whether a question suits an outline: as `route` of `create_sot_graph`.

    `load_router` makes it from a file.

    Attributes:
        threshold: How certain it must be, from 0.5 to 1; below, it leaves the decision to the outline's call.

    Example:
        ```python
        from sot_graph import load_router

        router = load_router()
        print(router("What are the advantages of bees in a garden?"), router("Solve 3x + 5 = 20 for x."))
        ```
    """

    threshold: float
    bias: float = field(repr=False)
    weights: Mapping[str, float] = field(repr=False)
    classes: Mapping[str, Sequence[str]] = field(repr=False)
    digest: str = ""
    """What tells two routers apart, also in the key of a cache."""

    def __call__(self, question: str) -> bool | None:
        """Whether the question suits an outline; None if the router is not certain."""
        suits = self.probability(question)
        return None if max(suits, 1 - suits) < self.threshold else suits > 0.5  # noqa: PLR2004 - a half

    def probability(self, question: str) -> float:
        """How likely it is that the question suits an outline, from 0 to 1."""
        known = self.weights
        total = self.bias + sum(known.get(name, 0) * value for name, value in features(question, self._lexicon).items())
        return probability(total)

    @cached_property
    def _lexicon(self) -> dict[str, str]:
        return lexicon_of(self.classes)


def load_router(path: str | Path | None = None, *, threshold: float | None = None) -> Router:
    """Load a trained router, for `create_sot_graph(..., route=load_router())`.

    It decides without a model call, in a fraction of a millisecond. Below its threshold it leaves the decision to the
    outline's call, as `route="auto"` does.

    Args:
        path: A file that `sot-graph route train` has written. None: the router that comes with the package.
        threshold: How certain the router must be to decide, from 0.5 (it always decides) to 1 (hardly ever); None for
            the file's own.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no router, or one of a newer version; or the threshold is none.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph, load_router

        graph = create_sot_graph(DemoChatModel(), route=load_router())
        print(graph.invoke({"question": "Translate to French: good morning"})["points"])
        ```
    """
    source = files("sot_graph") / DEFAULT if path is None else Path(path)
    try:
        content = source.read_bytes()
    except FileNotFoundError:
        msg = f"There is no router file {source}. `sot-graph route train` makes one; load_router() has one of its own."
        raise FileNotFoundError(msg) from None
    return read_router(content, str(source), threshold)


def probability(score: float) -> float:
    """The probability that a score stands for, between 0 and 1 and never one of them."""
    return 1 / (1 + math.exp(-max(-30.0, min(score, 30.0))))


def read_router(content: bytes, name: str, threshold: float | None = None) -> Router:
    """Make a router of a file's content; a `ValueError` says why that is none."""
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"{name} is no router file: it is not JSON ({error})."
        raise ValueError(msg) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        msg = f'{name} is no router file: those have "format": "{FORMAT}". `sot-graph route train` makes one.'
        raise ValueError(msg)
    version: Any = data.get("version")
    if not _is_number(version) or version > VERSION:
        msg = f"{name} has version {version!r} of the format; this sot_graph reads up to {VERSION}: install a newer."
        raise ValueError(msg)
    for key, (is_valid, what) in _PARTS.items():
        if not is_valid(data.get(key)):
            msg = f'{name} is no whole router file: "{key}" must be {what}. Train it again.'
            raise ValueError(msg)
    certain = data["threshold"] if threshold is None else threshold
    if not _is_threshold(certain):
        msg = f"The threshold of a router must be a number from 0.5 to 1, not {certain!r}."
        raise ValueError(msg)
    return Router(float(certain), data["bias"], data["weights"], data["classes"], sha256(content).hexdigest()[:12])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST


def _is_threshold(value: Any) -> bool:
    return _is_number(value) and 0.5 <= value <= 1  # noqa: PLR2004 - from a half


def _are_weights(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _are_classes(value: Any) -> bool:
    lists = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in lists)


_PARTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "threshold": (_is_threshold, "a number from 0.5 to 1"),
    "bias": (_is_number, "a number"),
    "weights": (_are_weights, "an object of numbers"),
    "classes": (_are_classes, "an object of lists of words"),
}
"""What the file has besides its format and version."""
