"""Clean titles are read from any text that a model may write."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sot_graph.outline import READ_LIMIT, TITLE_LIMIT, clean_title, clean_titles, read_outline

SURVIVORS = [
    "24/7 support",
    "3D printing basics",
    "5 - 7 cups of water",
    "__init__ and __new__",
    "__init__",
    "1:1 meetings",
    "3.5 litres a day",
    "10:30 on Mondays",
    "-5°C and below",
    "#1 priority",
    "A* search",
    "C#",
    "C++",
    "Dos and don'ts",
    "Node.js",
    "Rock 'n' roll",
    'The "cloud"',
    "What is sleep?",
    "[WIP] drafts",
    "snake_case names",
    ".NET",
    "2*3 and 4*5",
    "Überblick",
    "睡眠",
    "🚀 Launch",
]

text = st.text()
# Parts of outlines, in any order.
marks = [
    *("1.", "2)", "(3)", "4、", "1.1", "Point 5:", "- ", "* ", "• ", "+ ", "– ", "#", "## ", "**", "*", "_", "__", "`"),  # noqa: RUF001 - as models write
    *("```", "~~~", "```python", "> ", "[", "](", ")", "{", "}", "]", '"', "\\", ":", ",", ".", "…", " ", "  ", "\t"),
    *("\n", "\r\n", "\x85", "\u2028", "\x0b", "\x00", "\x1b", "\ud800", '{"points": [', '"title": ', "null", "and"),
    *("Title", "C#", "x", "Ü", "睡", "é", "1", "²", "ß", "İ"),
]
fragments = st.lists(st.sampled_from(marks) | st.text(max_size=3), max_size=40).map("".join)
anything = text | fragments

words = st.text(
    st.characters(categories=["Ll", "Lu", "Lo", "Nd"], include_characters="-'+#/&?"), min_size=1, max_size=8
)
phrases = (
    st.lists(words, min_size=1, max_size=5)
    .map(" ".join)
    .filter(lambda title: clean_title(title) == title and any(map(str.isalpha, title)))
)
# A reply that begins with "NONE" has no outline.
titles = (st.sampled_from(SURVIVORS) | phrases).filter(lambda title: not title.casefold().startswith("none"))
outlines = st.lists(titles, min_size=2, max_size=12, unique_by=str.casefold)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("1. A\n2. B", ["A", "B"]),
        ("1.A\n2.B", ["A", "B"]),
        ("1) A\n2) B", ["A", "B"]),
        ("(1) A\n(2) B", ["A", "B"]),
        ("1、睡眠\n2、3D打印", ["睡眠", "3D打印"]),
        ("１．A\n２．B", ["A", "B"]),  # noqa: RUF001 - as models write
        ("Point 1: A\nPoint 2: B", ["A", "B"]),
        ("Step 1 - A\nStep 2 - B", ["A", "B"]),
        ("- A\n- B", ["A", "B"]),
        ("* A\n* B", ["A", "B"]),
        ("•A\n•B", ["A", "B"]),
        ("- [ ] A\n- [x] B", ["A", "B"]),
        ("> - A\n> - B", ["A", "B"]),
        ("- 1. A\n- 2. B", ["A", "B"]),
        ("**A**\n\n**B:**", ["A", "B"]),
        ("**1. A**\n\n**2. B**", ["A", "B"]),
        ("**1.** A\n**2**. B", ["A", "B"]),
        ("1. **A**: what\n2. **B:** it\n3. **C** - says\n4. **Well-being** — is", ["A", "B", "C", "Well-being"]),
        ("**1. A**: what\n**2. B**: it says", ["A", "B"]),
        ("## A\n\n## B ##", ["A", "B"]),
        ("## 1. A\n\n## 2. B", ["A", "B"]),
        ("### **Step 1: A**\nText\n### **Step 2: B**\nText", ["A", "B"]),
        ("  8. A\n  9. B\n 10. C", ["A", "B", "C"]),
        ("1. A\r\n2. B\r\n", ["A", "B"]),
        ("1. A", ["A"]),
        ("- A", ["A"]),
    ],
)
def test_a_list_with_any_marker_is_read(reply: str, expected: list[str]) -> None:
    assert read_outline(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("1. A 2. B 3. C", ["A", "B", "C"]),
        ("Sure: 1. A. 2. B. 3. C. I hope that it helps.", ["A", "B", "C"]),
        ("Sure!\n1) A; 2) B; 3) C\nI hope that it helps", ["A", "B", "C"]),
        ("(1) sleep, (2) light and (3) noise", ["sleep", "light", "noise"]),
        ("1. The 3. of May 2. The 4. of June", ["The 3. of May", "The 4. of June"]),
        ("• A • B", ["A", "B"]),
        ("Sure: • A • B\nI hope that it helps", ["A", "B"]),
        ("- Kinds: (1) light, (2) deep\n- Causes", ["Kinds: (1) light, (2) deep", "Causes"]),
    ],
)
def test_a_list_on_one_line_is_read(reply: str, expected: list[str]) -> None:
    assert read_outline(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "1. A\n   - x\n   - y\n2. B\n   - z\n   - w",
        "1. A\n- x\n- y\n2. B\n- z",
        "1. A\n1.1 x\n1.2. y\n2. B\n- 2.1 z",
        "1. A\n   1. x\n   2. y\n2. B\n   1. z",
        "1. A\n\tx, which is said\n\ton two lines\n2. B",
        "1. A\n**x**\n**y**\n2. B",
        "- A\n  - x\n  - y\n- B\n  1. z\n  2. w",
        "* A\n\t+ x\n\t+ y\n* B",
        "## A\n- x\n- y\n## B\n- z",
        "## A\n1. x\n2. y\n## B\n1. z\n2. w",
        "## A\n1. x\n\n## B\n",
        "## A\n### x\n### y\n## B\n### z",
        "# Sleep\n## A\n### x\n### y\n## B",
        "# Sleep\n## 1. A\n1. x\n2. y\n## 2. B\n",
        "**A**\n- x\n- y\n\n**B**\n- z",
        "**1. A**\n1. x\n2. y\n\n**2. B**\n1. z",
        "1. A\n1. B\n",
        "1. A\n- x\n1. B\n- y",
    ],
)
def test_sub_points_are_ignored(reply: str) -> None:
    assert read_outline(reply) == ["A", "B"]


@pytest.mark.parametrize("reply", ["1. A\n- x\n- y", "1. A\n   1. x\n   2. y\n", "1. A\n1.1 x\n1.2 y", "- A\n  - x"])
def test_sub_points_of_a_lone_item_are_ignored(reply: str) -> None:
    assert read_outline(reply) == ["A"]


@pytest.mark.parametrize(
    "reply",
    [
        "Here are 2. things to know:\n\n1. A\n2. B\n\nShall I go on?",
        "# Outline\n1. A\n2. B",
        "**Outline**\n\n- A\n- B\n\n**Shall I go on?** Do say.",
        "- short\n- to the point\n\n1. A\n2. B",
        "1. A\n2. B\n\n- It is short.\n- It is to the point.",
        "1. A\n\n---\n\n2. B\n\n* * *",
    ],
)
def test_text_around_a_list_is_ignored(reply: str) -> None:
    assert read_outline(reply) == ["A", "B"]


@pytest.mark.parametrize(
    "reply",
    [
        "```\n1. A\n2. B\n```",
        "Sure!\n\n~~~text\n- A\n- B\n~~~\n\nShall I go on?",
        "**Outline:**\n```markdown\n# Outline\n## A\n## B\n```",
        "Step 2: the outline.\n````md\n1. A\n2. B",
        "1. A\n```python\n# Load\nx = ['a', 'b']\n# Save\n```\n2. B",
        "1. A\n   ```\n   1. x\n   2. y\n   ```\n2. B",
        '1. A\n```json\n{"points": ["x", "y"]}\n```\n2. B',
        "1. A\n2. B\n```sh title=x\n- x\n",
        "1. ```A```\n2. B",
    ],
)
def test_a_list_in_a_fence_is_read_and_a_program_is_not(reply: str) -> None:
    assert read_outline(reply) == ["A", "B"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"points": ["A", "B"]}',
        '["A", "B"]',
        '["1. A", "**B**"]',
        '{"points": ["A", "B",]}',
        '{"topic": "Sleep", "tags": [], "points": ["A", "B"]}',
        '{"outline": {"points": ["A", "B"]}}',
        '[{"title": "A", "why": "x"}, {"id": "2", "title": "B"}]',
        '[{"index": 1, "point": "A"}, {"index": 2, "point": "B"}]',
        '{"sections": [{"title": "A", "parts": ["x"]}, {"title": "B", "parts": []}]}',
        '{\n  "points": [\n    "A",\n    "B"\n  ]\n}',
        '```json\n{"points": ["A", "B"]}\n```',
        'Sure!\n```\n["A", "B"]\n```\nShall I go on?',
        'Sure! {"points": ["A", "B"]} Shall I {go} on [?]',
        'As {you} [asked]:\n{"points": ["A", "B"]}',
        '{"thoughts": "none"}\n{"points": ["A", "B"]}',
        '["A", "B", 3, null, ["x"], true]',
        '["A\x00", "\nB"]',
        '["A", "B"] and ["x"]',
        '["A", "B" "x"]',
    ],
)
def test_json_is_read(reply: str) -> None:
    assert read_outline(reply) == ["A", "B"]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("", ["A", "Be"]),
        (' wa"', ["A", "Be wa"]),
        ('", ', ["A", "Be"]),
        ('"], "more": tr', ["A", "Be"]),
        ('"], "more": {"a', ["A", "Be"]),
        ('"}, {"ti', ["A", "Be"]),
        ("\\", ["A"]),  # a title with a cut-off escape is dropped
        ("\\u00", ["A"]),
    ],
)
@pytest.mark.parametrize("fence", ["", "```json\n"])
def test_json_that_is_cut_off_is_read_as_far_as_possible(fence: str, end: str, expected: list[str]) -> None:
    assert read_outline(f'{fence}{{"points": ["A", "Be{end}') == expected


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n\t",
        "NONE",
        "None.",
        "The answer is 42.",
        "There are 3. things, and here are 2. more",
        "3. things are to be said",
        "We saw version 1. Then came version 2. It was better.",
        "It takes 3.5 litres.\nIt takes 24/7 support.\n1.1 of it",
        "In 2019. Then\n2020. And",
        "Sleep well - and long - every night.\nIt *is* **good**.",
        "# Sleep\n\nSleep well.",
        "**Sleep**\n\nSleep well.",
        "Lists such as `x = ['a', 'b']`, d = {\"a\": [\"b\"]} and [this](https://example.com) are no outline.",
        '```python\n# Load\nx = ["a", "b"]\n# Save\n- 1\n- 2\n```',
        '{"points": []}',
        '{"points": "Sleep and light"}',
        '{"points": [1, 2, {"n": 3}]}',
        '["", "- ", "1."]',
        "1.\n2.\n3.",
        "- \n- ---\n- ***",
    ],
)
def test_a_text_without_a_list_has_no_titles(reply: str) -> None:
    assert read_outline(reply) == []


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("1. Title", "Title"),
        ("Point 12: Title", "Title"),
        ("- **1. Title**: what it says", "Title"),
        ("**Title:** what it says", "Title"),
        ("***Title***", "Title"),
        ("__The title__", "The title"),
        ("_Title_", "Title"),
        ("The _best_ *and* `finest` ~~worst~~ **title**", "The best and finest worst title"),
        ("[The title](https://example.com/a_b)", "The title"),
        ('"Title",', "Title"),
        ("“Title”.", "Title"),
        ("‘Title’", "Title"),  # noqa: RUF001 - as models write
        ("«Title»:", "Title"),
        ('"One" and "two"', '"One" and "two"'),
        ("'One' and 'two'", "'One' and 'two'"),
        ("**Title", "Title"),
        ("Title**", "Title"),
        ("Title...", "Title"),
        (" a\n title\t\u2028 on\x85four \r\n lines ", "a title on four lines"),
        ("a\x00ti\x1btle\ud800", "a ti tle"),
        ("1. 2) - ## Title", "Title"),
        ("***", ""),
        ("- - -", ""),
        ("?!", ""),
        ("*args and **kwargs", "*args and **kwargs"),
        ("Point 1", "Point 1"),
        ("Section 3:", ""),
    ],
)
def test_numbering_and_markup_are_stripped_from_a_title(title: str, expected: str) -> None:
    assert clean_title(title) == expected


@pytest.mark.parametrize("title", SURVIVORS)
@pytest.mark.parametrize("form", ["{}", "1. {}", "- {}", "**{}**", "## {}", "1. **{}**: what it says", "**1. {}**"])
def test_a_title_keeps_its_own_signs_and_numbers(form: str, title: str) -> None:
    assert clean_title(form.format(title)) == title


def test_a_long_title_is_cut() -> None:
    assert clean_title("x" * 10 * TITLE_LIMIT) == "x" * TITLE_LIMIT
    assert clean_title("abc, " * TITLE_LIMIT).endswith("abc")


def test_empty_and_repeated_titles_are_dropped() -> None:
    assert clean_titles(["", "1. Sleep", "**sleep**", "-", "STRASSE", "Straße"]) == ["Sleep", "STRASSE"]


@settings(deadline=None, max_examples=400)
@given(anything)
@example("x" * 2 * TITLE_LIMIT)
@example("…" + "x" * TITLE_LIMIT + "…")
def test_any_text_gives_clean_titles_or_none(reply: str) -> None:
    found = read_outline(reply)
    assert found == clean_titles(found)
    for title in found:
        assert title.splitlines() == [title]
        assert not any(map(is_control, title))
        assert 0 < len(title) <= TITLE_LIMIT


def is_control(char: str) -> bool:
    return ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000


@settings(deadline=None, max_examples=400)
@given(st.lists(anything))
def test_clean_titles_do_not_change(given_titles: list[str]) -> None:
    cleaned = clean_titles(given_titles)
    assert clean_titles(cleaned) == cleaned


MARKERS: dict[str, Callable[[int, str], str]] = {
    "1.": lambda i, title: f"{i}. {title}",
    "1)": lambda i, title: f"{i}) {title}",
    "(1)": lambda i, title: f"({i}) {title}",
    "1、": lambda i, title: f"{i}、{title}",
    "Point 1:": lambda i, title: f"Point {i}: {title}",
    "1. bold": lambda i, title: f"{i}. **{title}**",
    "1. bold: explained": lambda i, title: f"{i}. **{title}**: what it says",
    "1. bold:": lambda i, title: f"{i}. **{title}:** what it says",
    "bold 1.": lambda i, title: f"**{i}. {title}**",
    "heading 1.": lambda i, title: f"## {i}. {title}",
    "heading": lambda _, title: f"## {title}",
    "bold": lambda _, title: f"**{title}**",
    "-": lambda _, title: f"- {title}",
    "*": lambda _, title: f"* {title}",
    "•": lambda _, title: f"• {title}",
}
PREAMBLES = ["", "Sure!\n", "Here are 3. things to know:\n\n", "# Outline\n\n", "**Outline** of the answer:\n\n"]
AFTERWORDS = ["", "\n\nShall I go on?", "\n\nThere are 2. more. **Say so.**\n"]
SUB_POINTS = ["", "\n    - x\n    - y", "\n    1. x\n    2. y", "\n1.1 x\n1.2 y", "\n   It says much.\n", "\n\n"]


@pytest.mark.parametrize("marker", MARKERS)
@settings(deadline=None, max_examples=40)
@given(
    outline=outlines,
    preamble=st.sampled_from(PREAMBLES),
    afterword=st.sampled_from(AFTERWORDS),
    below=st.sampled_from(SUB_POINTS),
    fenced=st.booleans(),
)
def test_an_outline_is_read_as_it_was_written(
    marker: str, outline: list[str], preamble: str, afterword: str, below: str, *, fenced: bool
) -> None:
    written = "\n".join(MARKERS[marker](i, title) + below for i, title in enumerate(outline, start=1))
    block = f"```\n{written}\n```" if fenced else written
    assert read_outline(f"{preamble}{block}{afterword}") == outline


@settings(deadline=None, max_examples=100)
@given(outline=outlines, marker=st.sampled_from(["1.", "1)", "(1)", "•"]), afterword=st.sampled_from(AFTERWORDS))
def test_an_outline_on_one_line_is_read_as_it_was_written(outline: list[str], marker: str, afterword: str) -> None:
    plain = [title.replace("?", "") for title in outline]  # the last item may end in a sentence's end
    written = " ".join(MARKERS[marker](i, title) for i, title in enumerate(plain, start=1))
    assert read_outline(written + afterword) == clean_titles(plain)


@settings(deadline=None, max_examples=100)
@given(
    outline=st.lists(titles | anything),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
    preamble=st.sampled_from(["", "Sure!\n", "Sure: ", "```json\n"]),
    afterword=st.sampled_from(["", "\n", "\n```\nShall I [go] on?", " Shall I {go} on?"]),
)
def test_an_outline_in_json_is_read_as_it_was_written(
    outline: list[str], *, ascii_only: bool, indent: int | None, preamble: str, afterword: str
) -> None:
    outline = [title.encode("utf-8", "replace").decode() for title in outline]  # in JSON too, no lone surrogates
    written = json.dumps({"points": outline}, ensure_ascii=ascii_only, indent=indent)
    assert read_outline(f"{preamble}{written}{afterword}") == clean_titles(outline)


@settings(deadline=None, max_examples=100)
@given(outline=outlines, data=st.data())
def test_json_that_is_cut_off_anywhere_keeps_the_titles_before(outline: list[str], data: st.DataObject) -> None:
    written = json.dumps({"points": outline}, ensure_ascii=False)
    end = data.draw(st.integers(0, len(written)))
    found = read_outline(written[:end])
    assert found[:-1] == outline[: len(found)][:-1]
    assert len(found) >= written[:end].count('", "')


NASTY = [
    *(
        "*",
        "**",
        "***a",
        "_",
        "__a",
        "`",
        "~~",
        "#",
        "# ",
        "# a\n",
        "**a**\n",
        "**a**: ",
        "[(",
        "[a](b)",
        "[",
        "]",
        "(",
    ),
    *("{", "}", '["a",', '["a",\n', '{"a":', '{"a":\n', "a: [", 'a. {"\n', ",]", ", ", '"', "'", '"a" ', "\\", "\\u"),
    *("1. ", "1.\n", "1. a\n", "1. **x**: y\n", "1 - ", "1 ", "1", "9", "1、", "(1) ", "and ", "and 1) ", "point 1 "),
    *("- ", "- a\n", "-", "• ", "•", "+ - * ", "> ", "|", "…", "a. ", "a ", "a", "é", "\n", "\r", "\t", " ", "\t\n"),
    *("```\n", "``` ", "~~~", "\x00", "\ud800", "\u2028", "\u200b"),
]


@pytest.mark.parametrize("unit", NASTY)
def test_no_text_takes_long_to_read(unit: str) -> None:
    for reply in (unit * (1_000_000 // len(unit)), unit * (READ_LIMIT // len(unit) - 1) + '`"]'):
        for read in (read_outline, clean_title):
            began = time.process_time()
            read(reply)
            assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("<think>1. Perhaps\n2. Or not</think>\n1. Sleep\n2. Light", ["Sleep", "Light"]),
        ("NONE", []),
        ("**None.**\n\n- it is a calculation\n- it is short", []),
        ("None of it is hard:\n1. Sleep\n2. Light", ["Sleep", "Light"]),
        ("Set goals\nMake a plan\nRest well", ["Set goals", "Make a plan", "Rest well"]),
        ("It is late.\nI will not.\nGood night.", []),
        ('{"1": "Sleep", "2": "Light"}', ["Sleep", "Light"]),
        ('{"points": "1. Sleep\\n2. Light"}', ["Sleep", "Light"]),
    ],
)
def test_other_forms_of_small_models_are_read(text: str, titles: list[str]) -> None:
    assert read_outline(text) == titles
