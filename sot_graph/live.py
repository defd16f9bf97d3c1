"""A text that is shown while it is still being written, and is never taken back."""

from collections.abc import Callable


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
        self._held = ""
        self._at_front = True
        self._compared: str | None = "" if begun else None

    def feed(self, piece: str) -> str:
        """Take a piece in, and give what can be shown now."""
        return self._show(self._past_front(self._held + piece, whole=False))

    def finish(self) -> str:
        """Take the end in, and give what is still to be shown; `text` is then the whole text."""
        shown = self._show(self._past_front(self._held, whole=True))
        self._held = ""
        return shown

    def _past_front(self, text: str, *, whole: bool) -> str:
        """Leave out the front; until that can be told from the text, hold everything back."""
        if self._at_front:
            text = text.lstrip()
            front = self._front(text, whole)
            rest = "" if front is None else text[front:].lstrip()
            if not rest:
                self._held = text
                return ""
            self._at_front = False
            text = rest
        body = text.rstrip()
        self._held = text[len(body) :]  # it may be the end, where white space is left out
        return body

    def _show(self, new: str) -> str:
        """Give what is new to the reader."""
        if self._compared is not None:
            new = self._past_begun(new)
        self.text += new
        return new

    def _past_begun(self, new: str) -> str:
        """Of a later attempt's text, leave out what an earlier one has shown, where it says it again."""
        self._compared = (self._compared or "") + new
        if self._begun.startswith(self._compared):
            return ""
        again, self._compared = self._compared, None
        if again.startswith(self._begun):
            return again[len(self._begun) :]
        # A continuation, as it was asked for.
        return again if self._begun[-1].isspace() else f" {again}"
