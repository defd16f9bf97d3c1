"""Points that need the text of others: all are started at once, and each waits for what it needs."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress

from langgraph.errors import GraphDrained, GraphInterrupt

Text = Future[str | None]
"""The text of a point, once it is written; None if it could not be."""


class Texts:
    """The texts of the points of a run."""

    def __init__(self) -> None:
        self._texts: dict[int, Text] = {}

    def of(self, index: int) -> Text:
        """The text of a point, whether it is written or not."""
        return self._texts.setdefault(index, Future())

    def note(self, index: int, text: str | None) -> None:
        """The text of a point is known from a run before this one."""
        with suppress(InvalidStateError):  # another task was sooner
            self.of(index).set_result(text)

    @contextmanager
    def writing(self, index: int) -> Iterator[Text]:
        """While a point is written. If it is stopped or interrupted, so are those that need it, to run again later."""
        text = self.of(index)
        try:
            yield text
        except BaseException as error:
            with suppress(InvalidStateError):
                text.set_exception(error if isinstance(error, GraphDrained) else GraphInterrupt())
            raise


class Needed:
    """Waits for the texts of the points that a point needs."""

    def __init__(self, texts: Texts, needs: Sequence[int]) -> None:
        self._texts = [texts.of(index) for index in needs]

    def run(self) -> list[str | None]:
        """Wait in a thread."""
        return [text.result() for text in self._texts]

    async def arun(self) -> list[str | None]:
        """Wait in a task."""
        futures = [asyncio.wrap_future(text) for text in self._texts]
        for future in futures:  # asyncio reports an exception that nobody reads
            future.add_done_callback(lambda future: future.cancelled() or future.exception())
        await asyncio.wait(futures)
        return self.run()
