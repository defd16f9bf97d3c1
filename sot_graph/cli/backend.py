"""The Batch APIs on the command line: submit, wait, and read what is there, until every question has its answer."""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import typer
from langchain_core.runnables import Runnable

from sot_graph.batches.deferred import WAITS, Deferred, Desk
from sot_graph.batches.ledger import Ledger, OpenBatch, Stored
from sot_graph.batches.providers import PROVIDERS, BatchRefusedError, Progress, Provider
from sot_graph.cli.model import create_or_exit
from sot_graph.cli.options import ModelChoice
from sot_graph.cli.terminal import INTERRUPTED, USAGE_ERROR, error_line, errors, fail
from sot_graph.graph import create_sot_graph
from sot_graph.nodes import sentences
from sot_graph.redaction import NOTE, redact
from sot_graph.retry import http_status, is_transient, is_unreachable

FIRST_POLL, LONGEST_POLL = 5.0, 120.0
"""Seconds between two looks at a batch: at first, and at most."""
GROWTH = 1.5
MOST_TROUBLE = 20
"""So many looks in a row may fail before the command gives up."""


def _is_about_a_failure(record: logging.LogRecord) -> bool:
    """Whether a warning is to be shown: not one of an opening or an ending that waits for its batch."""
    return WAITS not in record.getMessage()


