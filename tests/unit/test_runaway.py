"""What is a loop of a model, and what only repeats itself."""

import random
import re
import time
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sot_graph.runaway import LONGEST, Runaway

BEFORE = "Sleep has many enemies. Here is what is known of them.\n\n"
PARAGRAPH = (
    "Noise at night raises the heart rate even in people who believe that they sleep through it. Traffic is the worst "
    "source, since it comes without a rhythm, and the brain listens for what it cannot predict. Ear plugs help, and so "
    "does a room on the quiet side of the house, or a fan whose even hum covers what comes in from the street below. "
)
CHINESE = "夜间的噪音会提高心率，即使人们认为自己睡得很好。"  # noqa: RUF001 - as models write
LONG = "".join(random.Random(3).choices("abcdefgh ,.\n", k=10_000)) + "\n"


def counting(line: str, last: int = 4_000) -> str:
    return "".join(line.format(number) for number in range(1, last))


def flood(piece: str, length: int = 12_000) -> str:
    return piece * (length // len(piece))


LOOPS = {
    "a word": flood("word "),
    "a word without spaces": flood("word"),
    "a line": flood("Noise is bad.\n"),
    "a sentence": flood("Noise is bad for sleep. "),
    "two lines in turn": flood("Noise is bad.\nLight is bad, too.\n"),
    "paragraphs": flood(f"{PARAGRAPH}\n\n"),
    "the longest piece": flood((PARAGRAPH * 2)[: LONGEST - 1] + "|"),
    "a counter": counting("{}. Noise\n"),
    "a counter in a long line": counting(f"{{}}. **Noise**: {PARAGRAPH}\n", 100),
    "two counters": counting("Step {0} of {0}: wait.\n"),
    "a counter and a number": counting("{}. Sleep for 8 hours.\n"),
    "down": "".join(f"{number} more nights to go.\n" for number in range(9_000, 0, -1)),
    "Chinese": flood(CHINESE),
    "a Chinese word": flood("噪音"),
    "Chinese with a counter": counting("第{}点：噪音。"),  # noqa: RUF001 - as models write
    "Arabic": flood("الضوضاء تضر بالنوم. "),
    "emoji and words": flood("sleep well 😴 "),
    "spaces": flood(" "),
    "newlines": flood("\n"),
    "mixed white space": flood("\n \n\t"),
    "dots": flood("."),
    "zeros": flood("0, "),
    "rows of dashes": flood("-----\n"),
    "rows of a table": flood("| Noise | bad | yes |\n"),
    "a title and its text": flood(f"## Noise\n\n{PARAGRAPH}\n\n"),
    "code": flood("    print('sleep')\n"),
}

WHOLE = {
    "prose": PARAGRAPH,
    "emphasis": "It is very very very " + "very " * 20 + "bad.",
    "laughter": "ha " * 40 + "he said. " + "ha ha ha! " * 10,
    "a refrain": ("Sleep, my little one, sleep.\nThe night is long and deep.\n\n" + PARAGRAPH + "\n\n") * 4,
    "a refrain without verses": "Na, na na, na-na-na na, na-na-na na, hey Jude.\n" * 11,
    "a chant": "Row, row, row your boat\n" * 4 + "Merrily, merrily, merrily, merrily\n" * 4,
    "braces": "{\n" * 30 + "}\n" * 30,
    "nested braces": "".join("    " * depth + "}\n" for depth in range(30, 0, -1)),
    "zeros": "[" + "0, " * 400 + "0]",
    "a matrix": "[\n" + "    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],\n" * 30 + "]",
    "a matrix with words": "    [None, None, None, None],\n" * 20,
    "rules of tables": "| " + "-" * 900 + " | " + "-" * 900 + " |\n",
    "a padded table": "".join(f"| {word} {' ' * 500} | yes |\n" for word in ("Noise", "Light", "Heat")),
    "equal cells": "".join(f"| {word} | yes | yes | yes | yes |\n" for word in PARAGRAPH.split()),
    "an empty table": "| Day | Noise |\n|---|---|\n" + "|  |  |\n" * 60,
    "an empty table in HTML": "<table>\n" + "<tr><td></td><td></td></tr>\n" * 20 + "</table>",
    "separators": ("-" * 300 + "\n" + PARAGRAPH + "\n") * 3 + "=" * 500 + "\n" + "*" * 80,
    "a form": counting("{}. Name: ____________ Age: ____\n", 31),
    "a month": counting("- Day {}: rest\n", 32),
    "a plan": "".join(f"Day {day}: {20 + 2 * (day // 3)} push-ups, {10 + day // 2} squats\n" for day in range(1, 61)),
    "years": "".join(f"{year}: {(year - 1900) ** 2 // 70} million people\n" for year in range(1900, 2030)),
    "numbers": ", ".join(map(str, range(1, 800))),
    "squares": "\n".join(f"{n} {n * n} {n**3}" for n in range(200)),
    "a times table": "".join(f"{n} times 7 is {7 * n}.\n" for n in range(1, 41)),
    "hours": counting("<td>{}:00</td><td></td>\n", 25),
    "dots of a table of contents": "".join(f"{word} {'.' * 120} {n}\n" for n, word in enumerate(PARAGRAPH.split())),
    "a list of equal beginnings": "".join(f"- You should not {word} at night.\n" for word in PARAGRAPH.split()),
    "keys": "".join(f'    "{word}_{n}": null,\n' for n, word in enumerate(PARAGRAPH.split())),
    "Chinese prose": CHINESE * 5 + "但是，" + CHINESE * 5,  # noqa: RUF001 - as models write
    "a Chinese word": "非常" * 60 + "好",
    "digits": "3." + "142857" * 50,
    "base64": "QUFB" * 100,
    "pi": "1415926535897932384626433832795028841971" * 20,
    "empty lines": PARAGRAPH + "\n" * 200 + PARAGRAPH,
}


def read(text: str, sizes: list[int]) -> tuple[str, bool]:
    """What is kept of a text that arrives in chunks of these sizes, again and again; and whether it is a loop."""
    runaway, read_so_far = Runaway(), ""
    for number in count():
        if len(read_so_far) == len(text):
            return read_so_far, False
        chunk = text[len(read_so_far) :][: sizes[number % len(sizes)]]
        read_so_far += chunk
        if surplus := runaway.feed(chunk):
            assert runaway.is_found
            return read_so_far[:-surplus], True
    raise AssertionError


@pytest.mark.parametrize("before", ["", BEFORE, LONG, "1. Light\n2. Heat\n", CHINESE])
@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_is_cut_to_one_piece(kind: str, before: str) -> None:
    text = before + LOOPS[kind]
    kept, is_loop = read(text, [len(text)])
    assert is_loop
    assert text.startswith(kept)
    assert len(kept) >= len(before) - 5, "what was before the loop is kept"
    piece = re.sub(r"\d+", "0", LOOPS[kind])
    period = next(n for n in range(1, LONGEST + 1) if piece[n : n + 2_500] == piece[:2_500])
    assert len(re.sub(r"\d+", "0", kept)) <= len(re.sub(r"\d+", "0", before)) + period + 3, "one piece at most"
    assert read(text, [1]) == read(text, [3, 50, 7]) == (kept, True), "chunks make no difference"


@pytest.mark.parametrize("kind", WHOLE)
def test_what_only_repeats_itself_is_no_loop(kind: str) -> None:
    for text in (WHOLE[kind], BEFORE + WHOLE[kind], BEFORE + WHOLE[kind] + PARAGRAPH):
        assert read(text, [len(text)]) == (text, False)
        assert read(text, [4]) == (text, False)


def test_a_loop_is_noticed_soon() -> None:
    runaway, written = Runaway(), 0
    for _ in range(1_000):
        written += 10
        if runaway.feed("word word "):
            break
    assert written < 800


def test_a_loop_that_starts_late_is_noticed() -> None:
    generator = random.Random(3)
    before = "".join(generator.choices("abcdefgh ,.\n", k=100_000))
    kept, is_loop = read(before + LOOPS["a sentence"], [17])
    assert is_loop
    assert kept == f"{before}Noise is bad for sleep. "


@pytest.mark.parametrize(
    ("before", "piece", "kept"),
    [
        ("X. ", "Noise is bad. ", "X. Noise is bad. "),
        ("X: ", "Noise is bad. Light, too. ", "X: Noise is bad. Light, too. "),
        ("X:\n", "- Noise\n", "X:\n- Noise\n"),
        ("X:\n", "- Noise\n- Light\n", "X:\n- Noise\n- Light\n"),
        ("The bad light is bad. ", "Noise is bad. Light is bad. ", "The bad light is bad. Noise is bad. "),
        ("It is ", "very ", "It is very"),
        ("夜间。", "噪音很大。", "夜间。噪音很大。"),
    ],
)
def test_the_cut_is_behind_a_sentence_or_a_line(before: str, piece: str, kept: str) -> None:
    assert read(before + flood(piece), [5])[0].rstrip(" ") == kept.rstrip(" ")


words = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789\n.,夜间噪音", min_size=1, max_size=12), min_size=1, max_size=400
)


