"""What the fake server writes, and how fast: named by the model that a request asks for."""

import string
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from random import Random
from typing import Self

from sot_graph.prompts import LEAD
from tests.fake_openai import Reply, Request, outline_json

QUESTION = "How can I sleep better?"
OPENING = 25
"""Tokens of the opening."""
PARSED = "PointText"
"""The schema of a point for clients that ask for one."""
TITLES = [f"Point {one}{other}" for one, other in product(string.ascii_lowercase, repeat=2)]
WORDS = ("sleep", "night", "light", "quiet", "hours", "room", "bed", "calm", "warm", "walk", "tea", "book", "rest")


@dataclass(frozen=True)
class Load:
    """An outline of so many points, and the tokens and the pace of the replies."""

    points: int = 8
    lengths: tuple[int, ...] = (60,)
    """Tokens of the points, in turn."""
    first_token: float = 0.0
    per_token: float = 0.0

    @property
    def model(self) -> str:
        """The name of a model that writes this."""
        return f"{self.points}x{'+'.join(map(str, self.lengths))}@{self.first_token:g},{self.per_token:g}"

    @classmethod
    def of(cls, model: str) -> Self:
        """What a model of that name writes."""
        size, pace = model.split("@")
        points, lengths = size.split("x")
        first_token, per_token = map(float, pace.split(","))
        return cls(int(points), tuple(map(int, lengths.split("+"))), first_token, per_token)

    @cached_property
    def tokens(self) -> list[int]:
        """Of each point."""
        return [self.lengths[number % len(self.lengths)] for number in range(self.points)]

    @property
    def titles(self) -> list[str]:
        return TITLES[: self.points]

    def seconds(self, tokens: int) -> float:
        """How long the server takes for a reply."""
        return self.first_token + tokens * self.per_token

    @property
    def plain_seconds(self) -> float:
        """Of one call that writes all of it."""
        return self.seconds(sum(self.tokens))

    @property
    def ideal_seconds(self) -> float:
        """Of the outline, and then the longest point."""
        outline = len(outline_json(self.titles).split(" "))
        return self.seconds(outline) + self.seconds(max(self.tokens))

    def reply(self, text: str) -> Reply:
        return Reply(text, first_token=self.first_token, per_token=self.per_token)


@lru_cache
def text_of(tokens: int) -> str:
    """A text of so many tokens that no reader takes for a loop."""
    return " ".join(Random(tokens).choices(WORDS, k=tokens))


def script(request: Request) -> Reply:
    """The script of the server, for every load."""
    load = Load.of(request.body["model"])
    if request.title:
        return load.reply(text_of(load.tokens[TITLES.index(request.title)]))
    if PARSED in str(request.body.get("response_format")):
        return load.reply(f'{{"text": "{text_of(load.tokens[0])}"}}')
    if request.stage == "skeleton":
        return load.reply(outline_json(load.titles))
    return load.reply(text_of(OPENING if LEAD in request.last else sum(load.tokens)))
