"""Compare many questions, a few at a time, and keep each result as soon as it is there."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sot_graph.evaluation.compare import Comparison, Question, add_newest, append_result, compare, is_complete
from sot_graph.evaluation.judge import Judge
from sot_graph.graph import SotGraph

MAX_UNANSWERED = 3
"""After so many questions in a row without any text the run stops: the key is wrong, or the server is down."""


@dataclass
class Bench:
    """The two graphs, the judge, and the results so far."""

    plain: SotGraph
    """See `sot_graph.evaluation.compare.compare`."""
    sot: SotGraph
    judge: Judge | None
    settings: dict[str, Any]
    path: Path | None
    """The file of the results; None to keep them in memory only."""
    results: dict[str, Comparison]
    """The results by question."""
    unanswered: list[Comparison] = field(default_factory=list)
    """The last questions in a row without any text, at most `MAX_UNANSWERED`."""

    def update_categories(self, questions: Iterable[Question]) -> None:
        """Store the categories of questions whose results have none or another one."""
        for question in questions:
            known = self.results.get(question["question"])
            if known and question["category"] not in {None, known["category"]}:
                self._keep({**known, "category": question["category"]})

    def pending(self, questions: Sequence[Question]) -> list[tuple[int, Question]]:
        """The questions that still need an answer or a verdict, with their numbers.

        Those that failed before come last: they may fail again, and must not stop the run before the others.
        """
        pending = [(number, each) for number, each in enumerate(questions) if not self._is_done(each["question"])]
        return sorted(pending, key=lambda item: item[1]["question"] in self.results)

    async def run(self, pending: Iterable[tuple[int, Question]], concurrency: int, on_done: Callable[[], None]) -> int:
        """Compare the questions.

        Args:
            pending: See the method of that name.
            concurrency: How many questions run at the same time.
            on_done: Called after each question.

        Returns:
            How many questions are left, because several in a row got no text.
        """
        left = deque(pending)

        async def worker() -> None:
            while left and len(self.unanswered) < MAX_UNANSWERED:
                await self._compare(*left.popleft())
                on_done()

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(concurrency, len(left))):
                    tasks.create_task(worker())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return len(left)

    async def _compare(self, number: int, question: Question) -> None:
        """Get both answers and the verdict, unless they are there already."""
        text = question["question"]
        if not self._is_answered(text):
            at_once, sot_first = self.settings["at_once"], number % 2 == 1
            options: Any = {"settings": self.settings, "at_once": at_once, "sot_first": sot_first}
            result = await compare(question, self.plain, self.sot, **options)
            if len(self.unanswered) < MAX_UNANSWERED:
                has_text = result["plain"]["text"] or result["sot"]["text"]
                self.unanswered = [] if has_text else [*self.unanswered, result]
            self._keep(result)
        if self.judge and self._is_answered(text) and not self._is_done(text):
            result = self.results[text]
            verdict = await self.judge.averdict(text, plain=result["plain"]["text"], sot=result["sot"]["text"])
            self._keep({**result, "verdicts": {**result["verdicts"], self.judge.name: verdict}})

    def _is_done(self, question: str) -> bool:
        """Whether a question has both answers and, if there is a judge, its verdict."""
        if not self._is_answered(question) or self.judge is None:
            return self._is_answered(question)
        verdict = self.results[question]["verdicts"].get(self.judge.name)
        return verdict is not None and not verdict["error"]

    def _is_answered(self, question: str) -> bool:
        return question in self.results and is_complete(self.results[question])

    def _keep(self, result: Comparison) -> None:
        add_newest(result, self.results)
        if self.path:
            append_result(result, self.path)
