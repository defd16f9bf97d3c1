"""What many comparisons come to: medians, spread, speed-up by category, and verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median, quantiles
from typing import Any, Literal

from langchain_core.messages.ai import UsageMetadata
from rich.cells import cell_len

from sot_graph.console.timeline import fit, one_line
from sot_graph.evaluation.compare import Answer, Comparison, is_answered
from sot_graph.evaluation.judge import ASPECTS, OUTCOMES, Verdict, share_interval

MILLION = 1_000_000
NAME, ERROR = 24, 200
"""How many columns a category's name may take in a table, and an error in a line."""
GAP = 2
"""How many columns are left free between two of a table."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any currency."""

    input: float
    output: float
    cached: float | None = None
    """What those input tokens cost that a provider has read from its cache; None: as the others."""

    def cost(self, usage: UsageMetadata | None) -> float | None:
        """What these tokens cost; None where they are not known."""
        if usage is None:
            return None
        cached = usage.get("input_token_details", {}).get("cache_read", 0)
        less = 0.0 if self.cached is None else cached * (self.input - self.cached)
        return (usage["input_tokens"] * self.input - less + usage["output_tokens"] * self.output) / MILLION


def summarize_comparisons(
    results: Iterable[Comparison], prices: Prices | None = None, judge: str | None = None
) -> dict[str, Any]:
    """Sum results up.

    Args:
        results: Those in which a way of answering failed are counted, and nothing more.
        prices: Makes costs of the tokens.
        judge: Whose verdicts to count; None: those of the only judge there is.

    Returns:
        `settings` (what was asked with), `questions`, `failed` (how many of them have not both answers whole), `all`
        (see `figures`; None if all failed), `categories` (the same for each), `judge` (its name), `judged` (of how many
        questions it has judged the answers), `turned` (for each aspect, how many ties are verdicts that turned with
        the order of the answers) and `verdicts` (for each aspect, how often the answer by an outline won, tied and
        lost: `count`, `share` and its `interval`).
    """
    results = list(results)
    answered = [result for result in results if is_answered(result)]
    judges = {name for result in answered for name in result["verdicts"]}
    if judge is None and len(judges) == 1:
        (judge,) = judges
    verdicts = [result["verdicts"][judge] for result in answered if judge in result["verdicts"]]
    judged = [verdict for verdict in verdicts if not verdict["error"]]
    categories: dict[str, list[Comparison]] = {}
    for result in answered:
        if result["category"] is not None:
            categories.setdefault(result["category"], []).append(result)
    return {
        "settings": results[0]["settings"] if results else {},
        "questions": len(results),
        "failed": len(results) - len(answered),
        "all": figures(answered, prices) if answered else None,
        "categories": {name: figures(group, prices) for name, group in categories.items()},
        "judge": judge,
        "judged": len(judged),
        "turned": {aspect: sum(aspect in each["turned"] for each in judged) for aspect in ASPECTS if judged},
        "verdicts": _shares(judged) if judged else {},
    }


def figures(results: Sequence[Comparison], prices: Prices | None = None) -> dict[str, Any]:
    """The middle and the spread of what these answers took.

    Args:
        results: At least one, with both answers.
        prices: Makes costs of the tokens.

    Returns:
        `questions` (how many), `direct` (how many the graph answered without an outline), `speed_up` (the plain
        answer's seconds divided by the other's) and, for `plain` and `sot`, `seconds`, `first_text_seconds`,
        `characters`, `input_tokens`, `output_tokens`, `tokens` and `cost`; each as `median`, `low` and `high` (the
        quartiles), or None where nobody told.
    """
    sots = [result["sot"] for result in results]
    return {
        "questions": len(results),
        "direct": sum(not answer["points"] for answer in sots),
        "speed_up": spread([result["plain"]["seconds"] / max(result["sot"]["seconds"], 0.001) for result in results]),
        "plain": _taken([result["plain"] for result in results], prices),
        "sot": _taken(sots, prices),
    }


def _taken(answers: Sequence[Answer], prices: Prices | None) -> dict[str, Any]:
    def tokens(key: Literal["input_tokens", "output_tokens", "total_tokens"]) -> dict[str, float] | None:
        return spread([answer["usage"] and answer["usage"][key] for answer in answers])

    return {
        "seconds": spread([answer["seconds"] for answer in answers]),
        "first_text_seconds": spread([answer["first_text_seconds"] for answer in answers]),
        "characters": spread([len(answer["text"]) for answer in answers]),
        "input_tokens": tokens("input_tokens"),
        "output_tokens": tokens("output_tokens"),
        "tokens": tokens("total_tokens"),
        "cost": spread(prices.cost(answer["usage"]) for answer in answers) if prices else None,
    }


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """The median and the quartiles of those values that are known; None where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, _, high = quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
    return {"median": round(median(known), 6), "low": round(low, 6), "high": round(high, 6)}


def _shares(judged: Sequence[Verdict]) -> dict[str, Any]:
    """How often the answer by an outline won, tied and lost, by aspect."""
    outcomes = [verdict["outcomes"] for verdict in judged]
    counts = {aspect: {each: sum(o[aspect] == each for o in outcomes) for each in OUTCOMES} for aspect in ASPECTS}
    return {
        aspect: {
            name: {
                "count": count,
                "share": round(count / len(judged), 4),
                "interval": [round(bound, 4) for bound in share_interval(count, len(judged))],
            }
            for name, count in by_outcome.items()
        }
        for aspect, by_outcome in counts.items()
    }


Rows = list[list[str]]
"""A table: its headline first."""


def groups(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All questions, and those of each category, with their names."""
    return [("all", summary["all"]), *summary["categories"].items()] if summary["all"] else []


