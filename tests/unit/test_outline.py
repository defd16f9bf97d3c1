"""Clean titles are read from any text that a model may write."""

# ruff: noqa: RUF001 - as models write

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
    *("1.", "2)", "(3)", "4、", "1.1", "Point 5:", "- ", "* ", "• ", "+ ", "– ", "#", "## ", "**", "*", "_", "__", "`"),
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
        ("１．A\n２．B", ["A", "B"]),
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
        ("", ["A"]),  # a title that is cut off is dropped
        (" wa", ["A"]),
        ('"', ["A", "Be"]),
        (' wa"', ["A", "Be wa"]),
        ('", ', ["A", "Be"]),
        ('"], "more": tr', ["A", "Be"]),
        ('"], "more": {"a', ["A", "Be"]),
        ('"}, {"ti', ["A", "Be"]),
        ("\\", ["A"]),
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
        ("‘Title’", "Title"),
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
    title = "".join(map(str, range(TITLE_LIMIT)))
    assert clean_title(title) == title[:TITLE_LIMIT]
    assert clean_title("a, ".join(map(str, range(TITLE_LIMIT)))).endswith("a")


@pytest.mark.parametrize(
    "title",
    [
        "1.1.1.1.1.1.1.1.1.1.1",
        "na na na na na na na na",
        "点点点点点点点点点",
        "name, name, name, name, name, name, nam",
    ],
)
def test_a_title_that_is_one_string_over_and_over_is_dropped(title: str) -> None:
    assert clean_titles([title, "Ha ha ha!", "New York, New York", "1999", "Zzz", "10000000"]) == [
        *("Ha ha ha!", "New York, New York", "1999", "Zzz", "10000000"),
    ]


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
    assert found == outline[: len(found)]
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
            assert time.process_time() - began < 3


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


