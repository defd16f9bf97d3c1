"""The two answers to each question side by side, as an HTML page."""

from collections.abc import Iterable

from sot_graph.evaluation.compare import Answer, Comparison
from sot_graph.evaluation.drawing import clean, page
from sot_graph.evaluation.judge import Verdict
from sot_graph.evaluation.sides import Sides, sides
from sot_graph.evaluation.summary import answer_line, settings_line

STYLE = """
body { max-width: 80rem }
article { border-top: 1px solid $grid; margin-top: 2rem }
h2 { font-size: 1.15rem; margin-bottom: 0 }
h3 { font-size: 1rem; margin-bottom: 0 }
h2, .kept { overflow-wrap: anywhere; white-space: pre-wrap }
.dim { color: $dim; font-size: 13px; margin: 0 0 .6rem }
.failed { color: $failed }
.pair { display: grid; gap: 0 2.5rem; grid-template-columns: 1fr 1fr }
.pair > * { min-width: 0 }
.verdict { display: flex; flex-wrap: wrap; gap: 0 1.5rem; list-style: none; padding: 0 }
@media (max-width: 45rem) { .pair { grid-template-columns: 1fr } }
"""


def answers_html(results: Iterable[Comparison], judge: str | None = None) -> str:
    """Put all answers on a page, with what each cost.

    Args:
        results: The results of the comparison.
        judge: The name of the judge whose verdicts are shown.
    """
    results = list(results)
    title = sides(results[0]["settings"] if results else {}).title
    settings = f'<p class="dim">{clean(settings_line(results[0]["settings"]))}</p>\n' if results else ""
    articles = (_article(result, result["verdicts"].get(judge or "")) for result in results)
    return page(title, STYLE, settings + "".join(articles))


def _article(result: Comparison, verdict: Verdict | None) -> str:
    names = sides(result["settings"])
    plain, sot = names.headings
    category = "" if result["category"] is None else _element("p", "dim", result["category"])
    return (
        f"<article>\n{_element('h2', '', result['question'])}{category}"
        f'<div class="pair">\n{_column(plain, result["plain"])}'
        f"{_column(sot, result['sot'])}</div>\n"
        f"{_verdict(verdict, names) if verdict else ''}</article>\n"
    )


def _column(name: str, answer: Answer) -> str:
    error = _element("p", "kept failed", answer["error"]) if answer["error"] else ""
    text = _element("div", "kept", answer["text"])
    return f"<div>\n<h3>{clean(name)}</h3>\n{_element('p', 'dim', answer_line(answer))}{text}{error}</div>\n"


def _verdict(verdict: Verdict, names: Sides) -> str:
    """The verdict by aspect, and the reasons of the judge."""
    head = f"<h3>{clean(names.answers[1])}, judged by {clean(verdict['judge'])}</h3>\n"
    if verdict["error"]:
        return head + _element("p", "kept failed", verdict["error"])
    outcomes = "".join(
        f"<li>{aspect} <b>{outcome}</b>{' (turned with the order)' if aspect in verdict['turned'] else ''}</li>\n"
        for aspect, outcome in verdict["outcomes"].items()
    )
    reasons = (
        _element("p", "kept", f"{order} first: {reason}")
        for order, reason in zip((names.sot, names.plain), verdict["reasons"], strict=False)
    )
    return f'{head}<ul class="verdict">\n{outcomes}</ul>\n{"".join(reasons)}'


def _element(tag: str, kind: str, words: str) -> str:
    """An HTML element with a text, in the direction of its script."""
    return f'<{tag} class="{kind}" dir="auto">{clean(words)}</{tag}>\n'
