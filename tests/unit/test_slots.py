"""Which request gets which slot, and what is computed, saved and restored for it; the server is a fake."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

import pytest
from langchain_core.exceptions import ContextOverflowError

from sot_graph import slots as slots_module
from sot_graph.slots import MAX_FILES, Slots

LONG = "The bees of this hive fly to the flowers in the morning. " * 20
Request = dict[str, Any]


class FakeServer:
    """Remembers what it was asked for, and answers with what the test says."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str | None]] = []
        self.replies: dict[str, tuple[int, dict[str, Any]]] = {"save": (200, {"n_written": 1000})}
        self.computes = threading.Event()
        self.computes.set()

    def __call__(self, _url: str, path: str, _key: str | None, body: Request) -> tuple[int, dict[str, Any]]:
        what = path.partition("action=")[2] or "compute"
        slot = str(body["id_slot"]) if what == "compute" else path.split("/")[2].partition("?")[0]
        self.log.append((f"{what} {slot}", body.get("filename")))
        if what == "compute":
            self.computes.wait(10)
        return self.replies.get(what, (200, {}))

    @property
    def steps(self) -> list[str]:
        return [step for step, _file in self.log]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer()
    monkeypatch.setattr(slots_module, "request_json", server)
    return server


def request(*texts: str) -> Request:
    return {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], "temperature": 0}


def take(slots: Slots, *texts: str) -> int | None:
    with slots.slot(request(*texts)) as slot:
        return slot


def test_what_points_share_is_computed_once_and_restored_into_the_other_slots(server: FakeServer) -> None:
    slots = Slots("http://fake", 3)
    with ExitStack() as held:
        taken = [held.enter_context(slots.slot(request(LONG, f"Point {n}"))) for n in range(3)]
    assert taken == [0, 1, 2]
    assert server.steps == ["compute 0", "save 0", "restore 1", "restore 2"]
    assert {file for _step, file in server.log if file} == {"sot-graph-0.bin"}


def test_a_request_gets_the_free_slot_that_has_most_of_it(server: FakeServer) -> None:
    slots = Slots("http://fake", 3)
    with slots.slot(request("a")), slots.slot(request(LONG)) as long:
        pass
    server.log.clear()
    assert take(slots, LONG, "more") == long
    assert server.steps == []
    assert take(slots, "something else") == 2, "the one that is free for longest"


@pytest.mark.parametrize("texts", [("Hello",), ("Hello", "there")])
def test_short_prompts_are_neither_computed_ahead_nor_saved(server: FakeServer, texts: tuple[str, ...]) -> None:
    take(Slots("http://fake", 2), *texts)
    assert server.steps == []


