"""The text of a reply: chunks, retries, thoughts, and echoes of the title in front of it."""

# ruff: noqa: RUF001 - as models write

import re
import time
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sot_graph.text import THINK_START, ReplyText, echo_length, encodable, storable

TITLE = "Time blocking"
INDEX = 6


def stream(reply: ReplyText, chunks: list[str]) -> str:
    """What readers see of a reply that arrives in these chunks."""
    text = "".join(reply.feed(chunk) for chunk in chunks)
    return text + reply.finish()


def split(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def without_echo(text: str, index: int, title: str) -> str:
    """The text of a point's reply that arrives in one chunk."""
    return stream(ReplyText(echo=partial(echo_length, index, title)), [text])


# --- chunks, retries and thoughts ----------------------------------------------------------------

STARTS = [
    "",
    "Punkt 6: Time",
    "⑥ ",
    "【Time blocking】",
    "Title: Time",
    "٦. ",
    "f) Time blocking\n",
    f"{TITLE}: ",
    f"**{TITLE}**\n",
    "6. ",
    "Point 6:",
    "60 ",
    "Time blo",
    "<think>hm\n</think>\n",
]


@given(st.sampled_from(STARTS), st.text(), st.lists(st.integers(0, 1000), max_size=6))
def test_chunks_of_any_size_give_the_same_text(start: str, body: str, cuts: list[int]) -> None:
    text = start + body
    reply = ReplyText(echo=partial(echo_length, INDEX, TITLE))
    assert stream(reply, split(text, cuts)) == reply.text == without_echo(text, INDEX, TITLE)


@pytest.mark.parametrize("start", ["7 to 9 hours", "20-minute naps", "2023 was a year", "Most people", "Timed blocks"])
def test_a_text_without_an_echo_is_shown_at_once(start: str) -> None:
    reply = ReplyText(echo=partial(echo_length, INDEX, TITLE))
    assert reply.feed(f"{start} of it") == f"{start} of it"


def test_a_title_in_front_is_held_back_until_it_is_known_to_be_no_echo() -> None:
    reply = ReplyText(echo=partial(echo_length, INDEX, TITLE))
    assert reply.feed("Time blocking is") == ""
    assert reply.feed(" what helps most people to work well in the summer") != ""


@pytest.mark.parametrize(
    ("shown", "retry", "text"),
    [
        ("Sleep is", "good for all.", "Sleep is good for all."),
        ("Sleep is", " good for all.", "Sleep is good for all."),
        ("Sleep is good", ", and it helps.", "Sleep is good, and it helps."),
        ("Do this:\n- a", "\n- b", "Do this:\n- a\n- b"),
        ("Sleep is good", "Sleep is good for all.", "Sleep is good for all."),
        ("sleep is good", "Sleep is good for all.", "sleep is good for all."),
        ("It is good for you and", "good for you and me.", "It is good for you and me."),
        ("Sleep is good", "Sleep is good", "Sleep is good"),
        ("Sleep is good", "", "Sleep is good"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_retry_continues_the_text_that_was_shown(shown: str, retry: str, text: str, size: int) -> None:
    reply = ReplyText(shown)
    chunks = [retry[start : start + size] for start in range(0, len(retry), size)]
    assert shown + stream(reply, chunks) == reply.text == text


@given(st.text(min_size=1).filter(str.strip), st.text(), st.lists(st.integers(0, 1000), max_size=4))
def test_text_that_was_shown_never_changes(shown: str, retry: str, cuts: list[int]) -> None:
    reply = ReplyText(shown)
    added = stream(reply, split(retry, cuts))
    assert reply.text == shown + added


@pytest.mark.parametrize("chunks", [["<think>a b</think>\n\nText."], ["<thi", "nk>a", " b</thi", "nk> Text", "."]])
def test_thoughts_are_removed(chunks: list[str]) -> None:
    assert stream(ReplyText(), chunks) == "Text."


def test_thoughts_alone_are_no_text() -> None:
    assert stream(ReplyText(), ["<think>a b"]) == ""
    assert stream(ReplyText(), ["<thin"]) == "<thin"


def test_only_characters_that_cannot_be_sent_or_stored_are_replaced() -> None:
    odd = "ä\x00\ud800\x1b\u202e😀"
    assert encodable(odd) == "ä\x00\ufffd\x1b\u202e😀"
    assert storable(odd) == "ä\ufffd\ufffd\x1b\u202e😀"
    plain = "plain"
    assert storable(plain) == plain


# --- echoes --------------------------------------------------------------------------------------

NUMBER_ECHOES = [
    *("6. ", "6) ", "(6) ", "6.) ", "6: ", "6.\n\n", "6、", "**6.** ", "**6**. ", "_6._ "),
    *("Point 6: ", "point 6. ", "Point 6 - ", "Point 6 — ", "Point 6\n", "Step 6: ", "Part 6)\n"),
    *("**Point 6:** ", "**Point 6**: ", "**Point 6**\n\n", "## Point 6\n", "### 6.\n"),
]
# These are echoes, whatever follows.
TITLE_ECHOES = [
    *("Time blocking: ", "Time blocking:\n", "Time blocking\n", "Time blocking\r\n\r\n", "Time blocking. "),
    *("TIME  BLOCKING:\n", "Time\nblocking\n", "Time blocking :\n", '"Time blocking": ', "“Time blocking”\n"),
    "Time blocking：",
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
def test_an_echo_is_removed_and_the_text_is_kept(echo: str) -> None:
    for body in BODIES:
        assert without_echo(echo + body, INDEX, TITLE) == body
        assert without_echo(f"\n {echo}{body}\n ", INDEX, TITLE) == body


@pytest.mark.parametrize(
    "echo", ["Time blocking - ", "**Time blocking** ", "6. **Time blocking** ", "*Time blocking* "]
)
def test_an_echo_is_removed_if_a_sentence_begins_on_the_same_line(echo: str) -> None:
    assert without_echo(echo + "Divide your day.", INDEX, TITLE) == "Divide your day."


@pytest.mark.parametrize("echo", [*TITLE_ECHOES, *NUMBERED_TITLE_ECHOES])
def test_an_echo_alone_gives_no_text(echo: str) -> None:
    assert not without_echo(echo.rstrip(" -—"), INDEX, TITLE)


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
    assert without_echo(body, INDEX, TITLE) == body


@pytest.mark.parametrize("body", ["Time blocking is a technique.", "**Time blocking** is.", "- Time blocking: so."])
def test_a_sentence_after_a_number_keeps_the_title(body: str) -> None:
    assert without_echo(f"6. {body}", INDEX, TITLE) == body


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
    assert without_echo(body, INDEX, TITLE) == body


@pytest.mark.parametrize("echo", [*NUMBER_ECHOES, *NUMBERED_TITLE_ECHOES])
def test_another_number_is_kept(echo: str) -> None:
    for number in ("5", "7", "16", "60", "66"):
        body = echo.replace("6", number) + "Divide your day."
        assert without_echo(body, INDEX, TITLE) == body


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
def test_a_list_that_begins_with_the_points_number_keeps_it(body: str) -> None:
    assert without_echo(body, 1, TITLE) == body


def test_a_list_below_an_echo_is_kept() -> None:
    body = "1. Do this.\n2. Do that."
    assert without_echo(f"1. Time blocking:\n{body}", 1, TITLE) == body
    assert without_echo(f"1. {TITLE}\n\n{body}", 1, TITLE) == body


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
def test_any_title_can_be_an_echo(title: str) -> None:
    assert without_echo(f"{title}\nDivide your day.", 5, title) == "Divide your day."
    assert without_echo(f"5. **{title}**: Divide your day.", 5, title) == "Divide your day."
    assert without_echo("Divide your day.", 5, title) == "Divide your day."


@pytest.mark.parametrize("title", ["", " ", "\n"])
def test_a_number_is_an_echo_without_a_title_too(title: str) -> None:
    assert without_echo("6. Divide your day.", INDEX, title) == "Divide your day."
    assert without_echo("**: Divide your day.", INDEX, title) == "**: Divide your day."


@settings(deadline=None, max_examples=500)
@given(body=anything, index=st.integers(), title=anything)
@example(body="", index=0, title="")
@example(body="-1. x", index=-1, title="#")
def test_only_the_front_of_a_text_is_removed(body: str, index: int, title: str) -> None:
    cleaned = without_echo(body, index, title)
    assert body.strip().endswith(cleaned)
    assert cleaned == cleaned.strip()


@settings(deadline=None, max_examples=500)
@given(body=anything)
def test_a_text_without_an_echo_does_not_change(body: str) -> None:
    assume(not body.lstrip().startswith(THINK_START))  # thoughts are no text
    assume(not re.match(r"[\W_]*((point|step|part|section)\s+)?(6|time\s+blocking)", body.strip(), re.IGNORECASE))
    assert without_echo(body, INDEX, TITLE) == body.strip()


@settings(deadline=None, max_examples=500)
@given(echo=st.sampled_from(ECHOES), body=anything.map(str.strip))
def test_the_text_after_an_echo_does_not_change(echo: str, body: str) -> None:
    assume(body and "7" not in body)  # which may be a list
    assume(not body.startswith(THINK_START))
    assume(not re.match(r"[\W_]*(6|time\s+blocking)", body, re.IGNORECASE))  # another echo
    assert without_echo(echo + body, INDEX, TITLE) == body


SCRIPTS: dict[str, list[str]] = {
    "标题": [
        *(
            "（2）标题\n",
            "（2）标题：",
            "【标题】",
            "【标题】\n",
            "②标题：",
            "② 标题\n",
            "第二章 标题\n",
            "第2章：标题\n",
        ),
        *(
            "二、标题\n",
            "标题：",
            "标题：标题\n",
            "**标题：标题**\n",
            "「标题」\n",
            "《标题》\n",
            "## 【标题】\n",
            "２、",
            "② ",
            "❷ ",
        ),
        *("2️⃣ 标题\n", "2️⃣ ", "（2） "),
    ],
    "Titel": [
        *("Punkt 2: Titel. ", "**Punkt 2: Titel.** ", "Punkt 2 – Titel\n", "Punkt 2:\nTitel\n", "Étape 2 : Titel\n"),
        *("Title: Titel\n", "**Title:** Titel\n", "**Title**: Titel\n\n", "Überschrift: Titel\n", "2. Title: Titel\n"),
        *(
            "№2 Titel\n",
            "№ 2. Titel\n",
            "#2: Titel\n",
            "II. Titel\n",
            "B) Titel\n",
            "(ii) Titel\n",
            "Ⅱ Titel\n",
            "2- Titel\n",
        ),
    ],
    "Свет": ["Шаг 2. Свет\n", "Шаг 2: Свет. ", "Заголовок: Свет\n"],
    "نوم": ["٢. نوم\n", "\u200f٢. نوم\n", "٢- نوم: ", "النقطة ٢: نوم\n", "٢. ", "۲) نوم\n"],
    "नींद": ["२. नींद\n", "चरण २: नींद\n", "नींद: "],
    "แสง": ["๒. แสง\n", "ข้อ 2: แสง\n"],
    "빛": ["제2장 빛\n", "2단계: 빛\n"],
}


@pytest.mark.parametrize(("title", "echo"), [(title, echo) for title, echoes in SCRIPTS.items() for echo in echoes])
@pytest.mark.parametrize("body", ["正文在这里。", "Text is here.", "① 第一。"])
def test_an_echo_in_any_script_is_removed_whatever_the_chunks(title: str, echo: str, body: str) -> None:
    text = echo + body
    for size in range(1, len(text) + 1):
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert stream(ReplyText(echo=partial(echo_length, 2, title)), chunks) == body


@pytest.mark.parametrize(
    ("index", "title", "body"),
    [
        (2, "标题", "标题是很重要的。"),
        (2, "标题", "「标题」是很重要的。"),
        (2, "标题", "二战后，标题很多。"),
        (2, "标题", "二、"),
        (3, "Python", "Python 3: released in 2008."),
        (1, "I think", "I, Robot is a book."),
        (1, "Sleep", "A sleep of 8 hours."),
        (1, "Sleep", "I sleep well."),
        (2, "Titel", "Hinweis: Titel ist gut."),
        (2, "Light", "II. World war."),
        (2, "Light", "[Light](http://x.y) is good."),
        (2, "Light", "2½ cups."),
        (2, "Light", "²H is heavy."),
        (2, "Light", "\u200fText with a mark."),
    ],
)
def test_a_text_that_only_looks_like_an_echo_is_kept_whatever_the_chunks(index: int, title: str, body: str) -> None:
    for size in range(1, len(body) + 1):
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        assert stream(ReplyText(echo=partial(echo_length, index, title)), chunks) == body


@pytest.mark.parametrize(
    "start", ["Most people", "Schlaf ist", "睡眠不足的时候人们往往会觉得很累，", "**Blocks** divide", "- Divide it"]
)
def test_a_text_without_an_echo_is_shown_after_its_first_words(start: str) -> None:
    reply = ReplyText(echo=partial(echo_length, INDEX, TITLE))
    assert "".join(map(reply.feed, f"{start} of it")) == f"{start} of it"


NASTY = [
    *("*", "_", "#", "# ", "6", "6.", "6 ", "7. ", "point ", "point 6 ", "word ", "( ", "[", ":", ".", "- ", '"', "、"),
    *("\n", "\r", "\t", " ", "\x00"),
]


@pytest.mark.parametrize("title", ["word word", "word", "*" * 200, "word " * 40])
@pytest.mark.parametrize("before", ["", "6", "6 -", "6. word", "word", "word:", "**6", "point", "# ", '"'])
def test_no_text_takes_long_to_clean(before: str, title: str) -> None:
    for unit in NASTY:
        body = before + unit * (100_000 // len(unit)) + " word"
        began = time.process_time()
        without_echo(body, INDEX, title)
        assert time.process_time() - began < 1