class Backend:
    """A provider's Batch API, and the ledger beside the file of the answers."""

    def __init__(self, name: str, choice: ModelChoice, lines: Path, *, is_resumed: bool) -> None:
        if name not in PROVIDERS:
            fail(f"--backend must be online or one of {', '.join(PROVIDERS)}, not {name}.", USAGE_ERROR)
        family = name.removesuffix("-batch")
        if choice.name is None or (choice.name.partition(":")[0] != family and choice.base_url is None):
            fail(f"--backend {name} needs a model of that provider: --model {family}:...", USAGE_ERROR)
        self._model, self._trouble = choice.name, 0
        self._shown: dict[str, Progress] = {}
        self.label = f"{choice.name} by {name}" + (f" at {redact(choice.base_url)}" if choice.base_url else "")
        key = None if choice.base_url is None else os.environ.get(f"{family.upper()}_API_KEY") or "none"
        self._provider: Provider = create_or_exit(PROVIDERS[name], choice.base_url, key)
        path = ledger_of(lines)
        is_there = path.exists()
        self._ledger = create_or_exit(Ledger, path)
        if (left := self._ledger.open_batches()) and not is_resumed:
            fail(_forgotten(path, left[0].provider, len(left)), USAGE_ERROR)
        if is_resumed and not is_there:
            errors.print(f"There is nothing to resume: {path} is new.", style="yellow", markup=False)

    def graph(self, options: dict[str, Any]) -> Runnable[Any, Any]:
        """The graph, whose requests are answered from the ledger."""
        if options.get("hedge") is not None:
            fail("--hedge is for calls that are made at once; leave it out with --backend.", USAGE_ERROR)
        model = create_or_exit(self._provider.model, self._model, Desk(self._ledger))
        graph = create_or_exit(create_sot_graph, model, **options)
        # They are in the requests: with others, what was answered would be asked and paid for again.
        route = getattr(options["route"], "digest", options["route"])
        settings = json.dumps({"backend": self.label, **options, "route": route}, sort_keys=True, default=str)
        if before := self._ledger.begin(settings):
            fail(
                f"{self._ledger.path} was begun with other options: {before}. Use the same; or remove the file to "
                "begin anew, and to pay again for what its batches answer.",
                USAGE_ERROR,
            )
        return Deferred(graph)

    def run(self, answer: Callable[[], bool], *, waits: bool) -> None:
        """Answer as many questions as there are replies for, and get those that are missing, until none is.

        Args:
            answer: Runs the graph for each question that has no answer; returns whether to continue.
            waits: Whether to wait for the batches; otherwise the command ends as soon as they are submitted.
        """
        errors.print(f"Model: {self.label}", style="dim", markup=False)
        logging.getLogger(sentences.__name__).addFilter(_is_about_a_failure)
        is_done, pause = False, FIRST_POLL
        is_read = True  # whether there are replies that no question has seen
        try:
            while not is_done:
                if is_read and not self._answer(answer):
                    return
                is_done = not (left := self._ledger.open_batches())
                is_read = True in [self._collect(batch) for batch in left]
                if left and not is_read and not waits:
                    errors.print(f"Not waiting. {self._left()}", style="dim", markup=False)
                    return
                pause = FIRST_POLL if is_read else self._sleep(pause, is_done=is_done)
        except KeyboardInterrupt:
            fail(f"stopped. {self._left()}", INTERRUPTED)
        except BatchRefusedError as error:
            fail(f"the provider refused a batch: {error}. Mend the cause, then add --resume.")
        except (OSError, typer.Exit):
            raise
        except Exception as error:  # noqa: BLE001 - each client raises errors of its own
            is_gone = http_status(error) == HTTPStatus.NOT_FOUND and self._ledger.open_batches()
            fail(f"{error_line(error)}. {self._gone() if is_gone else self._left()}")
        finally:
            self._ledger.close(is_done=is_done)

    def _gone(self) -> str:
        return (
            "Is it another key, or another URL, than the one that submitted it? If the batch is gone, remove "
            f"{self._ledger.path} to begin anew: what is not yet in the answers is paid again."
        )

    def _answer(self, answer: Callable[[], bool]) -> bool:
        """Answer what has its replies, and submit what has none; returns whether to continue."""
        with self._ledger.collecting():
            continues = answer()
        while continues:
            tag, requests = self._ledger.next_batch(self._provider.limits, self._provider.name)
            if not requests:
                break
            ident = self._submit(tag, requests)
            self._ledger.note_id(tag, ident)
            errors.print(f"Submitted {ident}: {len(requests):,} requests.", style="dim", markup=False)
        return continues

    def _submit(self, tag: str, requests: Sequence[Stored]) -> str:
        """Submit a batch once: if the response is lost, the provider may have it all the same."""
        try:
            return self._provider.submit(tag, requests)
        except Exception as error:
            is_known = not is_transient(error) and not is_unreachable(error)
            found = None if is_known or is_unreachable(error) else self._provider.find(tag)
            if found is None:
                self._ledger.drop(tag)
                if not is_known:
                    error.add_note(f"{NOTE}a batch of {len(requests):,} requests. {self._provider.doubt}")
                raise
            return found

    def _sleep(self, pause: float, *, is_done: bool) -> float:
        """Wait before the next look at the batches; returns how long to wait next."""
        if not is_done:
            time.sleep(pause)
        return min(LONGEST_POLL, pause * GROWTH)

    def _left(self) -> str:
        return "What was submitted stays with the provider; the same command with --resume fetches it."

    def _collect(self, batch: OpenBatch) -> bool:
        """Look at a batch, and read it if it has ended; returns whether it has."""
        ident = batch.id or self._provider.find(batch.tag)
        if ident is None:  # the process was killed while it was being submitted
            self._ledger.drop(batch.tag)
            return True
        self._ledger.note_id(batch.tag, ident)
        try:
            progress = self._provider.progress(ident)
            self._trouble = 0
            if not progress.is_ended:
                self._show(ident, progress)
                return False
            found = self._ledger.settle(batch.tag, self._provider.replies(ident))
        except BatchRefusedError:
            self._ledger.drop(batch.tag)
            raise
        except Exception as error:  # a day is long: the network may be gone for a while
            self._trouble += 1
            if not is_transient(error) or self._trouble > MOST_TROUBLE:
                error.add_note(f"{NOTE}{ident}.")
                raise
            return False
        errors.print(f"{ident} has ended: {found:,} replies.", style="dim", markup=False)
        return True

    def _show(self, ident: str, progress: Progress) -> None:
        if self._shown.get(ident) != progress:
            self._shown[ident] = progress
            errors.print(f"{ident}: {progress.done:,} of {progress.total:,}", style="dim", markup=False)


def ledger_of(lines: Path) -> Path:
    """The file beside the answers that has the batches."""
    return lines.with_name(f"{lines.name}.batches")


def refuse_open_batches(lines: Path) -> None:
    """Refuse to ask at once what waits in batches."""
    if (path := ledger_of(lines)).exists():
        ledger = create_or_exit(Ledger, path)
        left = ledger.open_batches()
        ledger.close()
        if left:
            fail(_forgotten(path, left[0].provider, len(left)), USAGE_ERROR)


def _forgotten(path: Path, provider: str, count: int) -> str:
    return (
        f"{path} names {count} batches that are with the provider. Add --backend {provider} --resume to fetch them; "
        "remove the file to begin anew, and to pay for them again."
    )
