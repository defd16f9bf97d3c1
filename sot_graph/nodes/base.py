"""What all nodes share: one form for sync and async, the turn's question, and the answer's message."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.types import Command, RetryPolicy

from sot_graph import prefix
from sot_graph.calls import Call
from sot_graph.hedging import Hedge, may_be_called_twice
from sot_graph.limits import TokenLimit, with_limit
from sot_graph.messages import GAP, is_blank, kind_of, question_of
from sot_graph.models import is_model, resolve
from sot_graph.prompts import messages_of
from sot_graph.redaction import secrets_of
from sot_graph.run import run_of
from sot_graph.scopes import check_items
from sot_graph.state import SotState, Update
from sot_graph.text import encodable
from sot_graph.thoughts import Habits
from sot_graph.usage import Attempt, summarize, total_usage


class Request(Protocol):
    """What a node waits for, in a thread or in a task: mostly a `Call`."""

    def run(self) -> Any: ...  # noqa: D102 - the class says it
    async def arun(self) -> Any: ...  # noqa: D102 - the same


Steps = Generator[Request, Any, Update | Command[str]]


class Node(Runnable[Any, Any]):
    """A node: state in, update out.

    The work is in `steps`, a generator, so that it exists once for sync and async: it yields each request, receives
    what the request returns or raises, and returns the update.
    """

    def __init__(
        self,
        model: Runnable[Any, Any] | None,
        policies: Sequence[RetryPolicy] = (),
        system_prompt: SystemMessage | None = None,
        habits: Habits | None = None,
        limit: TokenLimit | None = None,
        hedge: Hedge | None = None,
    ) -> None:
        self.model, self.limit, self.hedge = model, limit, hedge
        self.habits = habits or Habits()
        self.policies = policies
        self.system_prompt = system_prompt
        self.secrets = secrets_of(model)

    @abstractmethod
    def steps(self, state: Any, config: RunnableConfig) -> Steps:
        """Do the node's work."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_kwargs: Any) -> Any:  # noqa: A002 - Runnable's name
        """Do the work in a thread."""
        steps = self.steps(input, ensure_config(config))
        advance: Callable[[], Request] = partial(next, steps)
        try:
            while True:
                request = advance()
                try:
                    advance = partial(steps.send, request.run())
                except Exception as error:  # noqa: BLE001 - the steps raise it again
                    advance = partial(steps.throw, error)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()  # at once, also if a call ends with SystemExit: others may wait for what the steps write

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_kwargs: Any) -> Any:  # noqa: A002 - Runnable's name
        """Do the work in a task."""
        config = ensure_config(config)
        steps = self.steps(input, config)
        advance: Callable[[], Request] = partial(next, steps)
        tasks, task = run_of(config).tasks, cast("asyncio.Task[Any]", asyncio.current_task())
        tasks.add(task)
        try:
            while True:
                request = advance()
                try:
                    advance = partial(steps.send, await request.arun())
                except Exception as error:  # noqa: BLE001 - the steps raise it again
                    advance = partial(steps.throw, error)
        except StopIteration as end:
            return end.value
        finally:
            tasks.discard(task)
            steps.close()

    def resolved(self, config: RunnableConfig) -> Any:
        """The node's model with a run's `configurable` values."""
        if self.model is None or not is_model(self.model):
            return self.model
        model = resolve(self.model, config)
        return model if model is self.model else with_limit(model, self.limit)

    def call(self, stage: str, what: str, config: RunnableConfig, prompt: Callable[[str], Any], **options: Any) -> Call:
        """One call, of the node's model if there is no other `runnable`; see `Call`."""
        runnable = options["runnable"] if "runnable" in options else self.resolved(config)
        secrets = self.secrets if runnable is self.model else {*self.secrets, *secrets_of(runnable)}
        may_hedge = is_model(runnable) or may_be_called_twice(runnable)
        options |= {"runnable": runnable, "policies": self.policies, "secrets": secrets}
        options |= {"hedge": self.hedge if may_hedge else None}
        return Call(stage=stage, what=what, config=config, prompt=prompt, **options)

    def messages(self, conversation: Sequence[BaseMessage], turns: Sequence[str] = ()) -> list[BaseMessage]:
        """The messages of one call."""
        return messages_of(self.system_prompt, conversation, turns)

    def cached(
        self,
        model: Any,
        conversation: Sequence[BaseMessage],
        turns: Callable[[str], Sequence[str]],  # the call's own, from what subscribers have received
        *,
        is_marked: bool,
    ) -> dict[str, Any]:
        """A call's prompt and runnable, with what the provider's cache wants for the prefix that all calls share."""
        kind = prefix.cache_of(model)
        shared = self.messages(conversation) if kind else []

        def prompt(shown: str) -> list[BaseMessage]:
            messages = self.messages(conversation, turns(shown))
            return prefix.with_mark(kind, model, messages, len(shared)) if is_marked else messages

        return {"prompt": prompt, "runnable": prefix.with_key(kind, model, shared)}


