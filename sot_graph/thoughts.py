"""Thoughts and control tokens, taken out of a reply while it is streamed.

Servers that parse a model's thoughts keep them out of the text. Others send them as they are: between tags of many
names, in channels, or with a closing tag alone, because the chat template has put the opening one into the prompt.
"""

import re
import time
from dataclasses import dataclass

HOLD, PAUSE = 0.25, 0.009
"""Seconds for which a reply that arrives in one burst is held back, and seconds between two chunks that end a burst."""

_WORD = r"(?:think|thought|reasoning|reflection|scratch_?pad|analysis|monologue)"
_NAME = rf"[\w:.-]{{0,24}}{_WORD}[\w:.-]{{0,24}}"
_SQUARE = r"(?-i:[A-Z_]*(?:THINK|THOUGHT|REASON)[A-Z_]*|think|thinking)"
_ATTRIBUTE = r"""\s+[\w:-]+\s*=\s*(?:"[^"<>]{0,60}"|'[^'<>]{0,60}'|[^\s<>]{1,60})"""
_BAR = "[|｜]"  # noqa: RUF001 - as models write
_ROLE = rf"<{_BAR}(?:im_start|start|start_header_id|turn){_BAR}>"
_NO_HEADER = r"(?!channel|constrain|message|im_start|start\b|start_header|turn)"
_CLOSING = rf"</{_NAME}\s*> | ◁/{_NAME}▷ | <unused95> | <channel\|> | <{_BAR}(?:/|end_?(?:of_?)?){_NAME}{_BAR}>"
_HEADER = r"(?:[^<]|<\|constrain\|>){0,80}"
_TOKEN = re.compile(
    rf"""
      (?P<close> {_CLOSING} | \[/{_SQUARE}\](?=[^:(\[]) )
    | (?P<open> <{_NAME}(?:{_ATTRIBUTE})*\s*> | ◁{_NAME}▷ | \[{_SQUARE}\](?=[^:(\[]) | <unused94> | <\|channel>
              | <{_BAR}(?!channel){_NAME}{_BAR}> )
    | <\|channel\|> (?P<channel> {_HEADER} ) <\|message\|>
    | (?P<end> <{_BAR}(?:im_end|end|eo[tsm](?:_id)?|return|call|end_?of_?text|end▁of▁sentence){_BAR}>
             | <(?:end_of_turn|eos)> )
    | (?P<control> {_ROLE}\w{{0,12}}(?=\W) | <{_BAR}{_NO_HEADER}[^\s<>|｜]{{1,40}}{_BAR}> | <(?:bos|pad)> )
    | (?P<wrapper> </?(?:final_?)?(?:answer|response|solution)> )
    """,  # noqa: RUF001 - as models write
    re.IGNORECASE | re.VERBOSE,
)
_BEGUN = re.compile(
    rf"""
    (?: </?[\w:.-]{{0,48}} | </{_NAME}\s{{0,3}} | (?:</s>\s*)+(?:</?s?)?
      | <{_NAME}\s[^<>]{{0,160}} | <{_BAR}[^\s<>|｜]{{0,40}}{_BAR}? | ◁/?[\w:.-]{{0,48}}
      | <channel\|? | \[/?[A-Za-z_]{{0,24}}\]? | {_ROLE}\w{{0,12}}
      | <\|channel\|>{_HEADER}(?:<\|?\w{{0,9}}\|?)? ) \Z
    """,  # noqa: RUF001 - as models write
    re.VERBOSE,
)
"""What may become a token when more of the reply arrives."""
_CUT_OFF = re.compile(rf"(?:{_ROLE}\w{{0,12}}|<\|channel\|>.{{0,99}}|(?:</s>\s*)+)\Z", re.DOTALL)
_CLOSE = re.compile(rf"{_CLOSING} | \[/[A-Z_]+\]", re.IGNORECASE | re.VERBOSE)
_CHANNEL_END = re.compile(r"<\|end\|>|<\|return\|>|(?=<\|channel\|>)")
_FENCE = re.compile(r"^[ >]*(?:```|~~~)", re.MULTILINE)
_LONGEST, _LIVE = 200, 2


@dataclass
class Habits:
    """What is known of a model from its replies in this graph."""

    is_own_server: bool = False
    """Whether a server of the caller's own runs it, which may send thoughts as they are."""
    closes_unopened: bool | None = None
    """Whether it closes thoughts that it did not open; None if nothing is known."""
    is_guess: bool = True

    def learn(self, *, closes_unopened: bool) -> None:
        """Learn from a whole reply that no schema has formed."""
        self.closes_unopened = closes_unopened or (bool(self.closes_unopened) and not self.is_guess)
        self.is_guess = False


