"""What the SVG pictures and HTML pages share: shapes, texts, scales, and colours for light and dark themes."""

import re
from html import escape
from math import floor, log10
from string import Template

import svg

from sot_graph.evaluation.text import strip_controls

LIGHT = {
    "page": "#ffffff",
    "ink": "#1f2328",
    "dim": "#59636e",
    "grid": "#d1d9e0",
    "wait": "#cfe0f3",
    "call": "#3b82c4",
    "retry": "#bf8700",
    "failed": "#cf222e",
}
DARK = {
    "page": "#0d1117",
    "ink": "#e6edf3",
    "dim": "#9198a1",
    "grid": "#30363d",
    "wait": "#1b3252",
    "call": "#4493f8",
    "retry": "#d29922",
    "failed": "#f85149",
}
BASE_STYLE = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: $ink }
.head { font-size: 15px; font-weight: bold }
.dim { fill: $dim }
.end { text-anchor: end }
.middle { text-anchor: middle }
.page { fill: $page }
.grid { stroke: $grid }
"""
PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
body { background: $page; color: $ink }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
"""
NOT_IN_XML = re.compile("[\ufffe\uffff]")


def style(rules: str) -> str:
    """Fill the colours into CSS rules, for light themes and again for dark ones."""
    light, dark = (Template(rules).substitute(colours) for colours in (LIGHT, DARK))
    return f"{light}@media (prefers-color-scheme: dark) {{{dark}}}\n"


def page(title: str, rules: str, body: str) -> str:
    """An HTML page with its title as a heading.

    Args:
        title: Plain text, in one line.
        rules: CSS for the body; see `style`.
        body: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="color-scheme" content="light dark">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{clean(title)}</title>\n<style>{style(PAGE_STYLE + rules)}</style>\n<h1>{clean(title)}</h1>\n"
        f"{body}</html>\n"
    )


def text(x: float, y: float, words: str, *classes: str) -> svg.Text:
    """A line of text."""
    return svg.Text(x=round(x, 1), y=y, text=clean(words), class_=list(classes) or None)


def vertical_line(x: float, top: float, bottom: float, kind: str) -> svg.Line:
    """A line from top to bottom."""
    return svg.Line(x1=x, x2=x, y1=top, y2=bottom, class_=[kind])


def clean(words: str) -> str:
    """Escape a text for XML and HTML, without the characters that XML forbids. svg.py does not escape texts."""
    return escape(NOT_IN_XML.sub("", strip_controls(words)))


def ticks(span: float, most: int) -> list[float]:
    """Round numbers from 0 to a span, at equal steps.

    Args:
        span: Where to end.
        most: The maximum number of steps.
    """
    power = 10.0 ** floor(log10(span / most))
    step = next(power * step for step in (1, 2, 5, 10, 20) if span / (power * step) <= most)
    return [round(step * number, 9) for number in range(floor(span / step + 1e-9) + 1)]
