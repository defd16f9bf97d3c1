"""One list of sources for all points: the forms that models write, and the text around them."""

import re
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sot_graph import Point, merge_with_references
from sot_graph.nodes.merge import join_points

SUN, SMELL = "https://sun.org/a", "https://smell.org"
BODY = "Bees see the sun [1], and smell [2]."


def points(*texts: str) -> list[Point]:
    return [
        Point(index=index, title=f"T{index}", text=text, status="written", error=None)
        for index, text in enumerate(texts, 1)
    ]


def merged(*texts: str) -> tuple[list[str], str, list[str]]:
    """The paragraphs of the text, the heading and the lines of the list."""
    *paragraphs, heading, lines = merge_with_references(points(*texts)).split("\n\n")
    return paragraphs, heading, lines.split("  \n")


@pytest.mark.parametrize(
    "listed",
    [
        f"Sources:\n[1] {SUN}\n[2] {SMELL}",
        f"Sources:\n\n[1] {SUN}\n\n[2] {SMELL}\n",
        f"## Sources\n\n1. {SUN}\n2. {SMELL}",
        f"**Sources**\n- [1] {SUN}\n- [2] {SMELL}",
        f"### 📚 Sources:\n* **[1]** {SUN}\n* **[2]** {SMELL}",
        f"Sources\n-------\n1) {SUN}\n2) {SMELL}",
        f"---\n\nSources:\n[1]: {SUN}\n[2]: <{SMELL}>",
        f"***\n**Sources:**\n\n[1] - {SUN}\n[2] - {SMELL}",
        f"Sources: [1] {SUN}, [2] {SMELL}",
        f"**Sources:** [1]: {SUN}; [2]: {SMELL}.",
        f"Sources:\n【1】 {SUN}\n【2】{SMELL}",
        f"Sources:\n1.\t{SUN}  \n2.\t{SMELL}\\",
        f"[1]: {SUN}\n[2]: {SMELL}",
        f"[1] {SUN}\n[2] {SMELL}",
        f"1. {SUN}\n2. {SMELL}",
        f"----\n[1] {SUN}\n[2] {SMELL}",
    ],
)
def test_a_list_in_any_form_goes_to_the_end(listed: str) -> None:
    paragraphs, heading, lines = merged(f"{BODY}\n\n{listed}", "Nothing to cite.")
    assert paragraphs == [BODY, "Nothing to cite."]
    assert re.sub(r"\W", "", heading) in ("Sources", "References")
    assert [line.replace("[https", "https").split("](")[0].rstrip(".") for line in lines] == [
        f"[1] {SUN}",
        f"[2] {SMELL}",
    ]


@pytest.mark.parametrize(
    ("described", "line"),
    [
        (f"Title. {SUN}", f"Title. {SUN}"),
        (f"[Title]({SUN})", f"[Title]({SUN})"),
        (f"*Title*, by J. Smith,\n    2020\n    {SUN}", f"*Title*, by J. Smith, 2020 {SUN}"),
        (f"Title\n{SUN}", f"Title {SUN}"),
        ("Smith, J. (2020). `Title`.", "Smith, J. (2020). `Title`."),
        ("(2020) Title", "(2020) Title"),
    ],
)
def test_a_source_stays_as_it_is_described(described: str, line: str) -> None:
    assert merged(f"A [1].\n\nReferences\n[1] {described}\n[2] B")[2] == [f"[1] {line}", "[2] B"]


@pytest.mark.parametrize(
    "heading",
    [
        *(
            "References",
            "**Quellen**",
            "## Quellen:",
            "Références :",
            "Fuentes:",
            "Fonti",
            "参考文献",
            "来源\uff1a",
            "出典",
        ),
        *("Источники:", "المصادر:", "संदर्भ", "출처:", "## 5. Sources", "_Works cited_"),
    ],
)
def test_the_first_heading_is_kept_in_its_language(heading: str) -> None:
    text = f"A [1].\n\n{heading}\n- [1] Book\n"
    assert merged(text, "B [1].\n\nSources:\n[1] Paper") == (
        ["A [1].", "B [2]."],
        heading,
        ["[1] Book", "[2] Paper"],
    )


