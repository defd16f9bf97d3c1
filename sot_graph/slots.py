"""The slots of a llama.cpp server: which request gets which, and how what requests share is computed once.

llama.cpp keeps in each slot what it computed for the slot's last request, and computes only what differs from it. It
does not look into other slots: of eight points over one conversation, seven would compute the conversation again. So
what a slot computed is saved to a file and restored into the other slots, which takes milliseconds.
"""

import asyncio
import json
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from langchain_core.exceptions import ContextOverflowError

logger = logging.getLogger(__name__)

MIN_GAIN = 200
"""Characters of a prompt, about 50 tokens. For less it is not worth it to restore a file, or to save one."""
MAX_FILES = 8
MAX_BYTES = 2**30
"""Of all files together; the newest one is kept in any case."""
OVERFLOW = "exceed_context_size_error"
_PROMPT_KEYS = ("model", "messages", "tools", "tool_choice", "chat_template_kwargs")
"""What of a request goes into the prompt; the rest steers the reply."""


class Slots:
    """The slots of one server, for the requests of this process."""

    def __init__(
        self, url: str, count: int, api_key: str | None = None, remove: Callable[[str], object] = lambda _name: None
    ) -> None:
        """Take over the slots of a server.

        Args:
            url: The server's, without a path.
            count: How many slots it has.
            api_key: Its key.
            remove: Deletes a file that the server saved, where this process can.
        """
        self.url, self.count, self._api_key, self._remove = url, count, api_key, remove
        self.can_save = True
        self._texts = dict.fromkeys(range(count), "")  # what each slot has computed
        self._free = list(range(count))  # the one that is free for longest comes first
        self._is_free = threading.Condition()
        self._files: dict[str, tuple[str, int]] = {}  # text and size by name, the least recently used one first
        self._requests: queue.SimpleQueue[tuple[dict[str, Any], Future[int | None]]] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._worker: threading.Thread | None = None

    @contextmanager
    def slot(self, request: Mapping[str, Any]) -> Iterator[int | None]:
        """Hold a slot that has computed the prompt of a request; None if the server's slots cannot be used.

        Args:
            request: The body of a chat completion.

        Raises:
            ContextOverflowError: The prompt is longer than a slot's context.
        """
        future = self._enqueue(request)
        try:
            yield future.result()
        finally:
            self._give_back(future)

    @asynccontextmanager
    async def aslot(self, request: Mapping[str, Any]) -> AsyncIterator[int | None]:
        """Hold a slot without blocking the event loop; see `slot`."""
        future = self._enqueue(request)
        try:
            yield await asyncio.wrap_future(future)
        finally:
            self._give_back(future)

    def _enqueue(self, request: Mapping[str, Any]) -> "Future[int | None]":
        future: Future[int | None] = Future()
        self._requests.put(({key: request[key] for key in _PROMPT_KEYS if request.get(key) is not None}, future))
        with self._start:
            if self._worker is None or not self._worker.is_alive():  # not alive: in a forked process
                # A daemon: a process that ends does not wait for it.
                self._worker = threading.Thread(target=self._work, name="sot_graph slots", daemon=True)
                self._worker.start()
        return future

    def _give_back(self, future: "Future[int | None]") -> None:
        """Free the slot of a request, or leave the queue; a slot that is being prepared is freed when it is ready."""

        def free(done: "Future[int | None]") -> None:
            if not done.cancelled() and not done.exception():
                self._release(done.result())

        future.cancel()
        future.add_done_callback(free)

    def _release(self, slot: int | None) -> None:
        if slot is not None:
            with self._is_free:
                self._free.append(slot)
                self._is_free.notify()

    def _work(self) -> None:
        """Prepare a slot for one request after the other, so that each finds what the one before it computed."""
        while True:
            request, future = self._requests.get()
            slot = None
            try:
                text = json.dumps([request.get("tools"), request["messages"]], ensure_ascii=False, default=str)
                slot = self._take_free(text) if self.can_save else None
                if not future.set_running_or_notify_cancel():
                    self._release(slot)
                    continue
                if slot is not None:
                    self._prepare(slot, request, text)
            except Exception as error:  # noqa: BLE001 - the request raises it
                self._release(slot)
                future.set_exception(error)
            else:
                future.set_result(slot)

    def _take_free(self, text: str) -> int:
        """Wait for a free slot, and take the one that has computed most of a text; else the least recently used one."""

        def gain(slot: int) -> int:
            common = _common(self._texts[slot], text)
            return common if common >= MIN_GAIN else 0  # all texts begin alike

        with self._is_free:
            self._is_free.wait_for(lambda: self._free)
            slot = max(self._free, key=gain)
            self._free.remove(slot)
        return slot

    def _prepare(self, slot: int, request: dict[str, Any], text: str) -> None:
        """Let a slot have computed a prompt, as far as it pays. If anything fails, the request itself computes it."""
        try:
            done = self._restore(slot, text)
            if len(text) - done > MIN_GAIN:
                self._compute(slot, request)
                self._save(slot, text)
        except (OSError, HTTPException, ValueError) as error:
            logger.info("Slot %d of %s is not prepared: %s", slot, self.url, error)
        self._texts[slot] = text

    def _restore(self, slot: int, text: str) -> int:
        """Restore the file that saves most work, if one does; returns how many characters the slot has then."""
        done = _common(self._texts[slot], text)
        name = max(self._files, key=lambda each: _common(self._files[each][0], text), default=None)
        if name is None or (saved := _common(self._files[name][0], text)) < done + MIN_GAIN:
            return done
        file = self._files.pop(name)
        status, _reply = self._post(f"/slots/{slot}?action=restore", {"filename": name})
        if status != HTTPStatus.OK:  # what the slot has now is not known
            self._texts[slot] = ""
            return 0
        self._files[name] = file  # the most recently used one
        return saved

    def _compute(self, slot: int, request: dict[str, Any]) -> None:
        body = {**request, "id_slot": slot, "cache_prompt": True, "max_tokens": 0}
        status, reply = self._post("/v1/chat/completions", body)
        if status == HTTPStatus.OK:
            return
        error = reply.get("error") or {}
        if error.get("type") == OVERFLOW:
            msg = (
                f"The request has {error.get('n_prompt_tokens')} tokens, and a slot of the local model holds "
                f"{error.get('n_ctx')}. Shorten the conversation, or give local_chat_model a larger context, up to "
                "what the model was trained for (with fewer slots it takes no more memory)."
            )
            raise ContextOverflowError(msg)
        msg = f"status {status}: {error.get('message')}"
        raise ValueError(msg)

    def _save(self, slot: int, text: str) -> None:
        """Save what a slot has computed, under a new name or that of the least recently used file."""
        unused = (name for name in map("sot-graph-{}.bin".format, range(MAX_FILES)) if name not in self._files)
        name = next(unused, None) or next(iter(self._files))
        self._files.pop(name, None)
        status, reply = self._post(f"/slots/{slot}?action=save", {"filename": name})
        if status == HTTPStatus.NOT_IMPLEMENTED:
            self.can_save = False
            logger.warning(
                "%s does not save slots, so each point computes what all share: start it with --slot-save-path FOLDER.",
                self.url,
            )
        elif status == HTTPStatus.OK and reply.get("n_written"):
            self._files[name] = (text, reply["n_written"])
            while len(self._files) > 1 and sum(size for _text, size in self._files.values()) > MAX_BYTES:
                oldest = next(iter(self._files))
                del self._files[oldest]
                self._remove(oldest)
        else:
            self._remove(name)

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        return request_json(self.url, path, self._api_key, body)


def request_json(
    url: str, path: str, api_key: str | None = None, body: Mapping[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """Send a request to a server, and return the status and the JSON object; `{}` for anything else.

    Raises:
        OSError: The server cannot be reached.
        HTTPException: It does not speak HTTP.
    """
    parts = urlsplit(url)
    connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", parts.path + path, data, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    try:
        reply = json.loads(content)
    except ValueError:
        reply = {}
    return response.status, reply if isinstance(reply, dict) else {}


def _common(first: str, second: str) -> int:
    """How many characters two texts have in common at their beginning."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low
