"""What pictures and pages have in common: shapes, texts, and colours for light and dark."""

import re
from html import escape
from string import Template

import svg

from sot_graph.console.display import harmless

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
    """Rules with the colours of a light page, and with those of a dark one where that is preferred."""
    light, dark = (Template(rules).substitute(colours) for colours in (LIGHT, DARK))
    return f"{light}@media (prefers-color-scheme: dark) {{{dark}}}\n"


def page(title: str, rules: str, body: str) -> str:
    """A page in HTML, with its title above it.

    Args:
        title: As it is, in one line.
        rules: The style of what is in the body; see `style`.
        body: In HTML.
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


def upright(x: float, top: float, bottom: float, kind: str) -> svg.Line:
    """A line from top to bottom."""
    return svg.Line(x1=x, x2=x, y1=top, y2=bottom, class_=[kind])


def clean(words: str) -> str:
    """A text that XML may hold: svg.py takes texts as they are."""
    return escape(NOT_IN_XML.sub("", harmless(words)))
