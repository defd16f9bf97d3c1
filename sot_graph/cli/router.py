"""What `sot-graph route train` and `test` do: train a router, test one, and print the figures."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from operator import attrgetter
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sot_graph.cli.terminal import INTERRUPTED, USAGE_ERROR, error_line, errors, fail, table, write
from sot_graph.evaluation.labelled import Labelled, read_labelled
from sot_graph.evaluation.routes import Decided, confusion_rows, notes, part_rows, wrong_lines
from sot_graph.evaluation.text import one_line
from sot_graph.evaluation.training import Trained, train
from sot_graph.routing import Router

LOG_WIDTH = 200
"""The width of tables if standard output is not a terminal."""


def train_and_report(files: Sequence[Path], output: Path, threshold: float) -> None:
    """Train a router, write its file, and print the figures of its cross-validation."""
    if not output.parent.is_dir():
        fail(f"--output: the folder {output.parent} does not exist.", USAGE_ERROR)
    found: dict[str, Labelled] = {}
    for path in files:
        for each in _read(path):
            if found.setdefault(each.question, each).suits != each.suits:
                fail(f"{path} gives a question of another file the other label: {each.question}", USAGE_ERROR)
    labelled = list(found.values())
    errors.print(f"Training on {len(labelled)} questions.", style="dim")
    trained = _train(labelled, threshold)
    try:
        output.write_text(trained.text, encoding="utf-8")
    except OSError as error:
        fail(f"--output {output} cannot be written: {error_line(error)}")
    _print("Questions that the router had not seen (cross-validation)", _decided(labelled, trained), threshold)
    errors.print(f"The router is in {output}.", style="dim", markup=False)


def test_and_report(router: Router, path: Path) -> None:
    """Test a router on labelled questions, and print the figures."""
    labelled = _read(path)
    router.probability("")  # its first question costs more
    began = time.perf_counter()
    probabilities = [router.probability(each.question) for each in labelled]
    seconds = (time.perf_counter() - began) / len(labelled)
    decided = [Decided(each, found) for each, found in zip(labelled, probabilities, strict=True)]
    _print(f"{len(labelled)} questions of {path.name}", decided, router.threshold, f"{1e3 * seconds:.2f} ms a question")


def _read(path: Path) -> list[Labelled]:
    try:
        return read_labelled(path)
    except FileNotFoundError:
        fail(f"there is no file {path}.", USAGE_ERROR)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be used: {error}.", USAGE_ERROR)


def _train(labelled: Sequence[Labelled], threshold: float) -> Trained:
    try:
        with errors.status("Training ...") if errors.is_terminal else nullcontext():
            return train(labelled, threshold)
    except ImportError as error:
        fail(
            f"route train needs the extra `router` ({error}): pip install '.[router]' in sot_graph's checkout",
            USAGE_ERROR,
        )
    except ValueError as error:
        fail(f"{error}.", USAGE_ERROR)
    except KeyboardInterrupt:
        fail("stopped.", INTERRUPTED)


def _decided(labelled: Sequence[Labelled], trained: Trained) -> list[Decided]:
    return [Decided(each, found) for each, found in zip(labelled, trained.probabilities, strict=True)]


def _print(title: str, decided: Sequence[Decided], threshold: float, *others: str) -> None:
    """Print the tables, the figures below them, and the questions that were wrong."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = LOG_WIDTH
    parts = [part_rows(decided, threshold, name, attrgetter(name)) for name in ("kind", "language")]
    with output.capture() as captured:
        output.print(Text(one_line(title), style="bold"))
        output.print(table(confusion_rows(decided)))
        for line in [*notes(decided, threshold), *others]:
            output.print(Text(line))
        for rows in filter(None, parts):
            output.print()
            output.print(table(rows))
        if wrong := wrong_lines(decided, threshold):
            output.print("\nWrong, with the probability that an outline suits:")
            output.print(Text("\n".join(map(one_line, wrong))))
    write(captured.get())
