"""What the small local model makes of our prompts, and of other layouts of the same calls. The gate for each change.

Run with: uv run --extra local python -m tests.benchmarks.prompts --seeds 1 2 3

A weak model shows what a strong one hides: words about the task instead of the subject, lists, other points' matter.
The questions (tests/benchmarks/questions.py) are none of those on which the prompts were chosen.
"""

import argparse
import asyncio
import re
import statistics
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import LengthFinishReasonError

from sot_graph import local_chat_model
from sot_graph.outline import clean_titles
from sot_graph.outline_reply import Outline, bounded
from sot_graph.prompts import GO_ON, bounds, closing_turns, lead_turns, messages_of, outline_turns, point_turns, tell_of
from sot_graph.state import Point, Scope
from tests.benchmarks.questions import COMMON_WORDS, COVERS, OTHER_LANGUAGES, QUESTIONS

Measures = dict[str, float]
Layout = Callable[[str, list[str], int], list[BaseMessage]]
TOKENS = 100
OUTLINE_TOKENS = 200
CALLERS = SystemMessage("You are a friendly assistant of a family magazine.")
LIST = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+", re.MULTILINE)
TALK = re.compile(
    r"\b(?:(?:this|the|your|my|each|next|first|following|above|our|these) "
    r"(?:point|outline|section|title|question|answer|text|prompt|paragraph|sentence|list|response)s?"
    r"|as an ai|i'?m an ai|here(?:'s| is| are) (?:a|an|the|some|my|your|one|two)\b|sure[,!]|certainly|of course"
    r"|i(?:'ll| will| can| would)\b|let me|(?:number|point) \d|one or two sentences)",
    re.IGNORECASE,
)
"""Words about the task."""
STOP_WORDS = frozenset(
    """
    a an the and or of to in on for with your you is are it its that this from by at as be can will how do i what should
    why my more less better good new other their they them which who when into than then so not no have has help helps
    make sure important
    """.split()  # noqa: SIM905 - words are easier to read without quotes
)


class Text(NamedTuple):
    """A point as it was written."""

    question: str
    titles: list[str]
    number: int
    text: str
    is_cut: bool
    tokens: int  # of the prompt, beyond the bare question
    shared: float  # of the prompt, with the other points


# --- layouts -----------------------------------------------------------------------------------------


def ours(question: str, titles: list[str], number: int, system: SystemMessage | None = None) -> list[BaseMessage]:
    """As the graph asks."""
    conversation = [HumanMessage(question)]
    return messages_of(system, conversation, point_turns(number + 1, titles, tell=tell_of(system, conversation)))


