"""Where an opening ends, chunk by chunk."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sot_graph.nodes.sentences import LONGEST, Sentences
from sot_graph.run import OPENING, RUN, Run, TextWriter
from sot_graph.thoughts import Habits

CONFIG: Any = {"configurable": {RUN: Run()}, "callbacks": []}


@given(st.lists(st.sampled_from(["Word", "word", "Dr", *" \n.!?…。”)*-1"])), st.booleans(), st.integers(1, 3))
def test_nothing_that_was_shown_is_taken_back(parts: list[str], is_due: bool, size: int) -> None:  # noqa: FBT001
    text = "".join(parts) * (LONGEST // 100)
    find, shown = Sentences(lambda: is_due), ""
    for length in range(1, len(text) + 1, size):
        new = text[:length].rstrip()
        end = find(new)
        if end is not None:
            assert new[:end].rstrip().startswith(shown)
            return
        shown = new
    assert len(shown) <= LONGEST


def test_a_reply_that_was_cut_teaches_nothing_of_the_models_thoughts() -> None:
    for bound, expected in ((None, False), (lambda _text: 4, None)):
        habits = Habits()
        writer = TextWriter(OPENING, CONFIG, habits, bound=bound)
        writer.start()
        writer.write("One two three")
        assert writer.finish() == ("One" if bound else "One two three")
        assert habits.closes_unopened is expected