def time_rows(summary: Mapping[str, Any], *, quartiles: bool = True) -> Rows:
    """The figures as a table, with a line for each category; `[]` where nothing was answered.

    Args:
        summary: What `summarize_comparisons` gave.
        quartiles: Whether there is room for them.
    """
    if not summary["all"]:
        return []
    cell = _cell if quartiles else _middle
    with_cost = any(group["sot"]["cost"] for _, group in groups(summary))
    rows = [["", "n", "plain s", "SoT s", "speed-up", "first text s", "characters", "tokens", *["cost"] * with_cost]]
    for name, group in groups(summary):
        plain, sot = group["plain"], group["sot"]
        cells = [name, str(group["questions"]), cell(plain["seconds"], 1), cell(sot["seconds"], 1)]
        cells.append(cell(group["speed_up"], 2))
        figures = {"first_text_seconds": 1, "characters": 0, "tokens": 0, **({"cost": 5} if with_cost else {})}
        rows.append(cells + [f"{_middle(plain[key], d)} → {_middle(sot[key], d)}" for key, d in figures.items()])
    return rows


def verdict_rows(summary: Mapping[str, Any], *, intervals: bool = True) -> Rows:
    """The verdicts as a table, with a line for each aspect; `[]` where nothing was judged.

    Args:
        summary: What `summarize_comparisons` gave.
        intervals: Whether there is room for them.
    """
    if not summary["verdicts"]:
        return []
    rows = [["SoT against plain", *OUTCOMES, "turned"]]
    for aspect, outcomes in summary["verdicts"].items():
        shares = [_share(outcomes[each], interval=intervals) for each in OUTCOMES]
        rows.append([aspect, *shares, str(summary["turned"][aspect])])
    return rows


def fitting(choices: Sequence[Rows], width: int) -> list[Rows]:
    """Tables that show every figure whole; only names are cut.

    Args:
        choices: The same table, with less in each than in the one before. The first that there is room for is taken;
            the last is broken into several where even that one is too wide.
        width: How many columns of a terminal there are.
    """
    for rows in choices:
        names, *figures = zip(*rows, strict=True)
        room = max(cell_len(names[0]), min(NAME, width // 5))
        names = tuple(fit(one_line(name), room) for name in names)
        tables = [[names]]
        for column in figures:
            if _width([*tables[-1], column]) > width:
                tables.append([names])
            tables[-1].append(column)
        if len(tables) == 1:
            break
    return [[list(line) for line in zip(*columns, strict=True)] for columns in tables]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(cell_len, column)) + GAP for column in columns) - GAP


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What has to be known to read the figures."""
    group = summary["all"] or {}
    lines = ["n: questions. Medians, and in brackets the quartiles; with an arrow: plain → SoT."]
    if summary["settings"]:
        lines.insert(0, f"Asked with: {in_words(summary['settings'])}.")
    if group.get("direct"):
        lines.append(f"{group['direct']} of {group['questions']} answers of the graph are direct, without an outline.")
    if summary["failed"]:
        lines.append(f"{summary['failed']} of {summary['questions']} questions failed, and are not in the figures.")
    if summary["verdicts"]:
        lines.append(
            f"Judge: {summary['judge']}, on the answers to {summary['judged']} of {group['questions']} questions."
        )
        lines.append("turned: verdicts that turned with the order of the answers; each is a tie.")
        lines.append("Intervals of 95 % (Wilson).")
    return lines


def in_words(settings: Mapping[str, Any]) -> str:
    """What was asked with, as a line."""
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)


def taken(answer: Answer) -> str:
    """What an answer took, as a line."""
    first = answer["first_text_seconds"]
    parts = [f"{answer['seconds']:.1f} s"]
    if first is not None:
        parts.append(f"first text after {first:.1f} s")
    parts.append(f"{len(answer['text']):,} characters")
    if answer["usage"]:
        parts.append(f"{answer['usage']['total_tokens']:,} tokens")
    return " · ".join(parts)


def problems(results: Iterable[Comparison], judge: str | None) -> list[str]:
    """What could not be had, a line for each."""
    lines = []
    for result in results:
        verdict = result["verdicts"].get(judge or "")
        errors = {
            "one plain call": result["plain"]["error"],
            "by an outline": result["sot"]["error"],
            "judge": verdict and verdict["error"],
        }
        asked = fit(one_line(result["question"]), 60)
        lines += [f"{asked!r}, {what}: {fit(one_line(error), ERROR)}" for what, error in errors.items() if error]
    return lines


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as a page."""
    tables = [rows for rows in (time_rows(summary), verdict_rows(summary)) if rows]
    return "# Answers by an outline beside plain ones\n\n" + "\n\n".join(
        [*map(_markdown_table, tables), "\n".join(f"- {_in_markdown(line)}" for line in notes(summary))]
    )


def _markdown_table(rows: Rows) -> str:
    head, *lines = ([_in_markdown(cell).replace("|", "\\|") for cell in row] for row in rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *lines))


def _in_markdown(words: str) -> str:
    """A line that is no HTML, and turns no other text around."""
    return escape(one_line(words), quote=False)


def _cell(figure: Mapping[str, float] | None, digits: int) -> str:
    if figure is None:
        return _middle(figure, digits)
    middle, low, high = (f"{figure[key]:.{digits}f}" for key in ("median", "low", "high"))
    return middle if low == high else f"{middle} ({low}-{high})"


def _share(outcome: Mapping[str, Any], *, interval: bool) -> str:
    low, high = outcome["interval"]
    return f"{outcome['share']:.0%}" + f" ({low:.0%} to {high:.0%})" * interval


def _middle(figure: Mapping[str, float] | None, digits: int) -> str:
    return "?" if figure is None else f"{figure['median']:,.{digits}f}"
