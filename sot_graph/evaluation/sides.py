"""What the two answers of a comparison are called: a plain one and a SoT one, or those of two graphs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sot_graph.evaluation.text import fit, one_line

NAME_WIDTH, HEADING_WIDTH = 32, 60
"""The maximum width of the name of a change in a table, and in a heading, in terminal cells."""


@dataclass(frozen=True)
class Sides:
    """The names of the answers under `plain` and `sot`: in a table, in a sentence, and above them."""

    plain: str = "plain"
    sot: str = "SoT"
    answers: tuple[str, str] = ("the plain answer", "the SoT answer")
    headings: tuple[str, str] = ("one plain call", "Skeleton-of-Thought")
    title: str = "Skeleton-of-Thought answers compared with plain answers"
    are_graphs: bool = False
    """Whether a graph has written both answers: under `sot` the one with changed options."""

    @property
    def speed_up(self) -> str:
        """What a speed-up is."""
        return "the time of {} divided by that of {}".format(*self.answers)


def sides(settings: Mapping[str, Any]) -> Sides:
    """The names of both answers, from the settings of a comparison."""
    if "against" not in settings:
        return Sides()
    change = one_line(str(settings["against"]))
    name, heading = fit(change, NAME_WIDTH), fit(change, HEADING_WIDTH)
    title = f"Skeleton-of-Thought answers compared: outline and {heading}"
    return Sides("outline", name, ("outline", name), ("outline", heading), title, are_graphs=True)
