"""A text that is shown while it is still being written, and is never taken back."""

from collections.abc import Callable

THINKS, THOUGHT = "<think>", "</think>"
SEAM = 60
"""How many characters of a continuation are compared with the end of what it continues."""


class LiveText:
    """Turns a model's raw pieces into text that can be shown at once and will not change any more.

    White space around the text is left out, and so is an echo at its front. What was shown before a call failed stays:
    the text of the next attempt goes on from there.
    """

    def __init__(self, begun: str = "", front: Callable[[str, bool], int | None] | None = None) -> None:
        """Begin a text.

        Args:
            begun: What an earlier attempt has shown already.
            front: How many characters at the front are to be left out, told from the text so far and whether that is
                all of it; None while that cannot be told yet.
        """
        self.text = begun
        self._begun = begun
        self._front = front or (lambda _text, _whole: 0)
        self._thinks = True
        self._held = ""
        self._at_front = True
        self._compared: str | None = "" if begun else None

    def feed(self, piece: str) -> str:
        """Take a piece in, and give what can be shown now."""
        return self._show(self._past_front(self._held + piece, whole=False), whole=False)

    def finish(self) -> str:
        """Take the end in, and give what is still to be shown; `text` is then the whole text."""
        shown = self._show(self._past_front(self._held, whole=True), whole=True)
        self._held = ""
        return shown

    def _past_front(self, text: str, *, whole: bool) -> str:
        """Leave out the front; until that can be told from the text, hold everything back."""
        if self._thinks:
            thought = past_thinking(text, whole=whole)
            if thought is None:
                self._held = text
                return ""
            self._thinks, text = False, thought
        if self._at_front:
            bare = text.lstrip()
            front = self._front(bare, whole)
            rest = "" if front is None else bare[front:].lstrip()
            if not rest:
                self._held = text
                return ""
            self._at_front = False
            # Before a text that goes on, white space is the text's own.
            text = text[: len(text) - len(bare)] + rest if self._begun and not front else rest
        body = text.rstrip()
        self._held = text[len(body) :]  # it may be the end, where white space is left out
        return body

    def _show(self, new: str, *, whole: bool) -> str:
        """Give what is new to the reader."""
        if self._compared is not None:
            new = self._past_begun(new, whole=whole)
        self.text += new
        return new

    def _past_begun(self, new: str, *, whole: bool) -> str:
        """Of a later attempt's text, leave out what an earlier one has shown, where it says it again."""
        self._compared = (self._compared or "") + new
        again = self._compared.lstrip()
        shown = self._begun.casefold()
        if shown.startswith(again.casefold()) or (len(again) < SEAM and not whole):
            return ""
        if again.casefold().startswith(shown):
            rest = again[len(self._begun) :]
        elif overlap := _overlap(self._begun, again):
            rest = again[overlap:]
        else:
            # A continuation, as it was asked for. Models leave out the white space in front of it.
            needs_space = self._compared[0].isalnum() and not self._begun[-1].isspace()
            rest = f" {again}" if needs_space else self._compared
        self._compared = None
        return rest


def past_thinking(text: str, *, whole: bool) -> str | None:
    """What comes after the thoughts that some servers leave in front of a reasoning model's text.

    Returns:
        The text without them, which may be nothing; None while more of it is needed to tell.
    """
    bare = text.lstrip()
    if not bare.startswith(THINKS):
        return None if not whole and THINKS.startswith(bare) else text
    _, thought, rest = bare.partition(THOUGHT)
    return rest if thought else "" if whole else None


def _overlap(begun: str, again: str) -> int:
    """How many characters, two words at least, the end of one text and the beginning of the next have in common."""
    for length in range(min(len(begun), len(again), SEAM), 0, -1):
        common = again[:length]
        if begun.endswith(common) and len(common.split()) > 1 and begun[-length - 1 : -length].isspace():
            return length
    return 0
