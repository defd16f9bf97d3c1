"""Thoughts and control tokens never reach a reader; text does, unaltered."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sot_graph.outline import read_outline
from sot_graph.thoughts import HOLD, Habits, Hold, ThoughtFilter, closes_unopened, strip_thoughts

GONE = [
    "<think>a</think>Text.</think>",
    "<think>a</think><answer>Text.</answer>",
    "<|channel|>final <|constrain|>text<|message|>Text.",
    "a</think >Text.",
    "[think]a[/think]Text.",
    "<unused94>thought\na<unused95>Text.",
    "<|channel>thought\na<channel|>Text.",
    "<|channel|>commentary to=x <|constrain|>json<|message|>{}<|call|><|channel|>final<|message|>Text.",
    "Text.</s></s>",
    "<think>x y</think>Text.",
    "Okay, so.\n</think>\n\nText.",
    "<think>a</think><think>b</think>Text.",
    "<think>a</think>Text.\n<think>b</think>",
    "<thinking>a</thinking>\nText.",
    "<thought>a</thought>Text.",
    "<reasoning>a</reasoning>Text.",
    "[THINK]a[/THINK]Text.",
    "<|channel|>analysis<|message|>We need<|end|><|start|>assistant<|channel|>final<|message|>Text.<|return|>",
    "<|channel|>analysis<|message|>We need<|start|>assistant<|channel|>final<|message|>Text.",
    "Text.<|im_end|>",
    "Text.<|im_end|>\n<|im_start|>user\nMore?",
    "<scratchpad>a</scratchpad>Text.",
    "<Think>a</Think>Text.",
    "◁think▷a◁/think▷Text.",
    "<seed:think>a</seed:think>Text.",
    "<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>Text.<|end_of_solution|>",
    "a[/THINK]Text.",
    "Text.</s>",
    "Text.<end_of_turn>",
    "Text.<|eot_id|>",
    "Text.<|endoftext|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\nText.",
    "<|im_start|>assistant\nText.",
    '<think type="deep">a</think>Text.',
    "<inner_monologue>a</inner_monologue>Text.",
    "Text.<｜end▁of▁sentence｜>",  # noqa: RUF001 - as DeepSeek writes it
    "<think>a <think> b</think>Text.",
    "Text.<think>never",
    "<reflection>\na\n</reflection>\n\nText.",
]
TEXTS = [
    "[thought] experiments are useful here.",
    "<rationale> elements hold notes in this XML.",
    "<answer>42</answer>",
    "An <s>old</s> new price.",
    "[THINK]: https://example.org\n\nSee [THINK].",
    "<thinking about it, I mean it>",
    "~~~\n<think>code</think>\n~~~\nDone.",
    "Use <b>bold</b> and <thead> tags.",
    "The `<think>` element is used by some models.",
    "List<Thought> items = new List<Thought>();",
    "a < b and c > d, 3<4",
    "[Think about it](http://x) and [THIS]",
    "```\n<think>code</think>\n```\nDone.",
    "The <think> tag opens thoughts.",
    "x <| y |> z",
    "Press <enter>. <analysis",
    "array[THINK_SIZE] = 3",
    "if a<b then [A]",
    "Réponse : 《思考》 ◁ ▷",
    "use `a <think> b` here",
]
CUT_OFF = [
    "<think>never closes",
    "<|channel|>analysis<|message|>cut off",
    "[THINK]a",
    "<thinking>\nHmm",
]


def stream(text: str, size: int) -> str:
    """What a reader has in the end who resets the text where the filter says so."""
    thoughts = ThoughtFilter()
    chunks: list[str] = []
    for start in range(0, len(text), size):
        chunk = thoughts.feed(text[start : start + size])
        if thoughts.has_dropped:
            chunks.clear()
        thoughts.has_dropped = False
        chunks.append(chunk)
    return "".join(chunks) + thoughts.finish()


sizes = pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])


@sizes
@pytest.mark.parametrize("reply", GONE)
def test_thoughts_and_control_tokens_are_removed(reply: str, size: int) -> None:
    assert stream(reply, size).strip() == "Text."
    assert strip_thoughts(reply).strip() == "Text."


@sizes
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_not_altered(text: str, size: int) -> None:
    assert stream(text, size) == text
    assert strip_thoughts(text) == text


@sizes
@pytest.mark.parametrize("reply", CUT_OFF)
def test_thoughts_that_never_close_are_not_shown(reply: str, size: int) -> None:
    assert stream(reply, size) == ""
    assert read_outline(f"{reply}\n1. One\n2. Two") == []


@given(st.text(alphabet=st.characters(exclude_characters="◁`")), st.integers(1, 9))
def test_any_other_text_comes_through_in_chunks_of_any_size(text: str, size: int) -> None:
    assume("<" not in text and "[" not in text)
    assert stream(text, size) == text


@given(st.text(alphabet="<>/|[]think `\nab◁▷THINK"), st.integers(1, 9))
def test_chunks_of_any_size_give_the_same_text(text: str, size: int) -> None:
    assert stream(text, size) == stream(text, 1000)


def test_what_stood_between_paragraphs_leaves_one_gap() -> None:
    assert strip_thoughts("One.\n\n<think>Hm.</think>\n\nTwo.") == "One.\n\nTwo."


def test_a_long_reply_takes_linear_time() -> None:
    began = time.process_time()
    stream("<think>" + "a < b and so on. " * 6_000, 4)
    stream("x < y [Z] ` " * 8_000, 4)
    assert time.process_time() - began < 10


def test_an_outline_after_thoughts_is_read_and_one_within_them_is_not() -> None:
    thoughts = "<think>\n1. First\n2. Second\n</think>"
    assert read_outline(f"{thoughts}\n1. One\n2. Two") == ["One", "Two"]
    assert read_outline('1. First\n2. Second\n</think>\n{"points": ["One", "Two"]}') == ["One", "Two"]


def test_it_is_known_whether_a_tag_closes_what_none_opened() -> None:
    assert closes_unopened("Hm.</think>Text.")
    assert not closes_unopened("<think>Hm.</think>Text.")
    assert not closes_unopened("<think>Hm. <think></think> Hm.</think>Text.")


def test_a_guess_is_given_up_and_what_is_learned_stays() -> None:
    habits = Habits(is_own_server=True, closes_unopened=True)
    assert Hold(habits).goes_on()
    habits.learn(closes_unopened=False)
    assert not Hold(habits).goes_on()
    habits.learn(closes_unopened=True)
    habits.learn(closes_unopened=False)
    assert Hold(habits).goes_on()


def test_a_burst_is_held_back_and_a_live_reply_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("sot_graph.thoughts.time.monotonic", lambda: now[0])

    def held(gap: float, count: int, habits: Habits) -> list[bool]:
        hold = Hold(habits)
        answers = []
        for _ in range(count):
            answers.append(hold.goes_on())
            now[0] += gap
        return answers

    own = Habits(is_own_server=True)
    assert held(0.001, 50, own) == [True] * 50
    assert held(0.01, 5, own) == [True, True, False, False, False]
    assert held(0.001, 300, own)[-1] is False, f"after {HOLD} seconds"
    assert held(0.001, 5, Habits()) == [False] * 5
