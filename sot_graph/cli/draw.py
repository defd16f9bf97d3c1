"""The command `sot-graph draw`: the graph as a diagram."""

from sot_graph.cli.terminal import write


def draw() -> None:
    """Print the graph as a Mermaid diagram."""
    from sot_graph.demo import DemoChatModel  # noqa: PLC0415 - slow, and the help does not need it
    from sot_graph.graph import create_sot_graph  # noqa: PLC0415 - the same

    write(create_sot_graph(DemoChatModel()).get_graph().draw_mermaid())
