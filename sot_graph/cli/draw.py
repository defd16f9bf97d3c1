"""The command `sot-graph draw`: the graph as a diagram."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sot_graph.cli.options import Closing, Lead
from sot_graph.cli.terminal import USAGE_ERROR, error_line, fail, write

EXAMPLES = """
Examples:

sot-graph draw

sot-graph draw --review -o graph.svg
"""
MERMAID, SVG = ".mmd", ".svg"


def draw(
    *,
    lead: Lead = False,
    closing: Closing = False,
    review: Annotated[bool, typer.Option("--review", "-r", help="With a review of the outline.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"A file that ends in {SVG} or {MERMAID}. Default: Mermaid, printed."),
    ] = None,
) -> None:
    """Draw the graph, with the nodes that its options use."""
    kind = output.suffix.lower() if output else MERMAID
    if kind not in {MERMAID, SVG}:
        fail(f"--output needs a file name that ends in {SVG} or {MERMAID}.{_hint(kind)}", USAGE_ERROR)
    graph = _graph(lead=lead, closing=closing, review=review)
    text = _svg(graph) if kind == SVG else graph.draw_mermaid()
    if output is None:
        write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"--output {output} could not be written: {error_line(error)}")


def _hint(kind: str) -> str:
    if kind != ".png":
        return ""
    return " LangGraph draws a PNG only with a web service or Graphviz: draw an SVG, and convert it."


def _graph(**options: bool) -> Any:
    from sot_graph.cli.model import create_or_exit  # noqa: PLC0415 - slow, and the help does not need it
    from sot_graph.demo import DemoChatModel  # noqa: PLC0415 - the same
    from sot_graph.graph import create_sot_graph  # noqa: PLC0415 - the same

    return create_or_exit(create_sot_graph, DemoChatModel(), **options).get_graph()  # type: ignore[arg-type]


def _svg(graph: Any) -> str:
    from sot_graph.cli.graph_svg import graph_svg  # noqa: PLC0415 - slow, and needed only here

    return graph_svg([(edge.source, edge.target, edge.conditional) for edge in graph.edges])
