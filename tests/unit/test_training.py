"""Training a router: what it reads, refuses and makes; and the commands `route train` and `test`."""

import csv
import json
import random
import re
import sys
from collections import Counter
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sot_graph import load_router
from sot_graph.cli import app, model
from sot_graph.demo import DemoChatModel
from sot_graph.evaluation.labelled import Labelled, read_labelled
from sot_graph.evaluation.routes import Decided, part_rows
from sot_graph.evaluation.training import FEWEST, Trained, train, word_classes
from sot_graph.features import features, lexicon_of
from sot_graph.routing import read_router
from tests.router_questions import HELD_OUT, TRAINED_ON, held_out, trained_on

FEW = [
    Labelled(f"What are the {what} of {matter}?" if suits else f"How much {what} is in {matter}?", suits)
    for suits, words in ((True, ("advantages", "main kinds")), (False, ("sugar", "salt")))
    for what in words
    for matter in ("bread", "tea", "soup", "cheese", "rice", "milk", "beer", "ham", "fish", "jam", "cake", "honey")
]


def answer(*, points: int = 4, error: str | None = None) -> dict[str, Any]:
    return {"text": "So.", "seconds": 1, "points": points, "error": error}


def comparison(question: str, *outcomes: str, **changes: Any) -> str:
    verdicts = {f"judge {i}": {"outcomes": {"overall": each} if each else {}} for i, each in enumerate(outcomes)}
    row = {"question": question, "category": "advice", "settings": {}, "plain": answer(points=0), "sot": answer()}
    return json.dumps({**row, "verdicts": verdicts, **changes})


def lines(path: Path, *texts: str) -> Path:
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["route", *map(str, arguments)])


@pytest.fixture(scope="module")
def default() -> Trained:
    """The default router, trained again."""
    return train(trained_on())


# --- labelled questions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suits", "does_not"),
    [("true", "false"), ("1", "0"), ('"yes"', '"No"'), ('"Suitable "', '"unsuitable"'), ('"suits"', '"not suitable"')],
)
def test_labels_have_many_forms(tmp_path: Path, suits: str, does_not: str) -> None:
    rows = (f'{{"question": "Q{i}", "label": {label}}}' for i, label in enumerate((suits, does_not)))
    assert [each.suits for each in read_labelled(lines(tmp_path / "some.jsonl", *rows))] == [True, False]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_names_its_columns(tmp_path: Path, delimiter: str) -> None:
    rows = (
        ("Label", " Question ", "language"),
        ("yes", f'"Why{delimiter} and\nwhat for?"', "en"),
        ("0", '"What is ""x""?"', ""),
    )
    path = lines(tmp_path / "some.csv", *(delimiter.join(row) for row in rows))
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")  # as spreadsheets write it
    assert read_labelled(path) == [
        Labelled(f"Why{delimiter} and\nwhat for?", suits=True, language="en"),
        Labelled('What is "x"?', suits=False),
    ]


def test_a_question_that_is_repeated_counts_once(tmp_path: Path) -> None:
    path = lines(tmp_path / "some.jsonl", *['{"question": "Why?", "label": true}'] * 3, "")
    assert len(read_labelled(path)) == 1


