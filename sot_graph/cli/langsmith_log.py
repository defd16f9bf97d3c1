"""What LangSmith's client logs, kept off the terminal, and its last traces sent before the process ends."""

import logging
import os
import re
import sys
import threading
from contextlib import suppress

COMPLAINT = re.compile(
    r"(?P<lost>Failed to (?:batch|multipart|send)|Dropped|\w+ tracing error)|Failed to get info", re.IGNORECASE
)
"""How a log line starts that reports lost runs (group `lost`) or a server that cannot be reached."""
SECRET_VARIABLES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
TRACERS = "langchain_core.tracers.langchain"
"""The module that sends traces."""
SHORTEST_SECRET = 16
"""A shorter value in the environment may be a plain word, as in `PGPASSWORD=postgres`."""


class ClientLog(logging.Handler):
    """Collects the log of LangSmith's client, which would otherwise appear in the middle of an answer.

    Attributes:
        complaint: The first line of the client's last complaint, with keys redacted; "" without one.
        has_lost: Whether the client lost runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.complaint = ""
        self.has_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one log record."""
        with suppress(TypeError, ValueError):  # its arguments do not match its format string
            self._read(record.getMessage().partition("\n")[0])

    def _read(self, line: str) -> None:
        if found := COMPLAINT.match(line):
            from sot_graph.redaction import redact  # noqa: PLC0415 - slow, and the help does not need it

            self.complaint = redact(line, _secrets_in_environment())
            self.has_lost = self.has_lost or found["lost"] is not None


def _secrets_in_environment() -> list[str]:
    """The keys in the environment variables, the longest first: one may contain another."""
    values = {value for name, value in os.environ.items() if name.upper().endswith(SECRET_VARIABLES)}
    return sorted((value for value in values if len(value) >= SHORTEST_SECRET), key=len, reverse=True)


def capture_client_log() -> ClientLog:
    """Send the log of LangSmith's client to a `ClientLog` and nowhere else, for the whole process."""
    log, logger = ClientLog(), logging.getLogger("langsmith")
    logger.addHandler(log)
    logger.propagate = False
    return log


def flush_traces(seconds: float) -> bool:
    """Wait until all traces are sent to LangSmith.

    Args:
        seconds: How long to wait at most.

    Returns:
        Whether all traces are sent.
    """
    if TRACERS not in sys.modules:  # no model was called
        return True
    from langchain_core.tracers.langchain import wait_for_all_tracers  # noqa: PLC0415 - slow, unless it is there

    # In a thread, because the client's own flush never returns if the server does not answer.
    sender = threading.Thread(target=wait_for_all_tracers, daemon=True)
    sender.start()
    sender.join(seconds)
    return not sender.is_alive()