def test_a_heading_in_a_language_that_nobody_listed_is_known_by_its_list() -> None:
    text = f"A [1].\n\n**Heimildir**\n\n1. [Sun]({SUN})\n2. {SMELL}"
    assert merged(text) == (["A [1]."], "**Heimildir**", [f"[1] [Sun]({SUN})", f"[2] {SMELL}"])


@pytest.mark.parametrize(
    ("cited", "expected"),
    [
        ("[1]", "[5]"),
        ("[1, 2]", "[5, 6]"),
        ("[1,2]", "[5,6]"),
        ("[2; 1]", "[6; 5]"),
        ("[1][2]", "[5][6]"),
        ("[1-3]", "[5-7]"),
        ("[1\u20133]", "[5\u20137]"),
        ("[3-1]", "[7, 5]"),
        ("[1, 2-3]", "[5, 6, 7]"),
        ("[1, 9]", "[5, 9]"),
        ("[2, 4]", "[6]"),
        ("[[1]]", "[[5]]"),
        ("[citation:2]", "[citation:6]"),
        ("[^1^]", "[5]"),
        ("【2†source】", "【6†source】"),
        ("【3】", "【7】"),
        ("<sup>[1]</sup>", "<sup>[5]</sup>"),
        ("[the study][3]", "[the study][7]"),
        ("word[1].", "word[5]."),
    ],
)
def test_citations_in_any_form_get_the_numbers_of_the_answer(cited: str, expected: str) -> None:
    """The first point has four sources, and so the second one's begin at 5; its fourth is its second again."""
    first = "A [1-4].\n\nSources:\n" + "".join(f"[{number}] Book {number}\n" for number in range(1, 5))
    second = f"See [1] [2] [3]. {cited}\n\nSources:\n[1] {SUN}\n[2] {SMELL}\n[3] C\n[4] {SMELL}/#part"
    assert merged(first, second)[0][1] == f"See [5] [6] [7]. {expected}"


def test_footnotes_become_numbers() -> None:
    text = "A[^1] B[^bee] C[^none].\n\n[^1]: Note one.\n[^bee]: Note two,\n    in two lines."
    assert merged(text) == (["A[1] B[2] C[^none]."], "References", ["[1] Note one.", "[2] Note two, in two lines."])


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        (f"[Sun]({SUN}) a", f"[Sun]({SUN}) [1] a", f"[Sun]({SUN})"),
        (f'([sun.org]({SUN}?utm_source=openai "T"))', None, f'[sun.org]({SUN}?utm_source=openai "T")'),
        (f"See {SUN}, a", f"See {SUN} [1], a", SUN),
        (f"**{SUN}**", f"**{SUN} [1]**", SUN),
        (f"<{SUN}> a", f"<{SUN}> [1] a", SUN),
        (f"见{SUN}\u3002完", f"见{SUN} [1]\u3002完", SUN),
        ("https://a.org/Bee_(insect).", "https://a.org/Bee_(insect) [1].", "https://a.org/Bee_(insect)"),
        ("[B](https://a.org/Bee_(insect))", "[B](https://a.org/Bee_(insect)) [1]", "[B](https://a.org/Bee_(insect))"),
        (f"a [[7]]({SUN})", f"a [[1]]({SUN})", SUN),
        (f"a [7]({SUN})", f"a [1]({SUN})", SUN),
        (f"[in 2024]({SUN})", f"[in 2024]({SUN}) [1]", f"[in 2024]({SUN})"),
    ],
)
def test_a_link_keeps_its_place_and_gets_a_number(text: str, expected: str | None, line: str) -> None:
    expected = expected or f"{text.removesuffix(')')} [1])"
    assert merge_with_references(points(text)) == f"{expected}\n\nReferences\n\n[1] {line}"


def test_a_link_with_its_citation_gets_no_second_number() -> None:
    text = f"a [Sun]({SUN}) [1] b ([Sun]({SUN})) [1].\n\nSources:\n[1] Sun. {SUN}"
    assert merged(text)[0] == [f"a [Sun]({SUN}) [1] b ([Sun]({SUN})) [1]."]


