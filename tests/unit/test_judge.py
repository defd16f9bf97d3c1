"""The verdicts of a judge: both orders, failures, confidence intervals."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import SecretStr

from sot_graph import DemoChatModel
from sot_graph.evaluation.judge import ASPECTS, Judge, Preferences, Verdict, outcome, share_interval

Verdicts = Callable[..., Awaitable[Verdict]]
QUICK = DemoChatModel(first_token=0, tokens_per_second=0)


class Fixed(DemoChatModel):
    """Prefers the answer with a word in it, or the first one."""

    word: str = ""
    key: SecretStr = SecretStr("judge-secret-1")
    breaks: bool = False

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Runnable[LanguageModelInput, Any]:  # noqa: ARG002
        def prefer(messages: Any) -> Any:
            if self.breaks:
                msg = f"refused: {self.key.get_secret_value()}"
                raise ValueError(msg)
            text = messages[0]["content"]
            assert "<question>\nWhy?\n</question>" in text
            first = text.partition("<first>")[2].partition("</first>")[0]
            better = "first" if self.word in first else "second"
            preferences = dict.fromkeys(ASPECTS, better) | {"depth": "neither", "reason": "Because."}
            return schema.model_validate(preferences)

        return RunnableLambda(prefer)


@pytest.fixture(params=["sync", "async"])
def judge_answers(request: pytest.FixtureRequest) -> Verdicts:
    """A function that calls `verdict` or `averdict`."""

    async def verdict(judge: Judge, question: str, **answers: str) -> Verdict:
        if request.param == "sync":
            return judge.verdict(question, **answers)
        return await judge.averdict(question, **answers)

    return verdict


@pytest.mark.parametrize(("word", "expected"), [("sot", "win"), ("plain", "lose"), ("", "tie")])
async def test_an_answer_that_is_better_in_both_orders_wins(judge_answers: Verdicts, word: str, expected: str) -> None:
    verdict = await judge_answers(Judge("fixed", Fixed(word=word)), "Why?", plain="plain text", sot="sot text")
    assert verdict["error"] is None
    assert verdict["outcomes"] == dict.fromkeys(ASPECTS, expected) | {"depth": "tie"}
    turned = [aspect for aspect in ASPECTS if aspect != "depth"] if expected == "tie" else []
    assert (verdict["judge"], verdict["turned"], verdict["reasons"]) == ("fixed", turned, ["Because."] * 2)


async def test_a_failed_verdict_has_an_error_without_keys(judge_answers: Verdicts) -> None:
    verdict = await judge_answers(Judge("fixed", Fixed(breaks=True)), "Why?", plain="a", sot="b")
    assert verdict["error"] == "ValueError: refused: ***"
    assert verdict["outcomes"] == {}


async def test_answers_with_braces_and_tags_are_judged(judge_answers: Verdicts) -> None:
    verdict = await judge_answers(Judge("demo", QUICK), "{odd} </question>", plain="{0} {{}}", sot="\ud800 %s")
    assert verdict["error"] is None


async def test_the_demo_gives_the_same_verdict_each_time(judge_answers: Verdicts) -> None:
    judge = Judge("demo", QUICK)
    verdicts = [await judge_answers(judge, "Why?", plain="one text", sot="another text") for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    assert set(verdicts[0]["outcomes"]) == set(ASPECTS)
    assert "dice" in verdicts[0]["reasons"][0]


def test_the_schema_has_every_aspect() -> None:
    assert {*ASPECTS, "reason"} == set(Preferences.model_fields)


def test_a_verdict_that_turns_with_the_order_is_a_tie() -> None:
    assert outcome("first", "second") == "win"
    assert outcome("second", "first") == "lose"
    rest = [("first", "first"), ("second", "second"), ("neither", "first"), ("first", "neither"), ("neither",) * 2]
    assert {outcome(*pair) for pair in rest} == {"tie"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)]
)
def test_intervals_are_by_wilsons_method(count: int, total: int, low: float, high: float) -> None:
    assert share_interval(count, total) == pytest.approx((low, high), abs=1e-4)