def test_only_what_goes_into_the_prompt_is_computed_ahead(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[Request] = []

    def answer(*arguments: Any) -> tuple[int, dict[str, Any]]:
        bodies.append(arguments[3])
        return server(*arguments)

    monkeypatch.setattr(slots_module, "request_json", answer)
    more = {"tools": [{"name": "t"}], "response_format": {"type": "json_object"}, "stream": True, "max_tokens": 50}
    with Slots("http://fake", 2).slot({**request(LONG), **more}):
        pass
    assert bodies[0] == {
        "model": "m",
        "messages": request(LONG)["messages"],
        "tools": [{"name": "t"}],
        "id_slot": 0,
        "cache_prompt": True,
        "max_tokens": 0,
    }


def test_a_request_waits_for_a_free_slot(server: FakeServer) -> None:
    slots = Slots("http://fake", 2)
    with ThreadPoolExecutor(1) as pool:
        with slots.slot(request("a")), slots.slot(request("b")) as second:
            third = pool.submit(take, slots, "c")
            assert not third.done()
            assert second == 1
        assert third.result(10) in {0, 1}
    assert server.steps == []


async def test_a_request_waits_without_blocking_the_event_loop_and_a_cancelled_one_leaves_no_slot_taken(
    server: FakeServer,
) -> None:
    slots = Slots("http://fake", 1)

    async def ask(text: str) -> int | None:
        async with slots.aslot(request(text)) as slot:
            await asyncio.sleep(0)
            return slot

    server.computes.clear()
    computing = asyncio.create_task(ask(LONG))
    waiting = [asyncio.create_task(ask("waits")) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in (computing, *waiting[:2]):
        task.cancel()
    ended = await asyncio.gather(computing, *waiting[:2], return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), "at once, though the server computes"
    server.computes.set()
    assert await asyncio.wait_for(waiting[2], 10) == 0
    assert await asyncio.wait_for(ask("next"), 10) == 0


def test_an_exception_in_the_call_frees_the_slot(server: FakeServer) -> None:
    slots = Slots("http://fake", 1)
    with pytest.raises(KeyError), slots.slot(request("a")):
        raise KeyError
    assert take(slots, "b") == 0
    assert server.steps == []


def test_a_prompt_that_is_too_long_says_what_to_do_and_frees_the_slot(server: FakeServer) -> None:
    error = {"type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}
    server.replies["compute"] = (400, {"error": error})
    slots = Slots("http://fake", 1)
    for _ in range(2):
        with pytest.raises(ContextOverflowError, match=r"5000 tokens.+holds 4096.+local_chat_model a larger context"):
            take(slots, LONG)
    assert take(slots, "short") == 0


@pytest.mark.parametrize("step", ["compute", "save", "restore"])
@pytest.mark.parametrize("reply", [None, OSError("gone")], ids=str)
def test_where_a_step_fails_the_request_is_sent_all_the_same(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, step: str, reply: OSError | None
) -> None:
    def answer(*arguments: Any) -> tuple[int, dict[str, Any]]:
        done = server(*arguments)
        if server.steps[-1].startswith(step):
            if reply:
                raise reply
            return HTTPStatus.INTERNAL_SERVER_ERROR, {}
        return done

    monkeypatch.setattr(slots_module, "request_json", answer)
    slots = Slots("http://fake", 2)
    for _ in range(2):
        with slots.slot(request(LONG, "1")) as first, slots.slot(request(LONG, "2")) as second:
            assert (first, second) in {(0, 1), (1, 0)}
        slots = Slots("http://fake", 2)


def test_a_file_that_cannot_be_restored_is_not_tried_again(server: FakeServer) -> None:
    server.replies["restore"] = (400, {})
    slots = Slots("http://fake", 3)
    with slots.slot(request(LONG)), slots.slot(request(LONG)):
        pass
    assert server.steps == ["compute 0", "save 0", "restore 1", "compute 1", "save 1"]


def test_a_server_that_does_not_save_slots_gets_plain_requests(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies["save"] = (HTTPStatus.NOT_IMPLEMENTED, {})
    slots = Slots("http://fake", 2)
    assert take(slots, LONG) == 0
    assert take(slots, LONG) is None
    assert "--slot-save-path" in caplog.text
    assert server.steps == ["compute 0", "save 0"]


def test_the_files_are_bounded_in_number(server: FakeServer) -> None:
    slots = Slots("http://fake", 2)
    for number in range(2 * MAX_FILES):
        take(slots, f"{number} {LONG}")
    files = [file for step, file in server.log if step.startswith("save")]
    assert len(files) == 2 * MAX_FILES
    assert len(set(files)) == MAX_FILES


def test_the_files_are_bounded_in_size_and_the_newest_one_stays(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(slots_module, "MAX_BYTES", 2500)
    slots = Slots("http://fake", 2, remove=removed.append)
    for number in range(3):
        take(slots, f"{number} {LONG}")
    assert removed == ["sot-graph-0.bin"]
    server.replies["save"] = (200, {"n_written": 9000})
    take(slots, f"big {LONG}")
    assert removed == ["sot-graph-0.bin", "sot-graph-1.bin", "sot-graph-2.bin"]


def test_what_was_not_written_is_not_restored(server: FakeServer) -> None:
    removed: list[str] = []
    server.replies["save"] = (200, {"n_written": 0})
    slots = Slots("http://fake", 2, remove=removed.append)
    with slots.slot(request(LONG)), slots.slot(request(LONG)):
        pass
    assert server.steps == ["compute 0", "save 0", "compute 1", "save 1"]
    assert removed == ["sot-graph-0.bin", "sot-graph-0.bin"]