@pytest.mark.parametrize(
    "same",
    [
        *("HTTPS://Sun.org/a", "https://sun.org/a/", "https://sun.org/a#x", "https://sun.org/a?utm_source=openai"),
        "https://sun.org/a?utm_campaign=x&UTM_medium=y#:~:text=z",
    ],
)
def test_the_same_address_has_one_number(same: str) -> None:
    assert merged(f"A [1].\n\n[1]: {SUN}", f"B [1].\n\n[1]: {same}") == (
        ["A [1].", "B [1]."],
        "References",
        [f"[1] {SUN}"],
    )


def test_two_citations_that_touch_and_mean_the_same_are_one() -> None:
    listed = f"Sources:\n[1] {SUN}\n[2] {SMELL}\n[3] {SUN}#part"
    text = "A[1][3]. B[3][2][1]. C[1] [3]. D[1][1][3]. E[1][2, 3]."
    assert merged(f"{text}\n\n{listed}")[0] == ["A[1]. B[1][2][1]. C[1] [1]. D[1]. E[2, 1]."]


@pytest.mark.parametrize("other", ["https://sun.org/A", "https://sun.org/a?x=1", "https://moon.org/a", "http://[::1"])
def test_other_addresses_have_other_numbers(other: str) -> None:
    assert len(merged(f"A [1].\n\n[1]: {SUN}", f"B [1].\n\nSources:\n[1] {other}")[2]) == 2


def test_the_same_text_has_one_number_and_a_title_replaces_an_address() -> None:
    first, second = (
        "A [1].\n\nSources:\n[1] Smith,  2020.",
        f"B [1] {SUN}.\n\nSources:\n[1] smith, 2020\n[2] Sun. {SUN}",
    )
    assert merged(first, second)[2] == ["[1] Smith, 2020.", f"[2] Sun. {SUN}"]


def test_sources_that_are_not_cited_are_listed_behind_those_that_are() -> None:
    assert merged("A [2].\n\nSources:\n[1] X\n[2] Y", "B [1].\n\nSources:\n[1] Z")[2] == ["[1] Y", "[2] Z", "[3] X"]


def test_a_list_without_numbers_is_merged() -> None:
    text = f"A.\n\nSources:\n- [Sun]({SUN}) (2020)\n- {SMELL}\n\nStay well!"
    assert merged(text) == (["A.", "Stay well!"], "Sources:", [f"[1] [Sun]({SUN}) (2020)", f"[2] {SMELL}"])


@pytest.mark.parametrize("text", ["A [7].", "A [1, 3-4].", "born [1999]", "array[0] and array[1]", "【1†source】"])
def test_a_citation_without_a_source_stays_and_its_number_is_given_to_no_other(text: str) -> None:
    numbers = {int(number) for number in re.findall(r"\d+", text)} | ({3, 4} if "3-4" in text else set())
    other = "B [1] [2] [3].\n\nSources:\n" + "".join(f"[{number}] Book {number}\n" for number in (1, 2, 3))
    paragraphs, _, lines = merged(text, other)
    assert paragraphs[0] == text
    assert not numbers & {int(re.findall(r"\d+", line)[0]) for line in lines}


@pytest.mark.parametrize(
    "text",
    [
        "`[1]` and ``a [1] ` b``",
        f"```md\n[1] {SUN}\n[^1]: x\n```",
        f"~~~\n[1]: {SUN}",
        f"- ```\n  [1] {SUN}\n  ```",
        "- [x] done\n- [ ] open\n- [1a]",
        "![picture](https://a.org/x.png)",
        '<a href="https://a.org">Sun</a> <img src="https://a.org/x.png">',
        "[below](#part) [mail](mailto:a@b.org) [file](/x.md)",
        "http://localhost:8000 and http://",
        "[sun]: https://sun.org 'Sun'",
        r"\[1\] and \(x[1]\)",
        "1. Open the lid.\n2. Close it.",
        "References:\n1. Ask your former boss.\n2. Ask a colleague.",
        "Sources of light:\n\n- the sun\n- the moon",
        "Sources\n\nare many.",
        "> Sources:\n> [8] Book",
        "Why?\n\nSources: see [1] and [2].",
        f"Sites:\n1. [Sun]({SUN}/x)\n2. [Smell]({SMELL})",
    ],
)
def test_what_cites_nothing_stays_as_it_is(text: str) -> None:
    """With a list to refer to, if it could be mistaken for one."""
    whole = merge_with_references(points(text, "B [1].\n\nSources:\n[1] Book"))
    kept = re.sub(r"(\)) \[\d+\]", r"\1", whole) if "Sites" in text else whole
    assert kept.startswith(f"{text}\n\nB [")


