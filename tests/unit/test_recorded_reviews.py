"""The judge reads what models really wrote: recorded reviews of two answers, in both orders, without a model."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from sot_graph.evaluation.judge import ASPECTS, Judge, Preferences, Verdict

PATH = Path(__file__).parents[1] / "data" / "judge" / "reviews.jsonl"


class Review(NamedTuple):
    question: str
    answers: list[str]
    text: str
    score: list[float]

    @property
    def outcome(self) -> str:
        """From the view of the first answer."""
        first, second = self.score
        return "win" if first > second else "lose" if second > first else "tie"


LINES = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
REVIEWS = [Review(each["question"], each["answers"], each["review"], each["score"]) for each in LINES]
IDS = [each["review_id"] for each in LINES]
Replies = Callable[[Review, bool], AIMessage]
"""What is written about a review's answers, and whether they are in the recorded order."""
TURNED = {"win": "lose", "lose": "win", "tie": "tie"}


class Reviewer(BaseChatModel):
    """Finds the answers of its prompt among the reviews, and replies with what was written about them."""

    replies: Any

    @property
    def _llm_type(self) -> str:
        return "reviewer"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        assert tools == [Preferences]
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        text = messages[-1].text
        shown = [text.partition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0] for tag in ("question", "first", "second")]
        review = next(
            each for each in REVIEWS if each.question == shown[0] and sorted(each.answers) == sorted(shown[1:])
        )
        reply = self.replies(review, shown[1:] == review.answers)
        return ChatResult(generations=[ChatGeneration(message=reply)])


def calling(arguments: dict[str, Any], text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "Preferences", "args": arguments, "id": "1"}])


def in_form(review: Review, better: Any) -> AIMessage:
    return calling({**dict.fromkeys(ASPECTS, better), "reason": review.text})


def as_recorded(review: Review, in_order: bool) -> AIMessage:  # noqa: FBT001 - as it is called
    """The verdict of the recorded scores, as text and as a call of the schema, which many models write together."""
    outcome = review.outcome if in_order else TURNED[review.outcome]
    better = {"win": "first", "lose": "second", "tie": "neither"}[outcome]
    return calling({**dict.fromkeys(ASPECTS, better), "reason": review.text}, text=review.text)


async def judged(replies: Replies, review: Review, *, is_async: bool = False, sot: int = 0) -> Verdict:
    judge = Judge("recorded", Reviewer(replies=replies))
    answers = {"sot": review.answers[sot], "plain": review.answers[1 - sot]}
    return await judge.averdict(review.question, **answers) if is_async else judge.verdict(review.question, **answers)


def test_the_sample_has_every_outcome() -> None:
    assert Counter(review.outcome for review in REVIEWS) == {"win": 5, "lose": 5, "tie": 4}
    by_line = [review for review in REVIEWS if review.text[0].isdigit()]
    assert all([*map(float, review.text.splitlines()[0].split())] == review.score for review in by_line)
    assert len(by_line) == 12  # the other two have their scores at the end


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("sot", [0, 1])
@pytest.mark.parametrize("review", REVIEWS, ids=IDS)
async def test_a_verdict_agrees_with_the_recorded_scores(review: Review, sot: int, *, is_async: bool) -> None:
    verdict = await judged(as_recorded, review, is_async=is_async, sot=sot)
    expected = review.outcome if sot == 0 else TURNED[review.outcome]
    assert verdict["error"] is None
    assert verdict["outcomes"] == dict.fromkeys(ASPECTS, expected)
    assert (verdict["turned"], verdict["reasons"]) == ([], [review.text] * 2)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("always", ["first", "second"])
@pytest.mark.parametrize("review", REVIEWS[:4], ids=IDS[:4])
async def test_a_verdict_that_turns_with_the_order_is_a_tie(review: Review, always: str, *, is_async: bool) -> None:
    verdict = await judged(lambda each, _: in_form(each, always), review, is_async=is_async)
    assert (verdict["outcomes"], verdict["turned"]) == (dict.fromkeys(ASPECTS, "tie"), list(ASPECTS))