# Lists that a person reads as sleep, light and noise.
PERSONS_LISTS = [
    "<points><point>Sleep</point><point>Light</point><point>Noise</point></points>",
    "<points>\n  <point>Sleep</point>\n  <point>Light</point>\n  <point>Noise</point>\n</points>",
    "Here is it:\n<outline>\n<title>Sleep</title>\n<title>Light</title>\n<title>Noise</title>\n</outline>\nShall I go on?",  # noqa: E501
    "<ol><li>Sleep</li><li>Light</li><li>Noise</li></ol>",
    "Sure: <ol><li><b>Sleep</b>: it is good</li><li><b>Light</b>: so</li><li><b>Noise</b>: x</li></ol>",
    "<ul>\n<li>Sleep<ul><li>x</li><li>y</li></ul></li>\n<li>Light</li>\n<li>Noise</li>\n</ul>",
    "<p>Here it is:</p><ol><li>Sleep<li>Light<li>Noise</ol><p>Bye</p>",
    '<sections><section id="1"><heading>Sleep</heading><body>x</body></section><section id="2"><heading>Light</heading><body>y</body></section><section><heading>Noise</heading></section></sections>',  # noqa: E501
    '<plan topic="Rest"><item title="Sleep"/><item title="Light"/><item title="Noise"/></plan>',
    '<plan><item name="Sleep"/><item name="Light"/><item name="Noise"/></plan>',
    "<h1>Rest</h1><h2>Sleep</h2><p>a</p><p>b</p><h2>Light</h2><p>c</p><h2>Noise</h2><p>c</p>",
    "<table><tr><th>#</th><th>Title</th></tr><tr><td>1</td><td>Sleep</td></tr><tr><td>2</td><td>Light</td></tr><tr><td>3</td><td>Noise</td></tr></table>",
    "```html\n<ol><li>Sleep</li><li>Light</li><li>Noise</li></ol>\n```",
    "| Title | Why |\n|---|---|\n| Sleep | x |\n| Light | y |\n| Noise | z |",
    "| # | Title | Why |\n|---|:---:|---|\n| 1 | **Sleep** | x |\n| 2 | Light | y |\n| 3 | Noise | z |",
    "Here:\n\nNo | Title\n---|---\n1. | Sleep\n2. | Light\n3. | Noise\n\nShall I go on?",
    "| Step | Title |\n|---|---|\n| Step 1 | Sleep |\n| Step 2 | Light |\n| Step 3 | Noise |",
    "| | |\n|---|---|\n| I | Sleep |\n| II | Light |\n| III | Noise |",
    "❶ Sleep\n❷ Light\n❸ Noise",
    "⑴ Sleep\n⑵ Light\n⑶ Noise",
    "⒈Sleep\n⒉Light\n⒊Noise",
    "⒜ Sleep\n⒝ Light\n⒞ Noise",
    "ⓐ Sleep\nⓑ Light\nⓒ Noise",
    "Ⅰ. Sleep\nⅡ. Light\nⅢ. Noise",
    "Ⅰ Sleep\nⅡ Light\nⅢ Noise",
    "1\ufe0f\u20e3 Sleep\n2\ufe0f\u20e3 Light\n3\ufe0f\u20e3 Noise",
    "1\ufe0f\u20e3 Sleep 2\ufe0f\u20e3 Light 3\ufe0f\u20e3 Noise",
    "1\u20e3Sleep\n2\u20e3Light\n3\u20e3Noise",
    "α) Sleep\nβ) Light\nγ) Noise",
    "#1 Sleep\n#2 Light\n#3 Noise",
    "#1: Sleep\n#2: Light\n#3: Noise",
    "I. Sleep\nII. Light\nIII. Noise",
    "i. Sleep\nii. Light\niii. Noise",
    "i) Sleep\nii) Light\niii) Noise",
    "(i) Sleep\n(ii) Light\n(iii) Noise",
    "I - Sleep\nII - Light\nIII - Noise",
    "I. Sleep\n  A. x\n  B. y\nII. Light\n  A. z\nIII. Noise",
    "I. Sleep\nA. x\nB. y\nC. w\nII. Light\nA. z\nIII. Noise",
    "A. Sleep\nB. Light\nC. Noise",
    "A) Sleep\nB) Light\nC) Noise",
    "a) Sleep\nb) Light\nc) Noise",
    "(a) Sleep\n(b) Light\n(c) Noise",
    "A: Sleep\nB: Light\nC: Noise",
    "A. Sleep\n1. x\n2. y\nB. Light\n1. z\nC. Noise",
    "Punkt 1: Sleep\nPunkt 2: Light\nPunkt 3: Noise",
    "**Punkt 1:** Sleep\n\n**Punkt 2:** Light\n\n**Punkt 3:** Noise",
    "### Étape 1 : Sleep\nblah\n### Étape 2 : Light\nbl\n### Étape 3 : Noise",
    "Étape n° 1 : Sleep\nÉtape n° 2 : Light\nÉtape n° 3 : Noise",
    "Kapitel 1\xa0\u2013 Sleep\nKapitel 2 \u2013 Light\nKapitel 3 \u2013 Noise",
    "- **Paso 1**: Sleep\n- **Paso 2**: Light\n- **Paso 3**: Noise",
    "Punkt I: Sleep\nPunkt II: Light\nPunkt III: Noise",
    "1º Sleep\n2º Light\n3º Noise",
    "1ª parte: Sleep\n2ª parte: Light\n3ª parte: Noise",
    "1st: Sleep\n2nd: Light\n3rd: Noise",
    "1- Sleep\n2- Light\n3- Noise",
    "1-Sleep\n2-Light\n3-Noise",
    "1/ Sleep\n2/ Light\n3/ Noise",
    "1 Sleep\n2 Light\n3 Noise",
    "01 Sleep\n02 Light\n03 Noise",
    "01. Sleep\n02. Light\n03. Noise",
    "1) Sleep\n\n2) Light\n\n3) Noise",
    "[1] Sleep\n[2] Light\n[3] Noise",
    "<1> Sleep\n<2> Light\n<3> Noise",
    "1.1 Sleep\n1.2 Light\n1.3 Noise",
    "1.- Sleep\n2.- Light\n3.- Noise",
    "► Sleep\n► Light\n► Noise",
    "►Sleep\n►Light\n►Noise",
    "➤ Sleep\n➤ Light\n➤ Noise",
    "✓ Sleep\n✓ Light\n✓ Noise",
    "✅ Sleep\n✅ Light\n✅ Noise",
    "🔹 Sleep\n🔹 Light\n🔹 Noise",
    "🌙 Sleep\n💡 Light\n🔊 Noise",
    "\u2600\ufe0f Sleep\n\u2600\ufe0f Light\n\u2600\ufe0f Noise",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 Sleep\n\U0001f469\U0001f3fd\u200d\u2695\ufe0f Light\n\U0001f1e9\U0001f1ea Noise",  # noqa: E501
    "→ Sleep\n→ Light\n→ Noise",
    "» Sleep\n» Light\n» Noise",
    "~ Sleep\n~ Light\n~ Noise",
    "¤ Sleep\n¤ Light\n¤ Noise",
    "-Sleep\n-Light\n-Noise",
    "— Sleep\n— Light\n— Noise",
    "·Sleep\n·Light\n·Noise",
    "\uf0b7 Sleep\n\uf0b7 Light\n\uf0b7 Noise",
    "o Sleep\no Light\no Noise",
    "⟡ Sleep\n⟡ Light\n⟡ Noise",
    "['Sleep', 'Light', 'Noise']",
    "Sure: ['Sleep', 'Light', 'Noise'] Shall I go on?",
    "```python\n['Sleep', 'Light', 'Noise']\n```",
    "{'points': ['Sleep', 'Light', 'Noise']}",
    "[{'title': 'Sleep'}, {'title': 'Light'}, {'title': 'Noise'}]",
    "('Sleep', 'Light', 'Noise')",
    '("Sleep", "Light", "Noise")',
    "[“Sleep”, “Light”, “Noise”]",
    '{"title":"Sleep"}\n{"title":"Light"}\n{"title":"Noise"}',
    '{"Sleep": {"why": "x"}, "Light": {"why": "y"}, "Noise": {"why": "z"}}',
    '{"point_1": {"title": "Sleep"}, "point_2": {"title":"Light"}, "point_3": {"title":"Noise"}}',
    '{"point_1": "Sleep", "point_2": "Light", "point_3": "Noise"}',
    '{"Sleep": ["x","y"], "Light": ["z"], "Noise": []}',
    '{"Sleep": "Why it matters", "Light": "How it matters", "Noise": "What it is"}',
    '[["1", "Sleep"], ["2", "Light"], ["3", "Noise"]]',
    '[{"id": "p1", "heading": "Sleep"}, {"id": "p2", "heading": "Light"}, {"id":"p3","heading":"Noise"}]',
    '{"outline": "1. Sleep\\n2. Light\\n3. Noise"}',
    '{"a": [{"b": {"title": "Sleep"}}, {"b": {"title": "Light"}}, {"b": {"title": "Noise"}}]}',
    '["A. Sleep", "B. Light", "C. Noise"]',
    '["► Sleep", "► Light", "► Noise"]',
    '["Punkt 1: Sleep", "Punkt 2: Light", "Punkt 3: Noise"]',
    "None of these need much.\n1. Sleep\n2. Light\n3. Noise",
    "None of it\n- Sleep\n- Light\n- Noise",
    "NONE of these:\n- Sleep\n- Light\n- Noise",
    "Here is the outline:\n\nSleep\nLight\nNoise",
    "Sleep\n\nLight\n\nNoise\n\nShall I go on?",
    "points:\n  - Sleep\n  - Light\n  - Noise",
    "outline:\n  - title: Sleep\n    why: x\n  - title: Light\n    why: y\n  - title: Noise\n    why: z",
    "# Rest\n\n1. Sleep\n2. Light\n3. Noise\n\n## Notes\nx",
    "1.\nSleep\n2.\nLight\n3.\nNoise",
    # Markers of other scripts and kinds.
    *(
        "\n".join(f"{mark}{title}" for mark, title in zip(marks.split("|"), ("Sleep", "Light", "Noise"), strict=True))
        for marks in (
            "ა) |ბ) |გ) ",
            "ա. |բ. |գ. ",
            "௧. |௨. |௩. ",
            "১। |২। |৩। ",
            "១. |២. |៣. ",
            "፩. |፪. |፫. ",
            "ข้อ ๑. |ข้อ ๒. |ข้อ ๓. ",
            "Bước 1: |Bước 2: |Bước 3: ",
            "Adım 1 - |Adım 2 - |Adım 3 - ",
            "壹、|贰、|叁、",
            "其一：|其二：|其三：",
            "ㄱ. |ㄴ. |ㄷ. ",
            "㊀ |㊁ |㊂ ",
            "⓵ |⓶ |⓷ ",
            "Ⓐ |Ⓑ |Ⓒ ",
            "Ａ．|Ｂ．|Ｃ．",
            "ⅰ |ⅱ |ⅲ ",
            "__1.__ |__2.__ |__3.__ ",
            "1 → |2 → |3 → ",
            "{1} |{2} |{3} ",
            "☐ |☑ |☐ ",
            "❖ |❖ |❖ ",
            "\u2066\u200e1. |\u20662. |\u20663. ",
            "\ufeff1. |2. |3. ",
        )
    ),
]


