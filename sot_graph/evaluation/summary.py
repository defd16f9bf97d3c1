"""The summary of many comparisons: medians, quartiles, speed-up by category, and verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median, quantiles
from typing import Any, Literal

from langchain_core.messages.ai import UsageMetadata
from rich.cells import cell_len

from sot_graph.evaluation.compare import Answer, Comparison, is_complete
from sot_graph.evaluation.judge import ASPECTS, OUTCOMES, Verdict, share_interval
from sot_graph.evaluation.sides import sides
from sot_graph.evaluation.text import fit, one_line

MILLION = 1_000_000
NAME_WIDTH, ERROR_WIDTH = 24, 200
"""The maximum width of a category's name in a table, and of an error in a line, in terminal cells."""
GAP = 2
"""The cells between two columns of a table."""


@dataclass(frozen=True)
class Prices:
    """The prices of a million tokens, in any currency."""

    input: float
    output: float
    cached: float | None = None
    """The price of input tokens that the provider has read from its cache; None: the same as `input`."""

    def cost(self, usage: UsageMetadata | None) -> float | None:
        """The cost of these tokens; None if they are not known."""
        if usage is None:
            return None
        cached = usage.get("input_token_details", {}).get("cache_read", 0)
        discount = 0.0 if self.cached is None else cached * (self.input - self.cached)
        return (usage["input_tokens"] * self.input - discount + usage["output_tokens"] * self.output) / MILLION


def summarize_comparisons(
    results: Iterable[Comparison], prices: Prices | None = None, judge: str | None = None
) -> dict[str, Any]:
    """Summarize results.

    Args:
        results: The results. Those with an incomplete answer count as failed, and are left out of all figures.
        prices: To compute costs from tokens.
        judge: The name of the judge whose verdicts count; None: the only judge.

    Returns:
        `settings`, `questions` (how many), `failed` (how many of them lack a complete answer), `all` (see `figures`;
        None if all failed), `categories` (the same for each category), `judge` (its name), `judged` (how many questions
        have a verdict), `turned` (for each aspect, how many ties are verdicts that turned with the order of the
        answers) and `verdicts` (for each aspect, how often the SoT answer won, tied and lost: `count`, `share` and its
        `interval`).
    """
    results = list(results)
    answered = [result for result in results if is_complete(result)]
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
    """The medians and quartiles of what these answers cost.

    Args:
        results: At least one, with both answers.
        prices: To compute costs from tokens.

    Returns:
        `questions` (how many), `direct` (how many the graph answered without an outline; of two graphs, also
        `plain_direct`), `speed_up` (the seconds of the plain answer divided by those of the SoT answer) and, for
        `plain` and `sot`, `seconds`, `first_text_seconds`, `characters`, `input_tokens`, `output_tokens`, `tokens` and
        `cost`; each as `median`, `low` and `high` (the quartiles), or None if it is not known.
    """
    plains, sots = [result["plain"] for result in results], [result["sot"] for result in results]
    direct, plain_direct = (sum(not answer["points"] for answer in answers) for answers in (sots, plains))
    return {
        "questions": len(results),
        "direct": direct,
        **({"plain_direct": plain_direct} if sides(results[0]["settings"]).are_graphs else {}),
        "speed_up": spread([result["plain"]["seconds"] / max(result["sot"]["seconds"], 0.001) for result in results]),
        "plain": _costs(plains, prices),
        "sot": _costs(sots, prices),
    }


def _costs(answers: Sequence[Answer], prices: Prices | None) -> dict[str, Any]:
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
    """The median and the quartiles of the known values; None without any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, _, high = quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
    return {"median": round(median(known), 6), "low": round(low, 6), "high": round(high, 6)}


def _shares(judged: Sequence[Verdict]) -> dict[str, Any]:
    """How often the SoT answer won, tied and lost, by aspect."""
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
"""A table as rows of cells. The first row is the header."""


def groups(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The figures of all questions and of each category, by name."""
    return [("all", summary["all"]), *summary["categories"].items()] if summary["all"] else []


def time_rows(summary: Mapping[str, Any], *, quartiles: bool = True) -> Rows:
    """The figures as a table with a row for each category; `[]` if no question was answered.

    Args:
        summary: The result of `summarize_comparisons`.
        quartiles: Whether to include the quartiles.
    """
    if not summary["all"]:
        return []
    cell = _cell if quartiles else _middle
    with_cost = any(group["sot"]["cost"] for _, group in groups(summary))
    names = sides(summary["settings"])
    times = f"{names.plain} s", f"{names.sot} s"
    rows = [["", "n", *times, "speed-up", "first text s", "characters", "tokens", *["cost"] * with_cost]]
    for name, group in groups(summary):
        plain, sot = group["plain"], group["sot"]
        cells = [name, str(group["questions"]), cell(plain["seconds"], 1), cell(sot["seconds"], 1)]
        cells.append(cell(group["speed_up"], 2))
        figures = {"first_text_seconds": 1, "characters": 0, "tokens": 0, **({"cost": 5} if with_cost else {})}
        rows.append(cells + [f"{_middle(plain[key], d)} → {_middle(sot[key], d)}" for key, d in figures.items()])
    return rows


