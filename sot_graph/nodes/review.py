"""A person's review of the outline, before anything of it is written."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.types import Send, interrupt
from pydantic import BeforeValidator, RootModel, create_model

from sot_graph.nodes.base import Node, Steps, read_turn
from sot_graph.nodes.expand import dispatch_points
from sot_graph.outline import clean_title
from sot_graph.scopes import check_items, clean_items, items_of, outlined, title_of, with_scopes
from sot_graph.state import OutlineItem, Revision, Scope, SotState
from sot_graph.streaming import OutlineEvent, emit
from sot_graph.text import storable


class Review(Node):
    """Interrupts the run with the question and the titles, and applies the person's verdict."""

    def __init__(self, max_points: int) -> None:
        super().__init__(None)
        self.max_points = max_points
        meaning = "True accepts the outline, a list of titles replaces it, a string asks for a new one that follows it."
        verdict = RootModel[Annotated[Literal[True] | list[str | OutlineItem] | str, BeforeValidator(self._checked)]]
        self.verdict = create_model("OutlineVerdict", __base__=verdict, __doc__=meaning)

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:  # noqa: ARG002 - as every node's
        """Interrupt, or apply the verdict; an invalid one raises a `ValidationError`, and the interrupt stays."""
        titles, scopes = outlined(state["outline"], state.get("scopes"))
        question = read_turn({"messages": state["messages"]}).question
        # LangGraph checks the verdict by the schema, and does not store one that is invalid.
        shown = {"question": question, "titles": titles}
        shown |= {"outline": items_of(titles, scopes)} if scopes else {}
        verdict = interrupt(shown, response_schema=self.verdict).root
        if isinstance(verdict, str):
            return {"revision": Revision(titles=titles, scopes=scopes, remark=storable(verdict))}
        if verdict is not True:
            titles, scopes = clean_items(with_scopes(verdict, titles, scopes))
            emit(OutlineEvent(type="outline", titles=titles))
        return {"outline": titles, "scopes": scopes}
        yield  # makes this a generator: a review sends no request

    def _checked(self, verdict: Any) -> Any:
        if verdict is True or (isinstance(verdict, str) and verdict.strip()):
            return verdict
        with suppress(TypeError):
            check_items(verdict)
            titles, scopes = clean_items(verdict)
            if 1 <= len(titles) <= self.max_points:
                given = {clean_title(title_of(item)).casefold() for item in verdict if not isinstance(item, str)}
                said = zip(titles, scopes or [Scope()] * len(titles), strict=True)
                # An object without anything takes away what was said of the point before.
                return [{"title": title, **scope} if title.casefold() in given else title for title, scope in said]
        msg = (
            "The review of an outline is resumed with True (write it as it is), with a list of 1 to "
            f"{self.max_points} titles or items (write these) or with a remark as text (for a new outline), "
            f"not with {verdict!r:.200}. The interrupt stays: resume again, with Command(resume=...)."
        )
        raise ValueError(msg)


def review_outline(state: SotState) -> str:
    """Go to the review; without an outline, to the direct answer."""
    return "review" if state.get("outline") else "direct"


def after_review(state: SotState) -> list[Send] | str:
    """Go back to the skeleton with a remark, else to the points."""
    return "skeleton" if state.get("revision") else dispatch_points(state)
