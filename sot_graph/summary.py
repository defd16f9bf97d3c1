"""What many comparisons come to: medians, spread, speed-up by category, and verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Literal

from langchain_core.messages.ai import UsageMetadata

from sot_graph.compare import Answer, Comparison, is_answered
from sot_graph.judge import ASPECTS, OUTCOMES, share_interval

MILLION = 1_000_000


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any currency."""

    input: float
    output: float

    def cost(self, usage: UsageMetadata | None) -> float | None:
        """What these tokens cost; None where they are not known."""
        if usage is None:
            return None
        return (usage["input_tokens"] * self.input + usage["output_tokens"] * self.output) / MILLION


def summarize_comparisons(
    results: Iterable[Comparison], prices: Prices | None = None, judge: str | None = None
) -> dict[str, Any]:
    """Sum results up.

    Args:
        results: Those in which a way of answering failed are counted, and nothing more.
        prices: Makes costs of the tokens.
        judge: Whose verdicts to count; None: those of the only judge there is.

    Returns:
        `questions`, `failed` (how many of them have not both answers), `all` (see `figures`; None if all failed),
        `categories` (the same for each) and `verdicts` (for each aspect, how often the answer by an outline won, tied
        and lost: `count`, `share` and its `interval`).
    """
    results = list(results)
    answered = [result for result in results if is_answered(result)]
    categories: dict[str, list[Comparison]] = {}
    for result in answered:
        if result["category"] is not None:
            categories.setdefault(result["category"], []).append(result)
    return {
        "questions": len(results),
        "failed": len(results) - len(answered),
        "all": figures(answered, prices) if answered else None,
        "categories": {name: figures(group, prices) for name, group in categories.items()},
        "verdicts": verdicts(answered, judge),
    }


def figures(results: Sequence[Comparison], prices: Prices | None = None) -> dict[str, Any]:
    """The middle and the spread of what these answers took.

    Args:
        results: At least one, with both answers.
        prices: Makes costs of the tokens.

    Returns:
        `questions` (how many), `direct` (how many the graph answered without an outline), `failed_points`, `speed_up`
        (the plain answer's seconds divided by the other's) and, for `plain` and `sot`, `seconds`,
        `first_text_seconds`, `input_tokens`, `output_tokens`, `tokens` and `cost`; each as `median`, `low` and `high`
        (the quartiles), or None where nobody told.
    """
    sots = [result["sot"] for result in results]
    return {
        "questions": len(results),
        "direct": sum(not answer["points"] for answer in sots),
        "failed_points": sum(answer["failed"] for answer in sots),
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


def verdicts(results: Sequence[Comparison], judge: str | None) -> dict[str, Any]:
    """How often the answer by an outline won, tied and lost, by aspect; `{}` where nothing was judged."""
    judges = {name for result in results for name in result["verdicts"]}
    counted = {judge} if judge else judges if len(judges) == 1 else set()
    given = [verdict for result in results for name, verdict in result["verdicts"].items() if name in counted]
    judged = [verdict["outcomes"] for verdict in given if not verdict["error"]]
    if not judged:
        return {}
    counts = {aspect: {each: sum(o[aspect] == each for o in judged) for each in OUTCOMES} for aspect in ASPECTS}
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
    """The figures as a table, with a line for each category; with the quartiles where there is room for them."""
    cell = _cell if quartiles else _middle
    with_cost = any(group["sot"]["cost"] for _, group in groups(summary))
    rows = [["", "n", "plain s", "SoT s", "speed-up", "first text s", "tokens", *["cost"] * with_cost]]
    for name, group in groups(summary):
        plain, sot = group["plain"], group["sot"]
        cells = [name, str(group["questions"]), cell(plain["seconds"], 1), cell(sot["seconds"], 1)]
        cells.append(cell(group["speed_up"], 2))
        figures = {"first_text_seconds": 1, "tokens": 0, **({"cost": 5} if with_cost else {})}
        rows.append(cells + [f"{_middle(plain[key], d)} → {_middle(sot[key], d)}" for key, d in figures.items()])
    return rows


def verdict_rows(summary: Mapping[str, Any]) -> Rows:
    """The verdicts as a table, with a line for each aspect; `[]` where nothing was judged."""
    if not summary["verdicts"]:
        return []
    rows = [["SoT against plain", *OUTCOMES]]
    for aspect, outcomes in summary["verdicts"].items():
        rows.append([aspect, *(_share(outcomes[each]) for each in OUTCOMES)])
    return rows


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What has to be known to read the figures."""
    group = summary["all"] or {}
    lines = ["n: questions. Medians, and in brackets the quartiles; with an arrow: plain → SoT."]
    if group.get("direct"):
        lines.append(f"{group['direct']} of {group['questions']} answers of the graph are direct, without an outline.")
    if group.get("failed_points"):
        lines.append(f"{group['failed_points']} points could not be written.")
    if summary["failed"]:
        lines.append(f"{summary['failed']} of {summary['questions']} questions failed, and are not in the figures.")
    if summary["verdicts"]:
        lines.append("A verdict that turns with the order of the answers is a tie; intervals of 95 % (Wilson).")
    return lines


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as a page."""
    tables = [rows for rows in (time_rows(summary), verdict_rows(summary)) if rows]
    return "# Answers by an outline beside plain ones\n\n" + "\n\n".join(
        [*map(_markdown_table, tables), "\n".join(f"- {line}" for line in notes(summary))]
    )


def _markdown_table(rows: Rows) -> str:
    head, *lines = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *lines))


def _cell(figure: Mapping[str, float] | None, digits: int) -> str:
    if figure is None:
        return _middle(figure, digits)
    middle, low, high = (f"{figure[key]:.{digits}f}" for key in ("median", "low", "high"))
    return middle if low == high else f"{middle} ({low}-{high})"


def _share(outcome: Mapping[str, Any]) -> str:
    low, high = outcome["interval"]
    return f"{outcome['share']:.0%} ({low:.0%} to {high:.0%})"


def _middle(figure: Mapping[str, float] | None, digits: int) -> str:
    return "?" if figure is None else f"{figure['median']:,.{digits}f}"
