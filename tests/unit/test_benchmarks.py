"""The parts of the benchmarks that measure nothing: statistics, tables, targets, loads, the plot."""

import json
import re
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks.chart import LINES, latency_svg
from tests.benchmarks.figures import Section, Spread, Table, Target, as_json, of_median, ratio, spread, targets_table
from tests.benchmarks.load import TITLES, Load, text_of


def test_a_spread_is_the_median_with_the_quartiles() -> None:
    assert spread([4, 1, 3, 2, 5]) == (2, 3, 4)
    assert spread([7]) == (7, 7, 7)
    assert spread([7]).shown() == "7.00"
    assert spread([1, 2, 3]).shown(1) == "2.0 (1.5-2.5)"


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio([2, 20, 6], [1, 10, 2]).median == 2
    assert of_median([2, 20, 6], [1, 10, 2]).median == 3


@pytest.mark.parametrize(
    ("bound", "at_most", "verdict"),
    [(1.0, True, "met"), (0.9, True, "MISSED"), (1.0, False, "met"), (1.1, False, "MISSED"), (None, True, "")],
)
def test_a_target_is_judged_by_the_median(bound: float | None, at_most: bool, verdict: str) -> None:  # noqa: FBT001 - a parameter
    target = Target("a ratio", Spread(0.5, 1.0, 9.0), bound, at_most=at_most)
    assert target.verdict == verdict
    assert targets_table([target]).text().splitlines()[-1].endswith(verdict)


def test_the_columns_of_a_table_stand_below_each_other() -> None:
    text = Table("Title", ("", "a", "long name"), [("first", "1", "2"), ("the second", "10,000", "3")]).text()
    title, _, *lines = text.rstrip().splitlines()
    assert title == "Title"
    assert lines[2:] == ["first            1          2", "the second  10,000          3"]


def test_figures_become_json() -> None:
    section = Section(figures={"ours": {8: spread([1, 2, 3])}, "points": (1, 2)})
    assert json.dumps(as_json(section.figures))
    assert as_json(section.figures)["ours"]["8"] == {"low": 1.5, "median": 2, "high": 2.5}
    assert as_json([Target("a", spread([1]), 2)])[0]["is_met"] is True


@pytest.mark.parametrize("load", [Load(), Load(6, (30, 5, 90), 0.3, 0.01), Load(512, (1,), 0.1)])
def test_a_load_is_told_by_the_name_of_its_model(load: Load) -> None:
    assert Load.of(load.model) == load


def test_a_load_knows_how_long_its_answers_take() -> None:
    load = Load(8, (60,), first_token=0.3, per_token=0.01)
    assert load.plain_seconds == pytest.approx(0.3 + 8 * 60 * 0.01)
    outline = 1 + 2 * len(load.titles)  # tokens: its key, and two words a title
    assert load.ideal_seconds == pytest.approx(0.3 + outline * 0.01 + 0.3 + 60 * 0.01)


def test_texts_and_titles_are_such_as_no_reader_shortens() -> None:
    assert len(text_of(240).split(" ")) == 240
    assert text_of(240) == text_of(240)
    assert len(set(TITLES)) == len(TITLES) > 512


def test_the_plot_draws_each_line_through_its_points() -> None:
    points = (1, 2, 4)
    lines = {name: [spread([number * scale]) for number in points] for scale, name in enumerate(LINES, 1)}
    picture = ET.fromstring(latency_svg(points, lines))
    drawn = {line.get("class"): line.get("points", "") for line in picture.findall("{*}polyline")}
    assert set(drawn) == {kind for kind, _label in LINES.values()}
    for places in drawn.values():
        numbers = [float(number) for number in re.split(r"[ ,]+", places)]
        assert len(numbers) == 2 * len(points)
        assert numbers[1] > numbers[-1], "more seconds stand higher"
    words = {text.text or "" for text in picture.findall("{*}text")}
    assert {"1", "2", "4", "points"} <= words
    assert {label for _kind, label in LINES.values()} <= {word.rpartition(",")[0] for word in words}