def verdict_rows(summary: Mapping[str, Any], *, intervals: bool = True) -> Rows:
    """The verdicts as a table with a row for each aspect; `[]` without any verdict.

    Args:
        summary: The result of `summarize_comparisons`.
        intervals: Whether to include the confidence intervals.
    """
    if not summary["verdicts"]:
        return []
    names = sides(summary["settings"])
    rows = [[f"{names.sot} against {names.plain}", *OUTCOMES, "turned"]]
    for aspect, outcomes in summary["verdicts"].items():
        shares = [_share(outcomes[each], interval=intervals) for each in OUTCOMES]
        rows.append([aspect, *shares, str(summary["turned"][aspect])])
    return rows


def fit_tables(choices: Sequence[Rows], width: int) -> list[Rows]:
    """Fit a table to a terminal without cutting any figure. Only names are cut.

    Args:
        choices: Versions of the table, each narrower than the one before. The first that fits is used. If none fits,
            the last one is split into several tables.
        width: The width of the terminal in cells.
    """
    for rows in choices:
        names, *figures = zip(*rows, strict=True)
        name_width = max(cell_len(names[0]), min(NAME_WIDTH, width // 5))
        names = tuple(fit(one_line(name), name_width) for name in names)
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
    """The notes below the figures, which explain how to read them."""
    group, names = summary["all"] or {}, sides(summary["settings"])
    arrow = f"{names.plain} → {names.sot}"
    lines = [f"n: number of questions. Figures are medians, with quartiles in brackets; an arrow means {arrow}."]
    if summary["settings"]:
        lines.insert(0, f"Settings: {settings_line(summary['settings'])}.")
    if names.are_graphs and group:
        lines.append(f"speed-up: {names.speed_up}. Above 1, {names.sot} is faster; below 1, it is slower.")
        directs = f"{group['plain_direct']} → {group['direct']}"
        lines.append(f"Direct answers, without an outline: {directs} of {group['questions']}.")
    elif group.get("direct"):
        lines.append(f"{group['direct']} of {group['questions']} SoT answers are direct, without an outline.")
    if summary["failed"]:
        lines.append(f"{summary['failed']} of {summary['questions']} questions failed and are left out of the figures.")
    if summary["verdicts"]:
        lines.append(
            f"Judge: {summary['judge']}, with verdicts on {summary['judged']} of {group['questions']} questions."
        )
        if names.are_graphs:
            lines.append(f"win: the judge prefers {names.sot} to {names.plain} in both orders.")
        lines.append("turned: verdicts that turned with the order of the answers. They count as ties.")
        lines.append("Brackets in the verdicts: 95 % confidence intervals (Wilson).")
    return lines


def settings_line(settings: Mapping[str, Any]) -> str:
    """The settings of a comparison on one line."""
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)


def answer_line(answer: Answer) -> str:
    """What an answer cost, on one line."""
    first = answer["first_text_seconds"]
    parts = [f"{answer['seconds']:.1f} s"]
    if first is not None:
        parts.append(f"first text after {first:.1f} s")
    parts.append(f"{len(answer['text']):,} characters")
    if answer["usage"]:
        parts.append(f"{answer['usage']['total_tokens']:,} tokens")
    return " · ".join(parts)


def problems(results: Iterable[Comparison], judge: str | None) -> list[str]:
    """The errors of answers and verdicts, one per line."""
    lines = []
    for result in results:
        verdict = result["verdicts"].get(judge or "")
        plain, sot = sides(result["settings"]).headings
        errors = {
            plain: result["plain"]["error"],
            sot: result["sot"]["error"],
            "judge": verdict and verdict["error"],
        }
        question = fit(one_line(result["question"]), 60)
        lines += [
            f"{question!r}, {what}: {fit(one_line(error), ERROR_WIDTH)}" for what, error in errors.items() if error
        ]
    return lines


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    tables = [rows for rows in (time_rows(summary), verdict_rows(summary)) if rows]
    title = _escape_markdown(sides(summary["settings"]).title)
    return f"# {title}\n\n" + "\n\n".join(
        [*map(_markdown_table, tables), "\n".join(f"- {_escape_markdown(line)}" for line in notes(summary))]
    )


def _markdown_table(rows: Rows) -> str:
    head, *lines = ([_escape_markdown(cell).replace("|", "\\|") for cell in row] for row in rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *lines))


def _escape_markdown(words: str) -> str:
    """A text on one line, with HTML escaped."""
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