@pytest.mark.parametrize("reply", PERSONS_LISTS)
def test_a_list_is_read_as_a_person_reads_it(reply: str) -> None:
    assert read_outline(reply) == ["Sleep", "Light", "Noise"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("以下是大纲：\n一、睡眠\n二、光线\n三、声音", ["睡眠", "光线", "声音"]),
        ("以下是大纲：\n\n第一章 睡眠\n第二章 光线\n第三章 声音\n\n希望对你有帮助。", ["睡眠", "光线", "声音"]),
        ("第1章：睡眠\n第2章：光线\n第3章：声音", ["睡眠", "光线", "声音"]),
        ("第一，睡眠\n第二，光线\n第三，声音", ["睡眠", "光线", "声音"]),
        ("第一部分：睡眠\n第二部分：光线\n第三部分：声音", ["睡眠", "光线", "声音"]),
        ("一、睡眠\n1. x\n2. y\n二、光线\n1. z\n三、声音", ["睡眠", "光线", "声音"]),
        ("（一）睡眠\n（二）光线\n（三）声音", ["睡眠", "光线", "声音"]),
        ("（1）睡眠\n（2）光线\n（3）声音", ["睡眠", "光线", "声音"]),
        ("①睡眠\n②光线\n③声音", ["睡眠", "光线", "声音"]),
        ("①睡眠②光线③声音", ["睡眠", "光线", "声音"]),
        ("① 睡眠 ② 光线 ③ 声音", ["睡眠", "光线", "声音"]),
        ("㈠睡眠\n㈡光线\n㈢声音", ["睡眠", "光线", "声音"]),
        (
            "\u200f1. \u0646\u0648\u0645\n\u200f2. \u0636\u0648\u0621\n\u200f3. \u0636\u062c\u064a\u062c",
            ["نوم", "ضوء", "ضجيج"],
        ),
        (
            "\u200f\u0661. \u0646\u0648\u0645\n\u200f\u0662. \u0636\u0648\u0621\n\u200f\u0663. \u0636\u062c\u064a\u062c",  # noqa: E501
            ["نوم", "ضوء", "ضجيج"],
        ),
        ("١- نوم\n٢- ضوء\n٣- ضجيج", ["نوم", "ضوء", "ضجيج"]),
        ("أ) نوم\nب) ضوء\nج) ضجيج", ["نوم", "ضوء", "ضجيج"]),
        ("الخطوة ١: نوم\nالخطوة ٢: ضوء\nالخطوة ٣: ضجيج", ["نوم", "ضوء", "ضجيج"]),
        ("۱. خواب\n۲. نور\n۳. صدا", ["خواب", "نور", "صدا"]),
        ("א. שינה\nב. אור\nג. רעש", ["שינה", "אור", "רעש"]),
        ("१. नींद\n२. रोशनी\n३. शोर", ["नींद", "रोशनी", "शोर"]),
        ("क) नींद\nख) रोशनी\nग) शोर", ["नींद", "रोशनी", "शोर"]),
        ("चरण १: नींद\nचरण २: रोशनी\nचरण ३: शोर", ["नींद", "रोशनी", "शोर"]),
        ("๑. การนอน\n๒. แสง\n๓. เสียง", ["การนอน", "แสง", "เสียง"]),
        ("ก. การนอน\nข. แสง\nค. เสียง", ["การนอน", "แสง", "เสียง"]),
        ("ขั้นตอนที่ 1: การนอน\nขั้นตอนที่ 2: แสง\nขั้นตอนที่ 3: เสียง", ["การนอน", "แสง", "เสียง"]),
        ("가. 수면\n나. 빛\n다. 소음", ["수면", "빛", "소음"]),
        ("제1장 수면\n제2장 빛\n제3장 소음", ["수면", "빛", "소음"]),
        ("1단계: 수면\n2단계: 빛\n3단계: 소음", ["수면", "빛", "소음"]),
        ("ア．睡眠\nイ．光\nウ．音", ["睡眠", "光", "音"]),
        ("\u30a4\u3000\u7761\u7720\n\u30ed\u3000\u5149\n\u30cf\u3000\u97f3", ["睡眠", "光", "音"]),
        ("甲、睡眠\n乙、光\n丙、音", ["睡眠", "光", "音"]),
        ("а) сон\nб) свет\nв) шум", ["сон", "свет", "шум"]),
        ("А. Сон\nБ. Свет\nВ. Шум", ["Сон", "Свет", "Шум"]),
        ("Шаг 1. Сон\nШаг 2. Свет\nШаг 3. Шум", ["Сон", "Свет", "Шум"]),
        ("№1 Сон\n№2 Свет\n№3 Шум", ["Сон", "Свет", "Шум"]),
        ("№ 1. Сон\n№ 2. Свет\n№ 3. Шум", ["Сон", "Свет", "Шум"]),
        ("【1】睡眠\n【2】光线\n【3】声音", ["睡眠", "光线", "声音"]),
        ("【睡眠】\n【光线】\n【声音】", ["睡眠", "光线", "声音"]),
        ("・睡眠\n・光線\n・音", ["睡眠", "光線", "音"]),
        ("※睡眠\n※光线\n※声音", ["睡眠", "光线", "声音"]),
        ("○睡眠\n○光线\n○声音", ["睡眠", "光线", "声音"]),
        ("[\n  'Sleep',\n  \"Light's\",\n  'Noise',\n]", ["Sleep", "Light's", "Noise"]),
        ("['Sleep', 'Light', 'Noi", ["Sleep", "Light", "Noi"]),
        ("以下是大纲：\n睡眠\n光线\n声音", ["睡眠", "光线", "声音"]),
        ("A good start\nB movies\nC elegans", ["A good start", "B movies", "C elegans"]),
        ("- C. elegans\n- D. melanogaster\n- E. coli", ["C. elegans", "D. melanogaster", "E. coli"]),
        ("- A/B testing\n- B-trees\n- C++", ["A/B testing", "B-trees", "C++"]),
        (
            "- 1984\n- 2FA\n- 3D printing\n- 24-hour clocks\n- I, Robot",
            ["1984", "2FA", "3D printing", "24-hour clocks", "I, Robot"],
        ),
        ("- 1 - 2 cups\n- 2 - 3 cups\n- 10:30", ["1 - 2 cups", "2 - 3 cups", "10:30"]),
        (
            "- Vitamin A: eyes\n- Vitamin B: nerves\n- Vitamin C: blood",
            ["Vitamin A: eyes", "Vitamin B: nerves", "Vitamin C: blood"],
        ),
        ("これがアウトラインです。\n\n一、睡眠\n二、光\n三、音\n\n以上です。", ["睡眠", "光", "音"]),
        ("Вот план:\n\n1) Сон\n2) Свет\n\nПродолжить?", ["Сон", "Свет"]),
        ("<Punkte><Punkt nr='1'>Schlaf</Punkt><Punkt nr='2'>Licht</Punkt></Punkte>", ["Schlaf", "Licht"]),
        ("<dl><dt>Sleep</dt><dd>x</dd><dt>Light</dt><dd>y</dd></dl>", ["Sleep", "Light"]),
        ("|Nr|Titel|\n|-|-|\n|1|Schlaf|\n|2|Licht|\n", ["Schlaf", "Licht"]),
        ("{'a': None, 'points': ['Sleep', 'Light'], 'b': True}", ["Sleep", "Light"]),
        ("<a><![x[y]]></a>", []),
        ("[{1: 'Sleep', 2: 'x'}, {1: 'Light', 2: 'y'}]", ["Sleep", "Light"]),
        ("NONE: it is a sum:\n1. add\n2. carry", []),
        ("None\n\n- short\n- a sum", []),
    ],
)
def test_lists_of_all_scripts_and_titles_that_only_look_marked(reply: str, expected: list[str]) -> None:
    assert read_outline(reply) == expected