def test_a_paragraph_that_begins_with_a_citation_is_no_list() -> None:
    text = f"Bees see [1].\n\n[1] says so, at {SUN} too.\n\nMore text.\n\nSources:\n[1] Book"
    assert merged(text)[0] == ["Bees see [1].", f"[1] says so, at {SUN} [2] too.", "More text."]


def test_a_numbered_text_with_links_is_no_list_of_sources() -> None:
    text = f"Facts [1]:\n1. [Sun]({SUN}) helps [1]\n2. [Dark]({SMELL}) helps [2]\n\nSources:\n[1] X\n[2] Y"
    assert merged(text)[0] == [f"Facts [1]:\n1. [Sun]({SUN}) [2] helps [1]\n2. [Dark]({SMELL}) [3] helps [4]"]


def test_a_point_of_several_parts_has_several_lists() -> None:
    """As an inner graph writes it: each part is cited by the list below it."""
    text = "A [1].\n\nSources:\n[1] X\n\nB [1].\n\nSources:\n[1] Y\n\nC [1]."
    assert merged(text) == (["A [1].", "B [2].", "C [2]."], "Sources:", ["[1] X", "[2] Y"])


@pytest.mark.parametrize("above", ["Bees have two compasses:", "**Both count.**", "Last words.\n---"])
def test_text_above_footnotes_is_no_heading(above: str) -> None:
    assert merged(f"A[^1].\n\n{above}\n\n[^1]: X") == ([*f"A[1].\n\n{above}".split("\n\n")], "References", ["[1] X"])


def test_an_inner_answer_is_merged_again() -> None:
    inner = [f"A [1] [Smell]({SMELL}).\n\n## Sources\n1. X\n", f"B [1] [^1].\n\n[^1]: Note\n\n[1]: {SUN}"]
    once = merge_with_references(points(*inner))
    assert merge_with_references(points(once)) == once
    assert merge_with_references(points("C [1].\n\nSources:\n[1] X", once)).count("] X") == 1


def test_the_list_is_shown_in_lines() -> None:
    shown = MarkdownIt().render(merge_with_references(points(f"A [1] [2].\n\n## Sources\n1. {SUN}\n2. {SMELL}")))
    assert shown.endswith(f"<h2>Sources</h2>\n<p>[1] {SUN}<br />\n[2] {SMELL}</p>\n")


def test_a_text_that_is_only_a_list_leaves_no_gap() -> None:
    assert merged("Sources:\n[1] X", "B.") == (["B."], "Sources:", ["[1] X"])
    assert merged("[1]: https://sun.org/a\n\nA [1].", "B.")[0] == ["A [1].", "B."]


def test_no_points_are_no_text() -> None:
    assert merge_with_references([]) == ""


PLAIN = st.text(st.characters(exclude_characters="[]【】:", exclude_categories=["Cs"])) | st.sampled_from(
    ["1. a\n2. b", "Sources", "# A\n\n- b", "```\ncode\n```", "| a | b |\n|---|---|", "---\n\n**References**"]
)


@given(st.lists(PLAIN, max_size=4))
def test_without_citations_the_answer_is_the_default_merges(texts: list[str]) -> None:
    assert merge_with_references(points(*texts)) == join_points(points(*texts))