@pytest.mark.parametrize("other", ["first", "second", "neither"])
async def test_a_verdict_that_is_undecided_in_one_order_is_a_tie(other: str) -> None:
    verdict = await judged(lambda each, in_order: in_form(each, "neither" if in_order else other), REVIEWS[0])
    assert (verdict["outcomes"], verdict["turned"]) == (dict.fromkeys(ASPECTS, "tie"), [])


FORMS = [
    *[
        (form, "win")
        for form in ("First", " first\n", "FIRST.", "the first", "The first answer", "first answer", "**First**")
    ],
    *[
        (form, "win")
        for form in ("first one", "Answer 1", "Assistant 1", "1", 1, "A", "[[A]]", "The first one is better.")
    ],
    *[(form, "lose") for form in ("Second", "second answer", "Answer 2", "2", 2, "B", "(b)", "the second is better")],
    *[
        (form, "tie")
        for form in ("Neither", "tie", "Tie.", "both", "Equal", "equally good", "same", "neither is better")
    ],
    *[(form, "tie") for form in ("The same", "none", "draw", "Both are equally good", "a tie", "neither one")],
]
SWAPPED: dict[Any, Any] = {"win": "second", "lose": "first", "tie": "neither"}


@pytest.mark.parametrize(("form", "expected"), FORMS, ids=repr)
async def test_a_verdict_is_read_in_the_words_that_models_write(form: Any, expected: str) -> None:
    replies: Replies = lambda each, in_order: in_form(each, form if in_order else SWAPPED[expected])  # noqa: E731
    verdict = await judged(replies, REVIEWS[0])
    assert (verdict["error"], verdict["outcomes"]) == (None, dict.fromkeys(ASPECTS, expected))


WHOLE = {**dict.fromkeys(ASPECTS, "first"), "reason": "Because."}
BROKEN = {"name": "Preferences", "args": '{"overall": "fir', "id": "1", "error": "cut off", "type": "invalid_tool_call"}
UNREADABLE: list[tuple[Any, str]] = [
    (lambda review: AIMessage(review.text), "the judge wrote a text, and not a verdict"),
    (lambda _: AIMessage(""), "the judge wrote a text, and not a verdict"),
    (lambda _: AIMessage("", invalid_tool_calls=[BROKEN]), "the judge wrote a text, and not a verdict"),
    (lambda _: calling({}), "reason\n  Field required"),
    (lambda _: calling({key: value for key, value in WHOLE.items() if key != "depth"}), "depth\n  Field required"),
    *[
        (lambda _, better=better: calling({**WHOLE, "overall": better}), "overall\n  Input should be 'first', 'second'")
        for better in (
            "first or second",
            "not the first",
            "a second look",
            "the first is equal",
            "first" + 60 * " ",
            -1,
            "9 8.5",
            "3",
            "",
            None,
            ["first"],
            True,
            1.5,
        )
    ],
]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("only_in_order", [False, True])
@pytest.mark.parametrize(("reply", "error"), UNREADABLE)
async def test_a_verdict_that_cannot_be_read_is_an_error_and_no_tie(
    reply: Any, error: str, *, only_in_order: bool, is_async: bool
) -> None:
    def replies(review: Review, in_order: bool) -> AIMessage:  # noqa: FBT001 - as it is called
        return reply(review) if in_order or not only_in_order else as_recorded(review, in_order)

    verdict = await judged(replies, REVIEWS[1], is_async=is_async)
    assert error in str(verdict["error"])
    assert (verdict["outcomes"], verdict["turned"], verdict["reasons"]) == ({}, [], [])


def test_the_schema_that_a_model_is_shown_has_the_three_words() -> None:
    properties = Preferences.model_json_schema()["properties"]
    assert {tuple(properties[aspect]["enum"]) for aspect in ASPECTS} == {("first", "second", "neither")}