@pytest.mark.parametrize(
    "title",
    [
        *(
            "3.5 litres",
            "5 - 7 cups",
            "10:30",
            "I, Robot",
            "1984",
            "2FA",
            "A/B testing",
            "24-hour clocks",
            "C. elegans",
        ),
        *("E. coli", "I. Newton", "World War 2: causes", "Python 3: news", "$100: what it buys", "2月：天气", "Q&A"),
        *("¿Qué es?", "一般来说", "三个要点", "½ cup", "K-pop", "«One» and two", "X: the company"),
    ],
)
def test_what_is_a_marker_only_in_a_list_stays_in_a_lone_title(title: str) -> None:
    assert clean_title(title) == title
    assert clean_titles([title, "Another"]) == [title, "Another"]


@pytest.mark.parametrize(
    "title",
    [
        *(
            "（1）睡眠",
            "①睡眠",
            "１．睡眠",
            "一、睡眠",
            "・睡眠",
            "【睡眠】",
            "1️⃣ 睡眠",
            "► 睡眠",
            "1- 睡眠",
            "a) 睡眠",
            "(iv) 睡眠",
        ),
        *("《睡眠》", "٣. 睡眠", "\u200f३) 睡眠", "❸ 睡眠", "⑶ 睡眠", "<b>睡眠</b>: x", "睡眠。", "(睡眠)"),
    ],
)
def test_a_clear_marker_is_stripped_from_a_lone_title(title: str) -> None:
    assert clean_title(title) == "睡眠"


@pytest.mark.parametrize(
    "unit",
    [
        *("<a>", "</a>", "<li>", "<a title='x'/>", "<!--", "&amp;", "[[", "['a',", "('a',", "|a|b|\n|---|---|\n", "| "),
        *(
            "①",
            "（1）",
            "一、",
            "甲、",
            "i. a\n",
            "A. a\n",
            "가. a\n",
            "1.1.",
            "> - a\n",
            '{"a":1}\n',
            "}{",
            "🚀 a\n",
            "x\n",
        ),
    ],
)
def test_no_list_of_another_kind_takes_long_to_read(unit: str) -> None:
    for start in ("", "x: ", "['"):
        began = time.process_time()
        read_outline(start + unit * (READ_LIMIT // len(unit)))
        assert time.process_time() - began < 2
