"""An echo off the front of a point's text, and nothing else."""

import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sot_graph.live import THINKS
from tests.unit.tidying import tidy

TITLE = "Time blocking"
INDEX = 6

NUMBER_ECHOES = [
    *("6. ", "6) ", "(6) ", "6.) ", "6: ", "6.\n\n", "6、", "**6.** ", "**6**. ", "_6._ "),
    *("Point 6: ", "point 6. ", "Point 6 - ", "Point 6 — ", "Point 6\n", "Step 6: ", "Part 6)\n"),
    *("**Point 6:** ", "**Point 6**: ", "**Point 6**\n\n", "## Point 6\n", "### 6.\n"),
]
# Whatever stands behind these, it is the text.
TITLE_ECHOES = [
    *("Time blocking: ", "Time blocking:\n", "Time blocking\n", "Time blocking\r\n\r\n", "Time blocking. "),
    *("TIME  BLOCKING:\n", "Time\nblocking\n", "Time blocking :\n", '"Time blocking": ', "“Time blocking”\n"),
    "Time blocking：",  # noqa: RUF001 - as models write
    *("**Time blocking**\n", "**Time blocking:** ", "**Time blocking**: ", "**Time blocking.** ", "*Time blocking*:\n"),
    *("__Time blocking__\n\n", "_Time blocking_. ", "**Time blocking** - ", "**Time blocking** — "),
    *(
        "# Time blocking\n",
        "## Time blocking\n\n",
        "## Time blocking: ",
        "### **Time blocking**\n",
        "## *Time blocking:* ",
    ),
]
NUMBERED_TITLE_ECHOES = [
    *("6. Time blocking\n", "6. Time blocking: ", "6) Time blocking. ", "(6) Time blocking - ", "6.Time blocking: "),
    *("[6] Time blocking\n", "6 Time blocking\n", "6 - Time blocking: ", "6、Time blocking\n", "6:\nTime blocking\n"),
    *("6. **Time blocking**\n", "6. **Time blocking:** ", "6. **Time blocking** - ", "**6.** **Time blocking**: "),
    *("**6. Time blocking**\n", "**6. Time blocking:** ", "**6**. Time blocking\n", "**6.** _Time blocking_\n"),
    *(
        "Point 6: Time blocking - ",
        "Point 6: Time blocking\n",
        "Point 6 - Time blocking:\n\n",
        "Point 6. Time blocking. ",
    ),
    *("**Point 6: Time blocking**\n\n", "**Point 6:** Time blocking - ", "**Point 6: Time blocking** - "),
    *("**Point 6** - **Time blocking**\n", "## 6. Time blocking\n", "## 6. **Time blocking**\n"),
    *("### Point 6: Time blocking\n", "## **6. Time blocking**\n"),
]
ECHOES = [*NUMBER_ECHOES, *TITLE_ECHOES, *NUMBERED_TITLE_ECHOES]

BODIES = [
    "Divide your day into blocks.",
    "divide your day into blocks.",
    "- Divide your day.\n- Guard it.",
    "* Divide your day.\n* Guard it.",
    "1. Divide your day.\n2. Guard it.",
    "**Blocks** divide your day.",
    "*Blocks* divide your day.",
    "`block()` divides your day.",
    "```python\nblock()\n```",
    "> Divide your day.",
    "# Blocks\n\nDivide your day.",
    "24 hours make a day.",
    "6 hours make a block.",
    "…and divide your day.",
    ": divide your day.",
    "“Divide your day,” they say.",
    "{{day}} \\1 %s",
    "日を分けます。",
]

text = st.text()
marks = [
    *("6", "6.", "6)", "7.", "1.", "Point ", "Point 6:", "Step 7:", "Time blocking", "time", "Time", "blocking", "is"),
    *("**", "*", "__", "_", "#", "## ", ":", ".", "-", " - ", "—", '"', "“", "”", "(", ")", "[", "]", "、", " ", "\t"),
    *("\n", "\r\n", "\u2028", "\x00", "\ud800", "İ", "Is", "a", "C++"),
]
fragments = st.lists(st.sampled_from(marks) | st.text(max_size=3), max_size=30).map("".join)
anything = text | fragments


