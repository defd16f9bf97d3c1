"""Labelled questions, to train and to test a router: from JSON lines, from CSV, and from judged comparisons."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

LABELS = {
    **dict.fromkeys(("true", "1", "yes", "suits", "suitable", "outline"), True),
    **dict.fromkeys(("false", "0", "no", "unsuitable", "not suitable", "direct"), False),
}
"""What a label may be, in any case: whether the question suits an outline."""
VALID_LABELS = "true or false, 1 or 0, yes or no, suitable or unsuitable"
CSV_ENDINGS = frozenset({".csv", ".tsv"})


class Labelled(NamedTuple):
    """A question, and whether it suits an outline."""

    question: str
    suits: bool
    kind: str | None = None
    language: str | None = None
    group: str | None = None
    """Questions that belong together, such as translations of one: no fold of a cross-validation parts them."""


def read_labelled(path: Path) -> list[Labelled]:
    """Read labelled questions: a JSON object on each line, or CSV whose first line names the columns.

    Each has a `question` and a `label`, and may have `kind`, `language` and `group`. A line of `sot-graph compare
    --judge` is a question, too: it suits unless most judges found the answer by an outline worse than the plain one, or
    the outline's call declined. If a file has several such lines of a question, the last one counts.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not valid, a question has both labels, or there is no question.
    """
    read = _csv_rows if path.suffix.lower() in CSV_ENDINGS else _json_rows
    found: dict[str, tuple[int, Labelled]] = {}
    unjudged = 0
    try:
        for number, row in read(path.read_text(encoding="utf-8-sig")):
            each = _read_row(row, number)
            if each is None:
                unjudged += 1
                continue
            first, other = found.setdefault(each.question, (number, each))
            if _is_comparison(row):
                found[each.question] = (number, each)
            elif other.suits != each.suits:
                _refuse(number, f"gives the question of line {first} the other label")
    except UnicodeDecodeError as error:
        msg = f"it is not text in UTF-8 ({error.reason})"
        raise ValueError(msg) from None
    except csv.Error as error:
        msg = f"it is not CSV ({error})"
        raise ValueError(msg) from None
    if not found:
        why = " that was judged: compare with --judge, and train on its results.jsonl" if unjudged else ""
        msg = f"it has no question{why}"
        raise ValueError(msg)
    return [each for _number, each in found.values()]


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    is_comparison = False
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if is_comparison and line.startswith("{"):  # as a killed process leaves it
                continue
            _refuse(number, f"is not JSON ({error}); a file of CSV is named .csv")
        if not isinstance(row, dict):
            _refuse(number, f"must be an object with `question` and `label`, not {line.strip()[:80]}")
        is_comparison = _is_comparison(row)
        yield number, row


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows.fieldnames = [name.strip().casefold() for name in rows.fieldnames or ()]
    if missing := {"question", "label"} - set(rows.fieldnames):
        _refuse(1, f"must name the columns; there is none called {' or '.join(sorted(missing))}")
    for row in rows:
        yield rows.line_num, row


def _read_row(row: Mapping[str, Any], number: int) -> Labelled | None:
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        _refuse(number, f'must have a text as "question", not {question!r:.80}')
    suits = _judged(row, number) if _is_comparison(row) else _read_label(row.get("label"), number)
    others = (row.get(key) for key in ("kind" if row.get("kind") else "category", "language", "group"))
    return None if suits is None else Labelled(question, suits, *(str(each) if each else None for each in others))


def _read_label(label: Any, number: int) -> bool:
    known = LABELS.get(str(label).strip().casefold())
    if known is None:
        _refuse(number, f"has the label {label!r:.80}; a label is {VALID_LABELS}")
    return known


def _is_comparison(row: Mapping[str, Any]) -> bool:
    """Whether a line is a result of `sot-graph compare`."""
    return "label" not in row and all(isinstance(row.get(key), Mapping) for key in ("settings", "plain", "sot"))


def _judged(row: Mapping[str, Any], number: int) -> bool | None:
    """Whether the answer by an outline was not worse; None if nobody has said."""
    if "against" in row["settings"]:
        _refuse(number, "compares two outlines, which does not show what suits one: compare without --against")
    if row["plain"].get("error") or row["sot"].get("error"):
        return None
    if not row["sot"].get("points"):  # the outline's call declined
        return False
    verdicts = [each.get("outcomes", {}).get("overall") for each in (row.get("verdicts") or {}).values()]
    worse = [outcome == "lose" for outcome in verdicts if outcome]
    return sum(worse) <= len(worse) / 2 if worse else None


def _refuse(number: int, problem: str) -> NoReturn:
    msg = f"line {number} {problem}"
    raise ValueError(msg)
