"""A trained router: its file, its decisions, and the features of a question."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sot_graph import Router, create_sot_graph, load_router
from sot_graph.caching import stable_name
from sot_graph.demo import DemoChatModel
from sot_graph.features import HEAD, TAIL, features, lexicon_of
from sot_graph.routing import DEFAULT, FORMAT, VERSION
from tests.router_questions import held_out

SMALL: dict[str, Any] = {
    "format": FORMAT,
    "version": VERSION,
    "threshold": 0.75,
    "bias": 0.0,
    "classes": {"sides": ["advantages", "vorteil*"], "sum": ["how much"]},
    "weights": {"@sides": 9.0, "@sum": -9.0},
}
PACKAGE = Path(__file__).parents[2] / "sot_graph"
ROUTER = load_router()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(**changes: Any) -> Path:
        path = tmp_path / "router.json"
        path.write_text(json.dumps({**SMALL, **changes}), encoding="utf-8")
        return path

    return save


def test_a_router_decides_where_it_is_certain(saved: Callable[..., Path]) -> None:
    router = load_router(saved())
    assert router("What are the advantages of tea?") is True
    assert router("Welche Vorteile hat Tee?") is True
    assert router("How much is 4 + 5?") is False
    assert router("Tea?") is None
    assert router.probability("Tea?") == 0.5
    assert router.probability("advantages") == pytest.approx(1 - router.probability("how much"))


def test_the_threshold_is_the_files_or_the_callers(saved: Callable[..., Path]) -> None:
    path = str(saved(threshold=0.99))
    question = "What are the advantages of tea?"
    assert load_router(path).threshold == 0.99
    assert load_router(path)(question) is None
    assert load_router(path, threshold=0.5)(question) is True


def test_at_the_threshold_a_router_is_certain(saved: Callable[..., Path]) -> None:
    router = load_router(saved())
    certain = router.probability("What are the advantages of tea?")
    assert load_router(saved(), threshold=certain)("What are the advantages of tea?") is True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no router file: it is not JSON"),
        ('{"format": "sot-graph', "is no router file: it is not JSON"),
        ("[" * 100_000, "is no router file: it is not JSON"),
        (b"\x80\x04\x95", "is no router file: it is not JSON"),
        ("[]", '"format": "sot-graph router"'),
        ('{"question": "Why?", "label": true}', "sot-graph route train"),
        (json.dumps({**SMALL, "version": VERSION + 1}), "version 2 of the format; this sot_graph reads up to 1"),
        (json.dumps({**SMALL, "version": "one"}), "version 'one'"),
        (json.dumps({**SMALL, "bias": None}), '"bias" must be a number'),
        (json.dumps({**SMALL, "bias": float("nan")}), '"bias" must be a number'),
        (json.dumps({**SMALL, "bias": 10**400}), '"bias" must be a number'),
        (json.dumps({**SMALL, "weights": [1]}), '"weights" must be an object of numbers'),
        (json.dumps({**SMALL, "weights": {"a": "1"}}), '"weights" must be an object of numbers'),
        (json.dumps({**SMALL, "classes": {"a": "b"}}), '"classes" must be an object of lists of words'),
        (json.dumps({**SMALL, "classes": None}), '"classes" must be an object of lists of words'),
        (json.dumps({**SMALL, "threshold": 0.4}), '"threshold" must be a number from 0.5 to 1'),
    ],
    ids=range(16),
)
def test_a_file_that_is_no_router_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "router.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"router\.json") as refused:
        load_router(path)
    assert message in str(refused.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="sot-graph route train"):
        load_router(tmp_path / "none.json")


@pytest.mark.parametrize("threshold", [0.49, 1.01, "0.8", True, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match=r"from 0\.5 to 1, not"):
        load_router(threshold=threshold)


# --- the default router --------------------------------------------------------------------------


def test_the_default_router_is_small_plain_data_of_the_package() -> None:
    content = (PACKAGE / DEFAULT).read_bytes()
    assert len(content) < 300_000
    data = json.loads(content)
    assert list(data) == ["format", "version", "threshold", "questions", "bias", "classes", "weights"]


def test_the_default_router_is_right_about_questions_that_it_was_not_trained_on() -> None:
    """The page on routing has the figures; this keeps a change from making them much worse."""
    questions, router = held_out(), load_router()
    decisions = [(router(each.question), each.suits) for each in questions]
    sure = [(decision, suits) for decision, suits in decisions if decision is not None]
    assert sum((router.probability(each.question) > 0.5) == each.suits for each in questions) >= 0.92 * len(questions)
    assert len(sure) >= 0.85 * len(questions)
    assert sum(decision == suits for decision, suits in sure) >= 0.95 * len(sure)


@pytest.mark.parametrize(
    ("question", "suits"),
    [
        ("Explain what a regular expression is, and what it is good for.", True),
        ("Write a regular expression that finds all numbers.", False),
        ("Why do violins need rosin?", True),
        ("How many violins are there in Austria?", False),
        ("What are good ways to begin a letter?", True),
        ("Write a letter to my bank.", False),
        ("Welche Gründe gibt es, aufs Land zu ziehen?", True),
        ("学习数学有什么好处,有哪些方法?", True),
        ("写一首关于月亮的诗。", False),
    ],
)
def test_it_tells_questions_with_the_same_words_apart(question: str, suits: bool) -> None:  # noqa: FBT001 - a row
    assert (ROUTER.probability(question) > 0.5) == suits


@given(st.text())
def test_any_text_has_a_probability(text: str) -> None:
    assert 0 <= ROUTER.probability(text) <= 1


@pytest.mark.parametrize("text", ["", "a" * 1_000_000, "为" * 1_000_000, "1" * 100_000, "\ud800", "a\n" * 100_000])
def test_odd_texts_have_a_probability(text: str) -> None:
    assert 0 <= ROUTER.probability(text) <= 1


def test_two_routers_have_two_names(saved: Callable[..., Path]) -> None:
    """A cache's key, and a log, has the name of an option."""
    first = stable_name(load_router(saved()))
    assert first is not None
    assert first == stable_name(load_router(saved()))
    assert len(first) < 100
    others = [load_router(saved(bias=0.5)), load_router(saved(), threshold=0.9), load_router()]
    assert len({first, *map(stable_name, others)}) == 4


