"""A person's look at the outline, before anything of it is written."""

from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.types import Send, interrupt
from pydantic import RootModel, model_validator

from sot_graph.expand import dispatch_points
from sot_graph.outline import clean_titles
from sot_graph.prompt import open_turn
from sot_graph.safety import storable
from sot_graph.stage import Stage
from sot_graph.state import Revision, SotState, Update
from sot_graph.streaming import OutlineEvent, emit


class Review(Stage[SotState, Update]):
    """The node that interrupts the run with the question and the titles, and takes in what a person says to them."""

    def __init__(self, max_points: int) -> None:
        self.verdict = verdict_schema(max_points)

    def run(self, given: SotState, config: RunnableConfig) -> Update:  # noqa: ARG002 - as every stage's
        """Ask, or take in the answer.

        Raises:
            ValidationError: The run was resumed with something else; the interrupt stays.
        """
        titles = given["outline"] or []
        shown = {"question": open_turn({"messages": given["messages"]}).question, "titles": titles}
        # The engine checks the answer by the schema, and keeps none that does not fit.
        verdict = interrupt(shown, response_schema=self.verdict).root
        if isinstance(verdict, str):
            return {"revision": Revision(titles=titles, remark=storable(verdict))}
        if verdict is not True:
            titles = verdict
            emit(OutlineEvent(type="outline", titles=titles))
        return {"outline": titles, "tried": False}

    async def arun(self, given: SotState, config: RunnableConfig) -> Update:
        """Ask, or take in the answer; see `run`."""
        return self.run(given, config)


def review_outline(state: SotState) -> str:
    """On to the review; without an outline, on to the direct answer."""
    return "review" if state.get("outline") else "direct"


def after_review(state: SotState) -> list[Send] | str:
    """Back to the skeleton with a remark, else on to the points."""
    return "skeleton" if state.get("revision") else dispatch_points(state)


def verdict_schema(max_points: int) -> type[RootModel[Any]]:
    """What a review may be answered with: True, a list of titles, or a remark.

    Args:
        max_points: The most titles that a list may have.
    """

    class OutlineVerdict(RootModel[Literal[True] | list[str] | str]):
        """True accepts the outline, a list of titles replaces it, a string asks for a new one that follows it."""

        @model_validator(mode="before")
        @classmethod
        def check(cls, verdict: Any) -> Any:
            if verdict is True or (isinstance(verdict, str) and verdict.strip()):
                return verdict
            if isinstance(verdict, list) and all(isinstance(title, str) for title in verdict):
                titles = clean_titles(verdict)
                if 1 <= len(titles) <= max_points:
                    return titles
            msg = (
                "The review of an outline is answered with True (write it as it is), with a list of 1 to "
                f"{max_points} titles (write these) or with a remark as text (plan anew, following it), not with "
                f"{verdict!r:.200}. The interrupt stays: resume once more, with Command(resume=...)."
            )
            raise ValueError(msg)

    return OutlineVerdict
