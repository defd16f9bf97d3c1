"""The Batch APIs on the command line: submit, wait, and read what is there, until every question has its answer."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from langchain_core.runnables import Runnable

from sot_graph.batches.deferred import WAITS, Deferred, Desk
from sot_graph.batches.ledger import Ledger, OpenBatch
from sot_graph.batches.providers import PROVIDERS, BatchRefusedError, Provider
from sot_graph.cli.model import create_or_exit
from sot_graph.cli.options import ModelChoice
from sot_graph.cli.terminal import INTERRUPTED, USAGE_ERROR, error_line, errors, fail
from sot_graph.graph import create_sot_graph
from sot_graph.nodes import sentences
from sot_graph.redaction import redact
from sot_graph.retry import is_transient

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
        self._model = choice.name
        self.label = f"{choice.name} by {name}" + (f" at {redact(choice.base_url)}" if choice.base_url else "")
        key = None if choice.base_url is None else os.environ.get(f"{family.upper()}_API_KEY") or "none"
        self._provider: Provider = create_or_exit(PROVIDERS[name], choice.base_url, key)
        path = lines.with_name(f"{lines.name}.batches")
        is_there = path.exists()
        self._ledger = Ledger(path)
        if (left := self._ledger.open_batches()) and not is_resumed:
            fail(
                f"{path} names {len(left)} batches that are with the provider. Add --resume to go on with them; remove "
                "the file to begin anew, and to pay for them again.",
                USAGE_ERROR,
            )
        if is_resumed and not is_there:
            errors.print(f"There is nothing to resume: {path} is new.", style="yellow", markup=False)
        if other := next((each.provider for each in left if each.provider != name), None):
            fail(f"{path} has batches of {other}. Use --backend {other}.", USAGE_ERROR)

    def graph(self, options: dict[str, Any]) -> Runnable[Any, Any]:
        """The graph, whose requests are answered from the ledger."""
        if options.get("hedge") is not None:
            fail("--hedge is for calls that are made at once; leave it out with --backend.", USAGE_ERROR)
        model = create_or_exit(self._provider.model, self._model or "", Desk(self._ledger))
        return Deferred(create_or_exit(create_sot_graph, model, **options))

    def run(self, answer: Callable[[], bool], *, waits: bool) -> None:
        """Answer as many questions as there are replies for, and get those that are missing, until none is.

        Args:
            answer: Runs the graph for each question that has no answer; returns whether to go on.
            waits: Whether to wait for the batches; otherwise the command ends as soon as they are submitted.
        """
        errors.print(f"Model: {self.label}", style="dim", markup=False)
        logging.getLogger(sentences.__name__).addFilter(_is_about_a_failure)
        is_done = False
        try:
            while not is_done:
                for batch in self._ledger.open_batches():
                    self._collect(batch, waits=waits)
                goes_on = answer()
                self._ledger.commit()
                if not goes_on:
                    return
                is_done = not self._submit()
        except KeyboardInterrupt:
            fail(f"stopped. {self._left()}", INTERRUPTED)
        except BatchRefusedError as error:
            fail(f"the provider refused a batch: {error}. Mend the cause, then add --resume.")
        except (OSError, typer.Exit):
            raise
        except Exception as error:  # noqa: BLE001 - each client raises errors of its own
            fail(f"{error_line(error)}. {self._left()}")
        finally:
            self._ledger.close(is_done=is_done)

    def _left(self) -> str:
        return "What was submitted goes on at the provider; the same command with --resume fetches it."

    def _submit(self) -> int:
        """Submit all requests that are wanted; returns how many batches they are."""
        count = 0
        while True:
            tag, requests = self._ledger.next_batch(self._provider.limits, self._provider.name)
            if not requests:
                return count
            ident = self._provider.submit(tag, requests)
            self._ledger.note_id(tag, ident)
            count += 1
            errors.print(f"Submitted {ident}: {len(requests):,} requests.", style="dim", markup=False)

    def _collect(self, batch: OpenBatch, *, waits: bool) -> None:
        """Wait for the end of a batch, and read it."""
        ident = batch.id or self._provider.find(batch.tag)
        if ident is None:  # the process was killed while it was being submitted
            self._ledger.drop(batch.tag)
            return
        self._ledger.note_id(batch.tag, ident)
        try:
            self._wait(ident, waits=waits)
            found = self._ledger.settle(batch.tag, self._provider.replies(ident))
        except BatchRefusedError:
            self._ledger.drop(batch.tag)
            raise
        errors.print(f"{ident} has ended: {found:,} replies.", style="dim", markup=False)

    def _wait(self, ident: str, *, waits: bool) -> None:
        """Look at a batch until it has ended."""
        pause, trouble, shown = FIRST_POLL, 0, -1
        while True:
            try:
                progress, trouble = self._provider.progress(ident), 0
            except Exception as error:  # a day is long: the network may be gone for a while
                trouble += 1
                if not is_transient(error) or trouble > MOST_TROUBLE:
                    raise
            else:
                if progress.is_ended:
                    return
                if progress.done != shown:
                    shown = progress.done
                    errors.print(f"{ident}: {progress.done:,} of {progress.total:,}", style="dim", markup=False)
            if not waits:
                errors.print(f"Not waiting. {self._left()}", style="dim", markup=False)
                raise typer.Exit
            time.sleep(pause)
            pause = min(LONGEST_POLL, pause * GROWTH)