@pytest.mark.parametrize("echo", ECHOES)
def test_an_echo_is_removed_and_the_text_is_not(echo: str) -> None:
    for body in BODIES:
        assert tidy(echo + body, INDEX, TITLE) == body
        assert tidy(f"\n {echo}{body}\n ", INDEX, TITLE) == body


@pytest.mark.parametrize(
    "echo", ["Time blocking - ", "**Time blocking** ", "6. **Time blocking** ", "*Time blocking* "]
)
def test_an_echo_on_the_line_of_the_text_is_removed_where_a_sentence_begins(echo: str) -> None:
    assert tidy(echo + "Divide your day.", INDEX, TITLE) == "Divide your day."


@pytest.mark.parametrize("echo", [*TITLE_ECHOES, *NUMBERED_TITLE_ECHOES])
def test_of_an_echo_alone_nothing_remains(echo: str) -> None:
    assert not tidy(echo.rstrip(" -—"), INDEX, TITLE)


@pytest.mark.parametrize(
    "body",
    [
        "Time blocking is a technique.",
        "Time blocking, as it is called, is a technique.",
        "Time blocking - you may know it - is a technique.",
        "Time blocking—you may know it—is a technique.",
        "Time blocking's use is in doubt.",
        "Time-blocking: a technique.",
        "Time blockings: a technique.",
        "Time blocking.js is a library.",
        "Time blocking:free is a product.",
        "Time blocking (or boxing) is a technique.",
        "**Time blocking** is a technique.",
        "**Time blocking** (or boxing) is a technique.",
        "**Time blocking**, as it is called, is a technique.",
        "**Time blocking is a technique.** It works.",
        "**Time blocking: the art** is a book.",
        "*Time blocking* works.",
        "_Time blocking_-based work.",
        '"Time blocking. It is all I want," they say.',
        "“Time blocking” is a technique.",
        "## Time blocking techniques\n\nThey work.",
        "- Time blocking: a technique.\n- Another one.",
        "In time blocking: divide your day.",
    ],
)
def test_a_sentence_that_begins_with_the_title_keeps_it(body: str) -> None:
    assert tidy(body, INDEX, TITLE) == body


@pytest.mark.parametrize("body", ["Time blocking is a technique.", "**Time blocking** is.", "- Time blocking: so."])
def test_a_sentence_behind_a_number_keeps_the_title_that_it_begins_with(body: str) -> None:
    assert tidy(f"6. {body}", INDEX, TITLE) == body


@pytest.mark.parametrize(
    "body",
    [
        "6 hours of sleep are enough.",
        "6.5 hours of sleep are enough.",
        "6 - 8 hours of sleep are enough.",
        "6:30 is early.",
        "6, or even 7, is early.",
        "6% of all people sleep well.",
        "(6 hours are enough.)",
        "[6] says that it is enough.",
        "60. That is what it takes.",
        "Point 6 is about sleep.",
        "Point 6-8 are about sleep.",
        "Step 60: sleep.",
        "Pointing 6: sleep.",
        "**6 hours** are enough.",
        "**6. Sleep well** and long.",
        "## 6. Sleep well\n\nAnd long.",
        "6.",
    ],
)
def test_a_number_that_is_no_echo_is_kept(body: str) -> None:
    assert tidy(body, INDEX, TITLE) == body


@pytest.mark.parametrize("echo", [*NUMBER_ECHOES, *NUMBERED_TITLE_ECHOES])
def test_another_number_is_kept(echo: str) -> None:
    for number in ("5", "7", "16", "60", "66"):
        body = echo.replace("6", number) + "Divide your day."
        assert tidy(body, INDEX, TITLE) == body


