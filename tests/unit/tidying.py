"""A whole text tidied at once, as `expand` tidies it piece by piece."""

from functools import partial

from sot_graph.live import LiveText
from sot_graph.tidy import echo_length


def tidy(text: str, index: int, title: str) -> str:
    live = LiveText(front=partial(echo_length, index, title))
    live.feed(text)
    live.finish()
    return live.text
