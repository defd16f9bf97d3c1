"""Train a router: a linear model over the words of labelled questions, calibrated, written as plain data.

It needs the extra `router` (scikit-learn). What it writes needs nothing: see `sot_graph.routing`.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from sot_graph.evaluation.labelled import Labelled
from sot_graph.features import as_terms, features, lexicon_of
from sot_graph.routing import FORMAT, VERSION, probability

THRESHOLD = 0.8
"""How certain a router must be, unless it is trained with another threshold."""
STRENGTH = 10.0
"""The inverse of the regularisation; from a cross-validation of the default router's questions."""
FEWEST = 10
"""How many questions, or groups of them, each label must have."""
FOLDS = FEWEST
"""Parts of the cross-validation."""
SEEN = 2
"""In how many questions a feature must be, to be weighed."""
MOST_WEIGHTS, DIGITS = 8_000, 3
"""How many weights a file has at most, and their digits after the point: below 300 kB."""
Values = Mapping[str, float]


class Trained(NamedTuple):
    """A router, and how it does on questions that it was not trained on."""

    text: str
    """The content of its file."""
    probabilities: list[float]
    """Of each question that it suits, by a router that was trained, and calibrated, without it."""


def train(examples: Sequence[Labelled], threshold: float = THRESHOLD) -> Trained:
    """Train a router.

    Args:
        examples: The labelled questions.
        threshold: How certain the router must be to decide.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: There are too few questions of a label.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - of scikit-learn, like it of the extra "router"

    labels = [each.suits for each in examples]
    groups = [f"group {each.group}" if each.group else f"{i}" for i, each in enumerate(examples)]
    _check_counts(labels, groups)
    classes = word_classes()
    lexicon = lexicon_of(classes)
    found = [features(each.question, lexicon) for each in examples]
    with threadpool_limits(1):  # so little data takes several threads longer than one, on a busy machine far longer
        scores, probabilities = _cross_validate(found, labels, groups)
        slope, offset = _calibrate(scores, labels)
        weights, bias = _fit(found, labels)
    strongest = sorted(weights, key=lambda name: (-abs(weights[name]), name))[:MOST_WEIGHTS]
    rounded = {name: round(slope * weights[name], DIGITS) for name in sorted(strongest)}
    data = {
        "format": FORMAT,
        "version": VERSION,
        "threshold": threshold,
        "questions": len(examples),
        "bias": round(slope * bias + offset, DIGITS),
        "classes": classes,
        "weights": {name: weight for name, weight in rounded.items() if weight},
    }
    return Trained(_text(data), probabilities)


def word_classes() -> dict[str, list[str]]:
    """The classes of `word_classes.txt`; a word that several have counts for the first of them."""
    text = (files("sot_graph.evaluation") / "word_classes.txt").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for name, words in re.findall(r"^\[(\w+)\]$([^\[]*)", text, re.MULTILINE):
        for word in map(str.strip, words.split(",")):
            found.setdefault(as_terms(word.removesuffix("*")) + "*" * word.endswith("*"), name)
    return {name: sorted(word for word, of in found.items() if of == name) for name in dict.fromkeys(found.values())}


def _check_counts(labels: Sequence[bool], groups: Sequence[str]) -> None:
    """Refuse too few questions: each fold of the cross-validation needs some of both labels."""
    for suits, label in ((True, "suitable"), (False, "unsuitable")):
        count = len({group for each, group in zip(labels, groups, strict=True) if each == suits})
        if count < FEWEST:
            msg = (
                f"a router needs {FEWEST} questions of each label at least, and some hundreds to be of use; there are "
                f"{count} that are {label} (those of one group count once)"
            )
            raise ValueError(msg)


def _cross_validate(
    found: Sequence[Values], labels: Sequence[bool], groups: Sequence[str]
) -> tuple[list[float], list[float]]:
    """The score and the probability of each question, by a router that was trained and calibrated without it."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - of the extra "router"

    scores, probabilities = [0.0] * len(found), [0.0] * len(found)
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(found, labels, groups))
    for others, own in folds:
        weights, bias = _fit([found[i] for i in others], [labels[i] for i in others])
        for i in own:
            scores[i] = bias + sum(weights.get(name, 0) * value for name, value in found[i].items())
    for others, own in folds:
        slope, offset = _calibrate([scores[i] for i in others], [labels[i] for i in others])
        for i in own:
            probabilities[i] = probability(slope * scores[i] + offset)
    return scores, probabilities


def _fit(found: Sequence[Values], labels: Sequence[bool]) -> tuple[dict[str, float], float]:
    """The weights of the features, and the bias, of a logistic regression."""
    from sklearn.feature_extraction import DictVectorizer  # noqa: PLC0415 - of the extra "router"
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - the same

    counts = Counter(name for each in found for name in each)
    known = [{name: value for name, value in each.items() if counts[name] >= SEEN} for each in found]
    vectorizer = DictVectorizer()
    model = LogisticRegression(C=STRENGTH, solver="newton-cg", max_iter=1_000, tol=1e-8).fit(
        vectorizer.fit_transform(known), labels
    )
    names = vectorizer.get_feature_names_out().tolist()
    return dict(zip(names, model.coef_[0].tolist(), strict=True)), float(model.intercept_[0])


def _calibrate(scores: Sequence[float], labels: Sequence[bool]) -> tuple[float, float]:
    """The slope and the offset that make scores of questions not trained on into probabilities (Platt's scaling)."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - of the extra "router"

    model = LogisticRegression(C=1e3, solver="newton-cg", tol=1e-8).fit([[score] for score in scores], labels)
    return max(float(model.coef_[0][0]), 0.0), float(model.intercept_[0])


def _text(data: Mapping[str, Any]) -> str:
    """JSON with one weight, and one class, on a line: changes can be read in a diff."""
    parts = []
    for key, value in data.items():
        lines = (
            ",\n".join(f"  {_json(name)}: {_json(each)}" for name, each in value.items())
            if isinstance(value, dict)
            else ""
        )
        parts.append(f" {_json(key)}: {{\n{lines}\n }}" if lines else f" {_json(key)}: {_json(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