def test_a_router_is_a_route() -> None:
    graph = create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0), route=load_router())
    assert graph.invoke({"question": "Solve 3x + 5 = 20 for x."})["points"] == []
    assert graph.invoke({"question": "What are the pros and cons of owning a boat?"})["points"]
    assert isinstance(load_router(), Router)


def test_routing_needs_no_other_library() -> None:
    code = (
        "import sys, sot_graph\n"
        "assert 'sot_graph.routing' not in sys.modules\n"
        "assert sot_graph.load_router()('Translate to French: good night') is False\n"
        "heavy = {'sklearn', 'numpy', 'scipy', 'langchain_core', 'langgraph', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout == "[]\n"


# --- features ------------------------------------------------------------------------------------


def test_features_are_words_and_where_they_stand() -> None:
    found = features("Write  a SHORT story, please, for 3 children!", {})
    assert {"write", "^write", "write a", "^write a", "^write a short", "story please", "$children", "0"} <= set(found)
    assert "^story" not in found
    assert "$write" not in found
    assert {"#number"} == {name for name in found if name[0] == "#" and "length" not in name}


def test_features_of_words_have_a_length_of_one() -> None:
    found = features("Why do pianos need tuning?", {})
    assert sum(value**2 for name, value in found.items() if name[0] not in "#@") == pytest.approx(1)


def test_a_class_is_found_by_a_word_its_beginning_or_several_words() -> None:
    lexicon = lexicon_of({"write": ["schreib*", "write"], "amount": ["how many"], "job": ["写一"]})
    for question, name in (
        ("Bitte schreibe ein Gedicht", "@write"),
        ("Please write it", "^@write"),
        ("How many are there?", "^@amount"),
        ("请写一封信", "@job"),
    ):
        assert name in features(question, lexicon)
    assert "@amount+@write" in features("Write how many there are", lexicon)
    assert not [name for name in features("She wrote, and so on", lexicon) if "@" in name]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Solve 3x + 5 = 20", "#sum"),
        ("What does `ls` do?", "#code"),
        ("Rename my_file in main.py", "#code"),
        ("Fix it in C++", "#code"),
        ("Translate: good night", "#colon"),
        ("Sum up:\nOne\nTwo", "#lines"),
        ("¿Por qué?", "#question"),
        ("为什么？", "#question"),  # noqa: RUF001 - of Chinese
        ("From 3 to 5", "#numbers"),
    ],
)
def test_signs_are_of_any_language(question: str, name: str) -> None:
    assert name in features(question, {})
    assert name not in features("Tell me of bees", {})


def test_words_keep_the_marks_of_their_script() -> None:
    assert "हिन्दी" in features("हिन्दी क्यों सीखें?", {})
    assert "اكتبْ" in features("اكتبْ قصيدة", {})


def test_words_without_spaces_are_read_by_their_characters() -> None:
    found = features("太陽が消えたら何が起こりますか。", {})
    assert {"太陽", "太陽が", "^太陽", "$ますか"} <= set(found)


def test_only_the_beginning_and_the_end_of_a_long_question_count() -> None:
    short = features("Summarise this text: " + "word " * 200 + "Thank you", {})
    long = features("Summarise this text: " + "word " * 2_000 + "x" * 5 + " word" * 200 + " Thank you", {})
    assert set(short) == set(long)
    assert "needle" not in features("a " * HEAD + " needle " + "b " * TAIL, {})