@pytest.mark.parametrize(
    "body",
    [
        "1. Do this.\n2. Do that.",
        "1. Do this 2. Do that",
        "1) Do this.\n   - And more.\n\n2) Do that.",
        "1. **Do this.**\n2. **Do that.**",
        "**1.** Do this.\n**2.** Do that.",
        "**1. Do this.**\nSo.\n\n**2. Do that.**",
        "1. Do this in 30. minutes.\n2. Do that.",
        "1、做这个\n2、做那个",
        "Step 1: Do this.\nStep 2: Do that.",
        "### Step 1\nDo this.\n\n### Step 2\nDo that.",
        "1. Time blocking: Do this.\n2. Batching: Do that.",
        "## 1. Time blocking\nDo this.\n\n## 2. Batching\nDo that.",
    ],
)
def test_a_list_that_begins_with_the_points_own_number_keeps_it(body: str) -> None:
    assert tidy(body, 1, TITLE) == body


def test_a_list_below_an_echo_is_kept_and_the_echo_is_not() -> None:
    body = "1. Do this.\n2. Do that."
    assert tidy(f"1. Time blocking:\n{body}", 1, TITLE) == body
    assert tidy(f"1. {TITLE}\n\n{body}", 1, TITLE) == body


TITLES = [
    "C++ (and C#)",
    "What?",
    "a.b*c+",
    "[x](y)",
    "$^",
    "\\d\\",
    "(",
    "*",
    "**",
    "6",
    "6. Rest",
    "İstanbul",
    "a\x00b",
]


@pytest.mark.parametrize("title", [*TITLES, "\ud800", "x" * 200])
def test_any_title_is_found(title: str) -> None:
    assert tidy(f"{title}\nDivide your day.", 5, title) == "Divide your day."
    assert tidy(f"5. **{title}**: Divide your day.", 5, title) == "Divide your day."
    assert tidy("Divide your day.", 5, title) == "Divide your day."


@pytest.mark.parametrize("title", ["", " ", "\n"])
def test_without_a_title_the_number_is_found(title: str) -> None:
    assert tidy("6. Divide your day.", INDEX, title) == "Divide your day."
    assert tidy("**: Divide your day.", INDEX, title) == "**: Divide your day."


@settings(deadline=None, max_examples=500)
@given(body=anything, index=st.integers(), title=anything)
@example(body="", index=0, title="")
@example(body="-1. x", index=-1, title="#")
def test_what_remains_is_the_end_of_the_text(body: str, index: int, title: str) -> None:
    tidied = tidy(body, index, title)
    assert body.strip().endswith(tidied)
    assert tidied == tidied.strip()


@settings(deadline=None, max_examples=500)
@given(body=anything)
def test_without_an_echo_the_text_is_as_it_was(body: str) -> None:
    assume(not body.lstrip().startswith(THINKS))  # thoughts are no text
    assume(not re.match(r"[\W_]*((point|step|part|section)\s+)?(6|time\s+blocking)", body.strip(), re.IGNORECASE))
    assert tidy(body, INDEX, TITLE) == body.strip()


@settings(deadline=None, max_examples=500)
@given(echo=st.sampled_from(ECHOES), body=anything.map(str.strip))
def test_behind_an_echo_the_text_is_as_it_was(echo: str, body: str) -> None:
    assume(body and "7" not in body)  # which may be a list
    assume(not body.startswith(THINKS))
    assume(not re.match(r"[\W_]*(6|time\s+blocking)", body, re.IGNORECASE))  # another echo
    assert tidy(echo + body, INDEX, TITLE) == body


NASTY = [
    *("*", "_", "#", "# ", "6", "6.", "6 ", "7. ", "point ", "point 6 ", "word ", "( ", "[", ":", ".", "- ", '"', "、"),
    *("\n", "\r", "\t", " ", "\x00"),
]


@pytest.mark.parametrize("title", ["word word", "word", "*" * 200, "word " * 40])
@pytest.mark.parametrize("before", ["", "6", "6 -", "6. word", "word", "word:", "**6", "point", "# ", '"'])
def test_no_text_takes_long_to_tidy(before: str, title: str) -> None:
    for unit in NASTY:
        body = before + unit * (100_000 // len(unit)) + " word"
        began = time.process_time()
        tidy(body, INDEX, title)
        assert time.process_time() - began < 1