def test_judged_comparisons_are_labels(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "results.jsonl",
        comparison("won", "lose"),
        comparison("won", "win"),  # the last line of a question counts, as in a comparison
        comparison("tied", "tie"),
        comparison("lost", "lose"),
        comparison("lost by most", "lose", "win", "lose"),
        comparison("lost by half", "lose", "win"),
        comparison("declined", sot=answer(points=0)),
        comparison("failed", "win", sot=answer(error="no")),
        comparison("not judged"),
        comparison("judge failed", ""),
        comparison("torn", "win")[:70],
    )
    found = {each.question: each.suits for each in read_labelled(path)}
    assert {question for question, suits in found.items() if suits} == {"won", "tied", "lost by half"}
    assert {question for question, suits in found.items() if not suits} == {"lost", "lost by most", "declined"}
    assert {each.kind for each in read_labelled(path)} == {"advice"}


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("a.jsonl", ['{"question": "Why?", "label": 1}', "why, true"], "line 2 is not JSON"),
        ("a.jsonl", ["[1]"], "line 1 must be an object with `question` and `label`, not [1]"),
        ("a.jsonl", ['{"question": " ", "label": 1}'], "line 1 must have a text as \"question\", not ' '"),
        ("a.jsonl", ["", '{"label": 1}'], 'line 2 must have a text as "question", not None'),
        ("a.jsonl", ['{"question": "Why?"}'], "line 1 has the label None; a label is true or false"),
        ("a.jsonl", ['{"question": "Why?", "label": "maybe"}'], "line 1 has the label 'maybe'"),
        ("a.jsonl", ['{"question": "Why?", "label": 2}'], "line 1 has the label 2"),
        (
            "a.jsonl",
            ['{"question": "Why?", "label": 1}', '{"question": "Why?", "label": 0}'],
            "line 2 gives the question of line 1 the other label",
        ),
        ("a.jsonl", [], "it has no question"),
        ("a.jsonl", [comparison("Why?")], "it has no question that was judged: compare with --judge"),
        ("a.jsonl", [comparison("Why?", "win", settings={"against": "lead=true"})], "line 1 compares two outlines"),
        ("a.csv", ["Why?,true"], "line 1 must name the columns; there is none called label or question"),
        ("a.csv", ["question,label", "Why?,yes", "How?"], "line 3 has the label None"),
        ("a.csv", ["question,label", f"{'a' * 200_000},yes"], "it is not CSV (field larger than"),
    ],
    ids=range(14),
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, name: str, texts: list[str], message: str) -> None:
    path = lines(tmp_path / name, *texts)
    csv.field_size_limit(131_072)  # Python's own; `sot-graph batch` raises it for the whole process
    with pytest.raises(ValueError, match=re.escape(message)):
        read_labelled(path)
    done = run("test", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes("question,label\nWarum fällt Regen?,yes\n".encode("latin-1"))
    with pytest.raises(ValueError, match="it is not text in UTF-8"):
        read_labelled(path)


# --- the questions of the default router ---------------------------------------------------------


def test_the_questions_are_of_many_languages_and_kinds() -> None:
    questions = trained_on()
    languages = Counter(each.language for each in questions)
    assert len(languages) >= 10
    assert 0.4 <= languages["en"] / len(questions) <= 0.6
    assert 0.4 <= sum(each.suits for each in questions) / len(questions) <= 0.6
    kinds = {suits: {each.kind for each in questions if each.suits == suits} for suits in (True, False)}
    assert kinds[True] == {"generic", "knowledge", "common-sense", "roleplay", "counterfactual"}
    assert kinds[False] >= {"fermi", "coding", "math", "writing", "fact", "text", "reasoning", "chat"}


def test_no_question_is_held_out_and_trained_on() -> None:
    def words(each: Labelled) -> str:
        return " ".join(re.findall(r"\w+", each.question.casefold()))

    assert not {words(each) for each in trained_on()} & {words(each) for each in held_out()}


def test_translations_of_a_question_have_one_group_and_one_label() -> None:
    groups: dict[str, set[bool]] = {}
    for each in trained_on():
        if each.group:
            groups.setdefault(each.group, set()).add(each.suits)
    assert len(groups) > 50
    assert [name for name, labels in groups.items() if len(labels) > 1] == []


def test_each_word_of_a_class_can_be_found() -> None:
    classes = word_classes()
    lexicon = lexicon_of(classes)
    texts = ((name, word, word.replace("*", "xyz")) for name, words in classes.items() for word in words)
    assert [(name, word) for name, word, text in texts if f"@{name}" not in features(text, lexicon)] == []


# --- training ------------------------------------------------------------------------------------


def test_training_again_gives_the_same_decisions(default: Trained) -> None:
    """Also with another version of scikit-learn, so the last digits may differ."""
    again, shipped = read_router(default.text.encode(), "again"), load_router()
    assert again.threshold == shipped.threshold
    for each in [*trained_on(), *held_out()]:
        first, second = again.probability(each.question), shipped.probability(each.question)
        assert first == pytest.approx(second, abs=0.03), each.question
        is_close = min(abs(max(second, 1 - second) - shipped.threshold), abs(second - 0.5)) < 0.03
        assert is_close or again(each.question) == shipped(each.question), each.question


def test_a_cross_validation_says_how_good_a_router_is(default: Trained) -> None:
    questions = trained_on()
    pairs = list(zip(default.probabilities, (each.suits for each in questions), strict=True))
    assert sum((found > 0.5) == suits for found, suits in pairs) >= 0.96 * len(pairs)
    sure = [(found, suits) for found, suits in pairs if max(found, 1 - found) >= 0.8]
    assert sum((found > 0.5) == suits for found, suits in sure) >= 0.98 * len(sure)
    # Calibrated: of what it calls likely, about as many suit as it says.
    assert sum(found for found, _ in pairs) == pytest.approx(sum(suits for _, suits in pairs), rel=0.05)


def test_a_router_learns_from_few_questions() -> None:
    router = read_router(train(FEW, threshold=0.7).text.encode(), "few")
    assert router.threshold == 0.7
    assert router("What are the advantages of beans?") is True
    assert router("How much salt is in beans?") is False


def test_without_anything_to_learn_a_router_is_not_certain() -> None:
    draw = random.Random(0)
    words = ["red", "green", "blue", "old", "new", "big", "small", "long", "short", "warm"]
    questions = [Labelled(f"{' '.join(draw.sample(words, 4))} {i}x", draw.random() < 0.5) for i in range(200)]
    trained = train(questions)
    sure = [found for found in trained.probabilities if max(found, 1 - found) >= 0.8]
    assert len(sure) <= 10
    router = read_router(trained.text.encode(), "noise")
    assert sum(router(each.question) is not None for each in questions) <= 20


def test_a_fold_does_not_part_a_group() -> None:
    """A question and its copy have the same words: apart, one would give the other's label away."""
    words = [f"{a}{b}n {b}{a}l {a}{b}t" for a in "bdfgklmp" for b in "aeiou"]
    questions = [Labelled(f"{each}{mark}", i % 2 == 0) for i, each in enumerate(words) for mark in ("", " ...", "!")]
    grouped = [each._replace(group=each.question[:2]) for each in questions]

    def right(trained: Trained) -> int:
        pairs = zip(trained.probabilities, questions, strict=True)
        return sum((found > 0.5) == each.suits for found, each in pairs)

    assert right(train(questions)) > 110
    assert right(train(grouped)) < 90


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "there are 0 that are suitable"),
        ([each for each in FEW if each.suits], "there are 0 that are unsuitable"),
        ([*FEW[: FEWEST - 1], *FEW[24:]], f"there are {FEWEST - 1} that are suitable"),
        ([each._replace(group="one") for each in FEW], "there are 1 that are suitable (those of one group count once)"),
    ],
    ids=["none", "one label", "few", "one group"],
)
def test_too_few_questions_are_refused(questions: list[Labelled], message: str) -> None:
    with pytest.raises(ValueError, match=f"needs {FEWEST} questions of each label") as refused:
        train(questions)
    assert message in str(refused.value)