WORDS = st.text("abc .,*_\n#é中", min_size=1, max_size=20).map(lambda text: f"x{text.strip()}x")
CITED = st.sampled_from(["[1]", "[2]", "[1, 2]", "[1-3]", "[^1]", "【3】", "[3]", "[9]", "`[1]`", f"[a]({SUN})"])
LISTED = st.sampled_from(
    [
        f"Sources:\n[1] {SUN}\n[2] Book 2\n[3] {SMELL}\n\n[^1]: Note",
        f"## Quellen\n\n1. {SUN}/x\n2. [S]({SMELL})\n3. {SUN}\n\n[^1]: Note",
        "[1]: https://a.org\n[2]: https://b.org\n[3]: https://c.org\n\n[^1]: Note",
    ]
)


TEXTS = st.tuples(st.lists(st.tuples(WORDS, CITED), min_size=1), LISTED)


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_but_for_numbers_and_lists_the_texts_are_unaltered(parts: list[tuple[list[tuple[str, str]], str]]) -> None:
    bodies = ["".join(f"{words} {cited}" for words, cited in body) for body, _ in parts]
    whole = merge_with_references(
        points(*(f"{body}\n\n{listed}" for body, (_, listed) in zip(bodies, parts, strict=True)))
    )
    *paragraphs, _heading, lines = whole.split("\n\n")
    assert without_numbers("\n\n".join(paragraphs)) == without_numbers("\n\n".join(bodies))
    numbers = [int(re.findall(r"\d+", line)[0]) for line in lines.split("  \n")]
    assert numbers == [number for number in range(1, numbers[-1] + 1) if number in numbers]
    assert set(range(1, numbers[-1])) - set(numbers) <= {9}
    assert all(int(number) in {*numbers, 9} for number in re.findall(r"(?<!`)\[(\d+)\]", whole))
    assert merge_with_references(points(whole)) == whole


def without_numbers(text: str) -> str:
    return re.sub(r"(?<=\)) \[\d+\]|(?<!`)\[[\d, ^-]+\]|【\d+】", "", text)


ODD = [
    "[",
    "]",
    "(",
    ")",
    "1",
    "^",
    ":",
    " ",
    "\n",
    SUN,
    "`",
    "```\n",
    "Sources:\n",
    "- ",
    "1. ",
    "<",
    "!",
    "【",
    "\\",
    "\0",
]


@given(st.lists(st.sampled_from(ODD)).map("".join))
def test_odd_text_is_merged(text: str) -> None:
    assert "] X" in merge_with_references(points(text, "A [1].\n\nSources:\n[1] X"))


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "[",
            "[1",
            "[[a]",
            "[1]",
            "[^1]",
            "[1] a\n",
            "[^1]: a\n",
            "1. a\n",
            f"[1]: {SUN}\n\na [1]\n\n",
            "【1†",
            "【1】",
        ),
        *(
            "`",
            "`a",
            "```\n",
            "```\n~~~\n",
            " ",
            "\n",
            "a\n\n",
            "---\n",
            "a: ",
            "Sources:\n",
            "**",
            "\\",
            "<a ",
            "1-9, ",
        ),
        *(f"{SUN} ", f"[a]({SUN})", f'[a]({SUN} "', "https://", "https://a.", "Sources:\n[1] a\n\n", "a [1] ", "  b\n"),
        *("a.a", "(a)", "(", ".", ".("),
    ],
)
def test_a_long_text_takes_no_time(piece: str) -> None:
    """Not by itself, and not behind the beginning of a list, of a citation or of an address."""
    for front in ("", "Sources:\n[1] ", "[1, ", "Sources: [1] https://a.org/"):
        text = front + piece * (25_000 // len(piece))
        began = time.thread_time()
        merge_with_references(points(text))
        assert time.thread_time() - began < 2


def test_a_long_answer_takes_no_time() -> None:
    began = time.thread_time()
    merge_with_references(points(*[f"{BODY}\n\nSources:\n[1] {SUN}\n[2] {SMELL}\n\n" * 10] * 120))  # 100,000 characters
    assert time.thread_time() - began < 6


def test_the_package_does_not_import_it_before_it_is_used() -> None:
    code = "import sys, sot_graph; sys.exit('sot_graph.references' in sys.modules or 'langchain_core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_keys_of_a_point_are_not_needed() -> None:
    only_text: Any = [{"text": "A [1].\n\nSources:\n[1] X"}]
    assert merge_with_references(only_text) == "A [1].\n\nSources:\n\n[1] X"