@settings(deadline=None, max_examples=100)
@given(words=words, sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_text_that_does_not_repeat_is_left_alone(words: list[str], sizes: list[int], seed: int) -> None:
    """Each of the pieces has a random name in front, so that no two are the same."""
    generator = random.Random(seed)
    text = " ".join(f"{''.join(generator.choices('abcdefghijklmnop', k=8))} {word}" for word in words)
    assert read(text, sizes) == (text, False)


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=3_000), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_any_text_in_any_chunks_is_the_same(text: str, sizes: list[int]) -> None:
    assert read(text, sizes) == read(text, [max(1, len(text))])


NASTY = {
    "dashes, then a word": ("-" * 400 + "a") * 250,
    "growing": "".join("ab" * n + "c" for n in range(1, 300)),
    "nearly": (("word " * 100) + "x{} ") * 200,
    "digits": "1234567890" * 199 + "a",
    "numbers": " ".join(str(number % 97) for number in range(30_000)),
    "lines with numbers": "".join(f"{number} and {number * number}\n" for number in range(6_000)),
    "a list of numbers": "".join(f"Page {number * number % 1_009} of it\n" for number in range(6_000)),
    "random of two": "".join(random.Random(1).choices("ab", k=100_000)),
    "random": "".join(random.Random(2).choices("abcdefghijk 0123", k=100_000)),
}


@pytest.mark.parametrize("kind", NASTY)
def test_the_time_grows_with_the_length(kind: str) -> None:
    text = (NASTY[kind] * (100_000 // len(NASTY[kind]) + 1))[:100_000]
    began = time.process_time()
    read_in_chunks = Runaway()
    for at in range(0, len(text), 4):
        read_in_chunks.feed(text[at : at + 4])
    whole = Runaway()
    whole.feed(text)
    assert time.process_time() - began < 3, "of 100,000 characters, twice"