class Turn(NamedTuple):
    """What one run of the graph has to answer."""

    question: str
    conversation: list[BaseMessage]  # ends with the question
    added: list[dict[str, str]]  # the question as a new message, if the conversation did not have it
    outline: Sequence[Any] | None  # the caller's titles, or items


def read_turn(state: SotState) -> Turn:
    """Find the question, and refuse what cannot be answered before a model is called.

    Raises:
        ValueError: There is no question, or it is blank.
        TypeError: The question is not text, or the outline not a list of titles and items.
    """
    messages: list[BaseMessage] = list(state.get("messages", []))
    question, outline = state.get("question"), state.get("outline") or None
    if outline:
        check_items(outline)
    if question is None:
        last = question_of(messages)
        if last is None or is_blank(last):
            msg = "There is nothing to answer: pass a `question`, or `messages` with a human message that is not blank."
            raise ValueError(msg)
        return Turn(last.text, messages, [], outline)
    if not isinstance(question, str):
        msg = f"`question` must be text, not {type(question).__name__}."
        raise TypeError(msg)
    if not question.strip():
        msg = "There is nothing to answer: `question` is blank. Leave it out to answer the last of `messages`."
        raise ValueError(msg)
    question = encodable(question)
    if messages and kind_of(messages[-1]) is HumanMessage and messages[-1].text.strip() == question.strip():
        return Turn(question, messages, [], outline)
    # A dict, because LangGraph streams every message object that a node returns, and this is not the answer.
    added = [{"role": "user", "content": question}]
    return Turn(question, [*messages, HumanMessage(question)], added, outline)


def before_answer(messages: Sequence[BaseMessage], answer_id: str | None) -> list[BaseMessage]:
    """The conversation before an answer that is in it already, because failed points are written later."""
    answers = (i for i, message in enumerate(messages) if answer_id and message.id == answer_id)
    return list(messages[: next(answers, None)])


def answer_update(state: SotState, text: str, attempts: Sequence[Attempt], config: RunnableConfig) -> Update:
    """The update of the last node: the answer with its opening and ending, and its message with the usage of all."""
    run = run_of(config)
    answer = GAP.join(part for part in (state.get("opening"), text, state.get("ending")) if part)
    # The chunks were streamed with this id, so LangGraph does not send the message again.
    run.message_id = state.get("answer_id") or run.message_id
    made = [*state.get("opening_attempts", []), *state["attempts"], *attempts]
    # In a fresh run, an attempt from before the run was answered by the cache.
    cached = [each for each in made if run.is_fresh and each["began"] < run.began]
    paid = [*run.attempts_before, *(each for each in made if each not in cached)]
    message = AIMessage(
        answer,
        id=run.message_id,
        usage_metadata=total_usage(each["usage"] for each in paid),
        response_metadata={"sot": summarize(paid, state.get("points") or [], {each["index"] for each in cached})},
    )
    run.answer.finish(message, config)
    return {"answer": answer, "answer_id": run.message_id, "messages": [message], "attempts": attempts}