class Hold:
    """Decides how long the beginning of a reply is held back, in case a tag closes thoughts that none opened.

    Of a model that is known to do so, until that tag arrives or the reply ends. Of a server of the caller's own of
    which nothing is known yet, as long as the chunks arrive in one burst, and for a quarter of a second at most: a
    reply that arrives at once is looked at as a whole, and a live one is shown as it is written. Of any other model,
    not at all.
    """

    def __init__(self, habits: Habits) -> None:
        self._habits, self._began, self._last, self._pauses = habits, 0.0, 0.0, 0

    def goes_on(self) -> bool:
        """Whether to hold back what arrived by now; asked at each chunk."""
        now = time.monotonic()
        self._began, self._last, gap = self._began or now, now, now - (self._last or now)
        self._pauses += gap >= PAUSE
        if self._habits.closes_unopened is None and self._habits.is_own_server:
            return self._pauses < _LIVE and now - self._began < HOLD
        return bool(self._habits.closes_unopened)


class ThoughtFilter:
    """Removes thoughts from a reply, in chunks of any size.

    Thoughts that are opened and never closed are not shown, and neither is what follows a token that ends the turn.
    Text that was returned already may turn out to be thoughts, when a tag closes what none opened: then `has_dropped`
    is set, and what is returned from there on is a new text.
    """

    def __init__(self) -> None:
        self.closes_unopened = False
        self.has_dropped = False
        self.is_known = False  # whether a token has told thoughts and text apart
        self._buffer, self._text, self._returned = "", "", 0
        self._close: re.Pattern[str] | None = None  # ends the thoughts that the buffer is in
        self._searched = 0  # characters of the buffer that have no such end
        self._literal = ""  # the opening tag in the middle of a line, which is text if nothing closes it
        self._has_ended = self._follows_thoughts = False

    def feed(self, chunk: str) -> str:
        """Add a chunk, and return the text that can be shown now."""
        self._buffer += chunk
        self._scan(whole=False)
        return self._new()

    def finish(self) -> str:
        """End the reply, and return the rest of its text."""
        self._scan(whole=True)
        return self._new()

    def _new(self) -> str:
        new, self._returned = self._text[self._returned :], len(self._text)
        return new

    def _scan(self, *, whole: bool) -> None:
        while self._skip_thoughts(whole=whole) and (token := self._token()):
            before, self._buffer = self._buffer[: token.start()], self._buffer[token.end() :]
            self._accept(before)
            self._apply(token)
        if whole:
            self._buffer = _CUT_OFF.sub("", self._buffer)
        if self._close is None:
            begun = None if whole else _BEGUN.search(self._buffer)
            end = begun.start() if begun else len(self._buffer)
            self._accept(self._buffer[:end])
            self._buffer = self._buffer[end:]

    def _accept(self, text: str) -> None:
        if self._follows_thoughts:
            text = text.lstrip() if self._text[-1:].isspace() else text
            self._follows_thoughts = not text
        if not self._has_ended:
            self._text += text

    def _skip_thoughts(self, *, whole: bool) -> bool:
        """Skip the thoughts that the buffer is in; returns whether they have ended."""
        if self._close is None:
            return True
        end = self._close.search(self._buffer, self._searched)
        if not end and not whole:
            self._searched = max(0, len(self._buffer) - _LONGEST)
            return False
        if not end and self._literal:
            self._accept(self._literal + self._buffer)
        self._buffer = self._buffer[end.end() :] if end else ""
        self._close, self._literal, self._searched = None, "", 0
        self._follows_thoughts = True
        return True

    def _token(self) -> re.Match[str] | None:
        """The next token of the buffer that is not quoted as code."""
        for token in _TOKEN.finditer(self._buffer):
            if token["wrapper"] and not self.is_known:  # only after thoughts, where models use it for the rest
                continue
            before = self._text + self._buffer[: token.start()]
            is_code = before.rpartition("\n")[2].count("`") % 2 or len(_FENCE.findall(before)) % 2
            if not is_code and not (token["open"] and before[-1:].isalnum()):
                return token
        return None

    def _apply(self, token: re.Match[str]) -> None:
        channel = (token["channel"] or "").strip()
        if token["close"] and self.is_known and self._text.strip():
            return  # one more than was opened, after the text
        if token["close"]:
            self.closes_unopened = self.closes_unopened or not self.is_known
            self._restart()
        elif channel.startswith("final"):
            self._restart()
        elif channel or token["open"]:
            self._close = _CHANNEL_END if channel else _CLOSE
            is_word = token["open"] and self._text.endswith(" ")
            self._literal = token[0] if is_word and self._text.rpartition("\n")[2].strip() else ""
            self.is_known = True
        elif token["end"]:
            self._has_ended = True

    def _restart(self) -> None:
        """What came before was no text of the answer."""
        self.has_dropped = self.has_dropped or self._returned > 0
        self._text, self._returned, self.is_known, self._has_ended = "", 0, True, False


def closes_unopened(text: str) -> bool:
    """Whether a whole text closes thoughts that it did not open."""
    thoughts = ThoughtFilter()
    thoughts.feed(text)
    return thoughts.closes_unopened


def strip_thoughts(text: str) -> str:
    """A whole text without thoughts; empty if they were cut off."""
    thoughts = ThoughtFilter()
    return thoughts.feed(text) + thoughts.finish()