def with_callers_system(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """As the graph asks, below a system prompt of the caller's."""
    return ours(question, titles, number, CALLERS)


def before(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """As the graph asked until November 2026: one message with the question, the whole outline and many rules."""
    text = (
        f"{question}\n\n---\nThe answer to the question above is made of the points below. You write one of them; at "
        f"the same time the others are being written by others, who see this same page:\n\n{_numbered(titles)}\n\n"
        "Write your point's text, in the language of the question, so that all texts read as one answer when they are "
        "put together. One or two sentences, unless you were told before how long or in what form to answer. Begin "
        "with the text itself, without a number, a title or an introduction, and keep out what belongs to the other "
        f"points.\n\nYour point is number {number + 1}: {titles[number]}"
    )
    return [HumanMessage(text)]


def numbered_page(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """The paper's layout, in words of ours: role, question, numbered skeleton, one point to continue; no prefill."""
    text = (
        "You continue the writing of one point of an answer, and of no other. The answer's skeleton follows its "
        f"question.\n\nQuestion: {question}\n\nSkeleton:\n{_numbered(titles)}\n\nContinue only point {number + 1} in "
        f"one or two short sentences.\n\nPoint {number + 1}. {titles[number]}:"
    )
    return [HumanMessage(text)]


def one_page(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """The layout that most people write first: everything in one message, and the instruction last."""
    text = (
        f"Question: {question}\n\nOutline: {', '.join(titles)}\n\nExpand the point “{titles[number]}” into a short "
        "paragraph of one or two sentences. Do not repeat the title and do not cover the other points."
    )
    return [HumanMessage(text)]


def numbered_turn(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """A conversation as ours, but with a numbered outline in sight."""
    messages = ours(question, titles, number)
    return [*messages[:-2], AIMessage(_numbered(titles)), messages[-1]]


def no_outline(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """The question and the title alone: the point does not know of the others."""
    messages = ours(question, titles, number)
    return [*messages[:-2], HumanMessage(f"{question}\n\n{messages[-1].text}")]


def asked(words: str) -> Layout:
    """As the graph asks, but for how long a point is to be."""

    def layout(question: str, titles: list[str], number: int) -> list[BaseMessage]:
        return [*ours(question, titles, number)[:-1], HumanMessage(f"{words}, tell me more about {titles[number]}.")]

    return layout


def scoped(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """As the graph asks where the outline says what each point covers."""
    covers = COVERS[question].split("; ")
    scopes = [Scope(covers=each) for each in covers]
    return messages_of(None, [HumanMessage(question)], point_turns(number + 1, titles, scopes))


def own_scope(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """The same, but each point is told what itself covers, and nothing of the others."""
    plain = ours(question, titles, number)
    return [*plain[:-1], scoped(question, titles, number)[-1]]


def scopes_in_sight(question: str, titles: list[str], number: int) -> list[BaseMessage]:
    """The same, but only the outline says what each point covers."""
    return [*scoped(question, titles, number)[:-1], ours(question, titles, number)[-1]]


SCOPES: dict[str, Layout] = {
    "titles": ours,
    "covers, in the outline and in the point's turn: ours": scoped,
    "covers, in the point's turn": own_scope,
    "covers, in the outline": scopes_in_sight,
}
LENGTHS: dict[str, Layout] = {
    "ours: in one or two sentences": ours,
    "in two sentences": asked("In two sentences"),
    "in one sentence": asked("In one sentence"),
    "in about forty words": asked("In about forty words"),
    "in one or two sentences, about forty words": asked("In one or two sentences of about forty words in all"),
    "no word on the length": lambda *point: [
        *ours(*point)[:-1],
        HumanMessage(f"Tell me more about {point[1][point[2]]}."),
    ],
}
LAYOUTS: dict[str, Layout] = {
    "ours": ours,
    "ours, caller's system prompt": with_callers_system,
    "ours before": before,
    "the paper's layout": numbered_page,
    "one page": one_page,
    "numbered outline as a turn": numbered_turn,
    "no outline": no_outline,
}


def _numbered(titles: Sequence[str]) -> str:
    return "\n".join(f"{number}. {title}" for number, title in enumerate(titles, start=1))


# --- measures ----------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a text."""
    return re.findall(r"[^\W\d_]+", text.lower())


def stems(text: str) -> set[str]:
    """The beginnings of the words that carry meaning."""
    return {word[:5] for word in words(text) if word not in STOP_WORDS and len(word) > 2}


def is_own(text: Text) -> bool:
    """Whether a text is nearest to its own title, by shared words."""
    nearness = [len(stems(title) & stems(text.text)) / max(1, len(stems(title))) for title in text.titles]
    return 0 < nearness[text.number] == max(nearness)


def overlap(text: Text, others: Sequence[Text]) -> float:
    """The share of words that a text has in common with its nearest sibling, without those of the question.

    All points are about the question's subject, and may name it.
    """
    subject = stems(text.question)
    own, *rest = (stems(each.text) - subject for each in (text, *others))
    return max((len(own & other) / max(1, len(own | other)) for other in rest), default=0.0)


def distinct(text: str) -> float:
    """The share of a text's triples of words that come once."""
    triples = [*zip(words(text), words(text)[1:], words(text)[2:], strict=False)]
    return len(set(triples)) / max(1, len(triples))


def point_measures(texts: list[Text]) -> dict[str, float]:
    """One value a column of the table."""
    siblings = [[other for other in texts if other.question == text.question and other is not text] for text in texts]
    good = [is_own(text) and not (TALK.search(text.text) or LIST.search(text.text) or text.is_cut) for text in texts]
    return {
        "talk": statistics.mean(bool(TALK.search(text.text)) for text in texts),
        "lists": statistics.mean(bool(LIST.search(text.text)) for text in texts),
        "own title": statistics.mean(map(is_own, texts)),
        "distinct": statistics.mean(distinct(text.text) for text in texts),
        "overlap": statistics.mean(map(overlap, texts, siblings)),
        "cut off": statistics.mean(text.is_cut for text in texts),
        "all good": statistics.mean(good),
        "tokens": statistics.mean(text.tokens for text in texts),
        "shared": statistics.mean(text.shared for text in texts),
    }


def is_usable(question: str, titles: list[str]) -> bool:
    """Whether an outline has 3 to 10 short titles, all different and hardly any of them junk."""
    junk = [title for title in titles if TALK.search(title) or "?" in title or stems(title) <= stems(question)]
    differ = len(set().union(*map(stems, titles))) / max(1, sum(len(stems(title)) for title in titles))
    is_short = all(len(words(title)) <= 7 for title in titles)
    return 3 <= len(titles) <= 10 and is_short and len(junk) <= len(titles) / 5 and differ >= 0.6


# --- runs --------------------------------------------------------------------------------------------


async def write_points(model: ChatOpenAI, layout: Layout) -> dict[str, float]:
    """Write all points of all questions."""

    async def write(question: str, titles: list[str], number: int) -> Text:
        messages = layout(question, titles, number)
        reply = await model.ainvoke(messages)
        usage = reply.usage_metadata or {"input_tokens": 0}
        prompts = [_characters(layout(question, titles, each)) for each in (number, number - 1)]
        common = next((i for i, pair in enumerate(zip(*prompts, strict=False)) if pair[0] != pair[1]), len(prompts[0]))
        is_cut = reply.response_metadata.get("finish_reason") == "length"
        tokens = usage["input_tokens"] - bare[question]
        return Text(question, titles, number, reply.text.strip(), is_cut, tokens, common / len(prompts[0]))

    bare = {question: await _tokens(model, question) for question in QUESTIONS}
    calls = (write(question, titles, i) for question, titles in QUESTIONS.items() for i in range(len(titles)))
    return point_measures(await asyncio.gather(*calls))


async def measure_lengths(model: ChatOpenAI, layout: Layout) -> Measures:
    """Write all points; how even they are, as they came and as they would be if each ended with its second sentence.

    At one speed for all, an answer's points take as long as the longest of them.
    """

    async def write(question: str, titles: list[str]) -> list[str]:
        calls = (model.ainvoke(layout(question, titles, number)) for number in range(len(titles)))
        return [reply.text for reply in await asyncio.gather(*calls)]

    model = model.model_copy(update={"max_tokens": 2 * TOKENS})
    answers = await asyncio.gather(*(write(*each) for each in QUESTIONS.items()))
    lengths = [[len(text.split()) for text in texts] for texts in answers]
    ended = [[len(_two_sentences(text).split()) for text in texts] for texts in answers]
    return {
        "words": statistics.mean(length for each in lengths for length in each),
        "longest/mean": statistics.mean(max(each) / statistics.mean(each) for each in lengths),
        "shortest/mean": statistics.mean(min(each) / statistics.mean(each) for each in lengths),
        "over two sentences": statistics.mean(
            text.strip() != _two_sentences(text) for texts in answers for text in texts
        ),
        "longest/mean, ended": statistics.mean(max(each) / statistics.mean(each) for each in ended),
    }


def _two_sentences(text: str) -> str:
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s|$)", text.strip())]
    return text.strip()[: ends[1]] if len(ends) > 1 else text.strip()


def _characters(messages: Sequence[BaseMessage]) -> str:
    return "\n".join(f"{message.type}: {message.text}" for message in messages)


async def _tokens(model: ChatOpenAI, question: str) -> int:
    reply = await model.bind(max_tokens=1).ainvoke([HumanMessage(question)])
    return reply.usage_metadata["input_tokens"] if reply.usage_metadata else 0


async def write_outlines(model: ChatOpenAI, *, may_decline: bool) -> dict[str, float]:
    """Write the outlines of all questions, by the bounded schema."""
    schema = bounded(1 if may_decline else bounds(2, 10)[0], 10)
    turns = outline_turns(None, may_decline=may_decline, has_opening=False)
    bound: Any = model.model_copy(update={"max_tokens": OUTLINE_TOKENS}).with_structured_output(
        schema, include_raw=True
    )

    async def write(question: str) -> tuple[str, list[str]]:
        try:
            reply = await bound.ainvoke(messages_of(None, [HumanMessage(question)], turns))
        except LengthFinishReasonError:  # a title that never ends
            return question, []
        parsed = reply["parsed"]
        return question, clean_titles(parsed.points) if isinstance(parsed, Outline) else []

    outlines = await asyncio.gather(*map(write, QUESTIONS))
    titles = [title for _question, found in outlines for title in found]
    return {
        "usable": statistics.mean(is_usable(*outline) for outline in outlines),
        "titles": statistics.mean(len(found) for _question, found in outlines),
        "words a title": statistics.mean(len(words(title)) for title in titles) if titles else 0.0,
    }


async def write_openings(model: ChatOpenAI) -> dict[str, float]:
    """Write the openings of all questions."""
    asked = [messages_of(None, [HumanMessage(question)], lead_turns("")) for question in QUESTIONS]
    texts = [reply.text for reply in await asyncio.gather(*map(model.ainvoke, asked))]
    return {
        "talk": statistics.mean(bool(TALK.search(text)) for text in texts),
        "lists": statistics.mean(bool(LIST.search(text)) for text in texts),
        "sentences": statistics.mean(len(re.findall(r"[.!?](?:\s|$)", text)) for text in texts),
    }


ANSWERS: dict[int | None, dict[str, list[str]]] = {}
"""The points of all questions, by seed: all endings are those of the same answers."""


async def write_endings(model: ChatOpenAI, turns: Callable[[list[Point]], list[str]]) -> Measures:
    """Write the endings of all answers; a good one says nothing of the task, and not what its nearest point says."""

    async def point(question: str, titles: list[str], number: int) -> str:
        return (await model.ainvoke(ours(question, titles, number))).text.strip()

    async def end(question: str, titles: list[str]) -> tuple[str, float]:
        texts = ANSWERS[model.seed][question]
        points = [
            Point(index=number, title=title, text=text, status="written", error=None)
            for number, (title, text) in enumerate(zip(titles, texts, strict=True), start=1)
        ]
        ending = (await model.ainvoke(messages_of(None, [HumanMessage(question)], turns(points)))).text.strip()
        own, *others = (Text(question, titles, 0, text, is_cut=False, tokens=0, shared=0) for text in (ending, *texts))
        return ending, overlap(own, others)

    if model.seed not in ANSWERS:
        asked = ((question, titles, number) for question, titles in QUESTIONS.items() for number in range(len(titles)))
        written = iter(await asyncio.gather(*(point(*each) for each in asked)))
        ANSWERS[model.seed] = {question: [next(written) for _title in titles] for question, titles in QUESTIONS.items()}
    endings = await asyncio.gather(*(end(*each) for each in QUESTIONS.items()))
    return {
        "talk": statistics.mean(bool(TALK.search(text)) for text, _overlap in endings),
        "lists": statistics.mean(bool(LIST.search(text)) for text, _overlap in endings),
        "sentences": statistics.mean(len(re.findall(r"[.!?](?:\s|$)", text)) for text, _overlap in endings),
        "overlap": statistics.mean(common for _text, common in endings),
    }


def ended_by(words: str) -> Callable[[list[Point]], list[str]]:
    """As the graph asks, in other words."""
    return lambda points: [*closing_turns(points)[:-1], words]


def without_outline(points: list[Point]) -> list[str]:
    """As the graph asks, without the outline above the texts."""
    return ["\n\n".join(point["text"] for point in points), *closing_turns(points)[1:]]


ENDINGS: dict[str, Callable[[list[Point]], list[str]]] = {
    "ours": closing_turns,
    "ours, texts alone": without_outline,
    "In one or two sentences, end the answer.": ended_by("In one or two sentences, end the answer."),
    "... that sum it up.": ended_by("End the answer with one or two sentences that sum it up."),
    "... that look ahead.": ended_by("End the answer with one or two sentences that look ahead."),
    "... what does all this add up to?": ended_by("In one or two sentences, what does all this add up to?"),
    "... that bring it together.": ended_by("Close the answer with one or two sentences that bring it together."),
}


async def go_on(model: ChatOpenAI) -> dict[str, float]:
    """Write the rest of texts that broke off in the middle."""

    async def write(question: str, titles: list[str]) -> tuple[str, str]:
        messages = ours(question, titles, 0)
        text = (await model.ainvoke(messages)).text.split()
        begun = " ".join(text[: max(3, len(text) // 2)])
        return begun, (await model.ainvoke([*messages, AIMessage(begun), HumanMessage(GO_ON)])).text

    pairs = await asyncio.gather(*(write(question, titles) for question, titles in QUESTIONS.items()))
    return {
        "talk": statistics.mean(bool(TALK.search(rest)) for _begun, rest in pairs),
        "begins anew": statistics.mean(rest.split()[:3] == begun.split()[:3] for begun, rest in pairs),
        "repeats": statistics.mean(
            len(stems(begun) & stems(rest)) / max(1, len(stems(begun))) for begun, rest in pairs
        ),
    }


async def speak(model: ChatOpenAI, system: SystemMessage | None) -> dict[str, float]:
    """Write points of questions in other languages: the share of texts that are in the question's."""

    async def write(language: str, question: str, titles: list[str], number: int) -> tuple[str, bool]:
        text = words((await model.ainvoke(ours(question, titles, number, system))).text)
        counts = {name: sum(text.count(word) for word in common.split()) for name, common in COMMON_WORDS.items()}
        return language, max(counts, key=lambda name: counts[name]) == language

    calls = (write(name, *asked, i) for name, asked in OTHER_LANGUAGES.items() for i in range(len(asked[1])))
    found = await asyncio.gather(*calls)
    return {name: statistics.mean(is_it for language, is_it in found if language == name) for name in OTHER_LANGUAGES}


STAGES: dict[str, dict[str, Callable[[ChatOpenAI], Awaitable[Measures]]]] = {
    "points": {name: partial(write_points, layout=layout) for name, layout in LAYOUTS.items()},
    "length": {name: partial(measure_lengths, layout=layout) for name, layout in LENGTHS.items()},
    "covers": {name: partial(write_points, layout=layout) for name, layout in SCOPES.items()},
    "outline": {
        "ours, always": lambda model: write_outlines(model, may_decline=False),
        "ours, may decline": lambda model: write_outlines(model, may_decline=True),
    },
    "opening": {"ours": write_openings},
    "closing": {name: partial(write_endings, turns=turns) for name, turns in ENDINGS.items()},
    "rest of a text": {"ours": go_on},
    "language": {
        "ours": lambda model: speak(model, None),
        "no system message": lambda model: speak(model, SystemMessage("")),
    },
}


async def measure(stages: Sequence[str], seeds: Sequence[int]) -> None:
    """Print one table a stage: the mean of the seeds, and their lowest and highest."""
    chosen: dict[str, Any] = {"temperature": 0.2, "max_tokens": TOKENS, "extra_body": {}}
    local = local_chat_model(**chosen)
    for stage in stages:
        for number, (name, run) in enumerate(STAGES[stage].items()):
            rows = [await run(local.model_copy(update={"seed": seed})) for seed in seeds]
            if not number:
                print(f"\n| {stage} | {' | '.join(rows[0])} |\n|---|{'---|' * len(rows[0])}")
            print(f"| {name} | {' | '.join(_cell([row[column] for row in rows]) for column in rows[0])} |", flush=True)


def _cell(values: list[float]) -> str:
    low, high = min(values), max(values)
    if high > 1:
        return f"{statistics.mean(values):.1f}"
    return f"{statistics.mean(values):.2f}" + (f" ({low:.2f} to {high:.2f})" if high - low >= 0.005 else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    given = parser.parse_args()
    asyncio.run(measure(given.stages, given.seeds))