def test_the_page_on_routing_shows_these_figures(default: Trained) -> None:
    """Of the cross-validation only the sum is checked: versions of scikit-learn differ by a question or two."""
    page = (TRAINED_ON.parents[2] / "docs" / "routing.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| (held out|cross-validated) \| questions .*\n.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    shown = {name: [line.strip("| ").split(" | ") for line in table.splitlines()] for name, table in tables}
    router, questions = load_router(), held_out()
    decided = [Decided(each, router.probability(each.question)) for each in questions]
    rows = [part_rows(decided, router.threshold, name, attrgetter(name))[1:] for name in ("kind", "language")]
    assert shown["held out"][1:] == [*rows[0], *rows[1]]
    right = sum(each.is_right for each in decided)
    assert f"{right} of {len(questions)} are right" in page
    assert float(shown["held out"][0][2].removesuffix(" %")) == round(100 * right / len(questions), 1)
    seen = sum((found > 0.5) == each.suits for found, each in zip(default.probabilities, trained_on(), strict=True))
    assert float(shown["cross-validated"][0][2].removesuffix(" %")) == pytest.approx(
        100 * seen / len(trained_on()), abs=1
    )
    assert f"It was trained on {len(trained_on())} questions" in page


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def few(tmp_path: Path) -> Path:
    rows = (json.dumps({"question": each.question, "label": each.suits}) for each in FEW)
    return lines(tmp_path / "few.jsonl", *rows)


def test_train_writes_a_router_that_test_and_ask_take(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = tmp_path / "router.json"
    done = run("train", few, "--output", router, "--threshold", "0.7")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Questions that the router had not seen (cross-validation)\n")
    assert done.stderr.splitlines()[0] == "Training on 48 questions."
    assert load_router(router).threshold == 0.7

    done = run("test", router, few)
    assert done.exit_code == 0, done.stderr
    table = [line.split() for line in done.stdout.splitlines()]
    assert table[1:4] == [["outline", "direct"], ["suits", "an", "outline", "24", "0"], ["does", "not", "0", "24"]]
    assert "48 of 48 right (100.0 %), 0 wrong" in done.stdout
    assert "left to the outline's call" in done.stdout
    assert "ms a question" in done.stdout
    assert "Wrong" not in done.stdout

    monkeypatch.setattr(model, "DemoChatModel", lambda: DemoChatModel(first_token=0, tokens_per_second=0))
    ask = ["ask", "--route", str(router), "--model", "demo"]
    assert "direct answer · 1 call" in CliRunner().invoke(app, [*ask, "How much salt is in beans?"]).stderr
    assert " points · " in CliRunner().invoke(app, [*ask, "What are the advantages of beans?"]).stderr


def test_test_takes_the_default_router_and_shows_what_it_gets_wrong() -> None:
    done = run("test", HELD_OUT)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("162 questions of router_held_out.jsonl\n")
    assert re.search(r"^kind +questions +right +sure +right if sure$", done.stdout, re.MULTILINE)
    assert re.search(r"^en +117 ", done.stdout, re.MULTILINE)
    right, wrong = map(int, re.findall(r"^(\d+) of 162 right \(.+\), (\d+) wrong$", done.stdout, re.MULTILINE)[0])
    below = done.stdout.partition("Wrong, with the probability that an outline suits:\n")[2].splitlines()
    assert right + wrong == 162
    assert len(below) == wrong
    assert re.match(r"[01]\.\d\d (suits|does not suit)( \(left to the call\))?: ", below[-1])


def test_another_threshold_can_be_tested() -> None:
    sure = [
        int(re.findall(r"^sure of (\d+) ", run("test", HELD_OUT, "--threshold", str(each)).stdout, re.MULTILINE)[0])
        for each in (0.5, 0.8, 0.99)
    ]
    assert sure[0] == 162
    assert sure == sorted(sure, reverse=True)


def test_several_files_train_one_router(few: Path, tmp_path: Path) -> None:
    other = lines(tmp_path / "other.csv", "question,label", "How much tin is in a can?,no")
    assert "Training on 49 questions." in run("train", few, other, "-o", tmp_path / "router.json").stderr
    contrary = lines(tmp_path / "contrary.csv", "question,label", f"{FEW[0].question},no")
    done = run("train", few, contrary, "-o", tmp_path / "router.json")
    assert done.exit_code == 2
    assert "gives a question of another file the other label: What are the advantages of bread?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", TRAINED_ON], "--output"),
        (["train", "none.jsonl", "-o", "router.json"], "there is no file none.jsonl."),
        (["train", TRAINED_ON, "-o", "none/router.json"], "--output: the folder none does not exist."),
        (["train", TRAINED_ON, "-o", "router.json", "--threshold", "0.3"], "--threshold"),
        (["test"], "LABELLED"),
        (["test", HELD_OUT, HELD_OUT], "router_held_out.jsonl is no router file"),
        (["test", "none.json", HELD_OUT], "There is no router file none.json."),
        (["test", "a", "b", "c"], "test needs one file of labelled questions"),
    ],
    ids=range(8),
)
def test_a_usage_error_exits_with_2(
    arguments: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_too_few_questions_end_the_command(tmp_path: Path) -> None:
    path = lines(tmp_path / "some.jsonl", '{"question": "Why?", "label": true}')
    done = run("train", path, "-o", tmp_path / "router.json")
    assert done.exit_code == 2
    assert f"a router needs {FEWEST} questions of each label" in done.stderr
    assert not (tmp_path / "router.json").exists()


def test_without_the_extra_train_names_it_and_test_works(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = run("train", few, "-o", tmp_path / "router.json")
    assert done.exit_code == 2
    assert "route train needs the extra `router`" in done.stderr
    assert run("test", HELD_OUT).exit_code == 0


def test_ask_refuses_a_router_that_is_none() -> None:
    done = CliRunner().invoke(app, ["ask", "Why?", "--model", "demo", "--route", "none.json"])
    assert done.exit_code == 2
    assert "There is no router file none.json." in done.stderr
