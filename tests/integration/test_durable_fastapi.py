"""examples/durable_fastapi.py with real workers and a real Postgres: one that is killed has its answer continued."""

import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from threading import Thread
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from tests.fake_openai import TITLES, FakeOpenAI, Host, Reply, Request, usual
from tests.processes import wait_until
from tests.servers import fake_model, uvicorn_workers

QUESTION = {"question": "How can I sleep better?"}
TEXTS = {title: " ".join(f"{title[0]}{number}" for number in range(40)) for title in TITLES}


def script(request: Request) -> Reply:
    """A model that writes another text each time that it is asked for a point."""
    return Reply(text_of(request.title, request.attempt)) if request.title else usual(request)


def text_of(title: str, attempt: int = 1) -> str:
    return TEXTS[title] if attempt == 1 else f"Once more ({attempt}): {TEXTS[title]}"


def answer(*attempts: int) -> str:
    return "\n\n".join(map(text_of, TITLES, attempts or (1,) * 4))


@pytest.fixture(scope="module")
def own_database(database: str) -> str:
    """A database of this module's: other tests empty the one that there is."""
    import psycopg  # noqa: PLC0415 - it finds its library in what the server's package brings

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE DATABASE durable")
    return database.replace("/postgres?", "/durable?")


@pytest.fixture(scope="module")
def url(host: Host, own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("workers")
    with uvicorn_workers(
        "durable_fastapi:app", folder, environment={"DATABASE": own_database, **fake_model(host.url)}
    ) as served:
        yield served.url


@pytest.fixture
def stored(own_database: str) -> Iterator[Callable[[str], int]]:
    """How many points of a thread's unfinished answer are stored."""
    import psycopg  # noqa: PLC0415 - it finds its library in what the server's package brings

    query = """
        SELECT count(*) FROM checkpoint_writes WHERE thread_id = %s AND channel = 'points'
        AND checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = checkpoint_writes.thread_id)
    """
    with psycopg.connect(own_database, autocommit=True) as connection:
        yield lambda thread: (connection.execute(query, [thread]).fetchone() or (0,))[0]


class Event(NamedTuple):
    name: str
    data: dict[str, Any]
    id: str
    worker: int


class Reader:
    """What a client does: it puts the text together, and notes the last id."""

    def __init__(self, url: str, thread: str) -> None:
        self.url, self.thread = f"{url}/threads/{thread}", thread
        self.text = self.last_id = ""
        self.seen: list[str] = []
        """The names of the events, without repetitions."""

    def events(self) -> Generator[Event]:
        """Connect, and take in what comes, until the stream ends or breaks."""
        told = {"Last-Event-ID": self.last_id} if self.last_id else {}
        with httpx.stream("GET", self.url, headers=told, timeout=60) as reply:
            reply.raise_for_status()
            worker = int(reply.headers["x-worker"])
            event: dict[str, str] = {}
            for line in reply.iter_lines():
                name, _, value = line.partition(": ")
                event |= {name: value} if name else {}
                if not line and "event" in event:
                    yield self._take(Event(event["event"], json.loads(event["data"]), event.get("id", ""), worker))
                    event = {}

    def _take(self, event: Event) -> Event:
        if event.name == "restart":
            self.text = ""
        self.text += event.data.get("text", "")
        self.last_id = event.id or self.last_id
        self.seen += [] if self.seen[-1:] == [event.name] else [event.name]
        return event

    def copy(self) -> "Reader":
        """Another reader who has the same."""
        other = Reader(self.url.partition("/threads/")[0], self.thread)
        other.text, other.last_id = self.text, self.last_id
        return other

    def rest(self) -> list[Event]:
        return list(self.events())


@pytest.fixture
def reader(server: FakeOpenAI, url: str) -> Reader:
    """A reader of a new thread in which a question is asked."""
    server.script = script
    reader = Reader(url, uuid4().hex)
    assert httpx.post(reader.url, params=QUESTION).status_code == 202
    return reader


def test_a_killed_workers_answer_is_continued_by_another_and_no_stored_point_is_asked_for_again(
    server: FakeOpenAI, reader: Reader, stored: Callable[[str], int]
) -> None:
    """The reader has the beginning of a text that no process has; it gets another one in its place."""
    slow = {TITLES[1]: 0.1, TITLES[3]: 10.0}
    server.script = lambda request: (
        Reply(script(request).text, per_token=slow.get(request.title, 0)) if request.attempt == 1 else script(request)
    )
    events = reader.events()
    while len(reader.text) < len(f"{TEXTS[TITLES[0]]}\n\n") + 10:
        first = next(events)
    wait_until(lambda: stored(reader.thread) == 2)
    assert server.in_flight == 2
    os.kill(first.worker, signal.SIGKILL)
    with pytest.raises(httpx.TransportError):
        list(events)
    wait_until(lambda: server.in_flight == 0)
    left = reader.copy()
    assert TEXTS[TITLES[1]].startswith(reader.text.split("\n\n")[1])

    rest = reader.rest()
    assert {event.worker for event in rest}.isdisjoint({first.worker})
    assert reader.seen == ["chunk", "restart", "chunk", "end"]
    assert rest[0].data["text"] == TEXTS[TITLES[0]], "what is stored stays"
    assert reader.text == answer(1, 2, 1, 2)
    assert sorted(server.titles()) == sorted([*TITLES, TITLES[1], TITLES[3]])
    assert len(server.of_stage("skeleton")) == 1

    assert [event.name for event in left.rest()] == ["restart", "end"]
    assert left.text == reader.text, "who comes back when the answer is whole gets it, too"


def test_a_reader_that_leaves_ends_the_calls_and_continues_where_he_left(
    server: FakeOpenAI, reader: Reader, stored: Callable[[str], int]
) -> None:
    server.script = lambda request: (
        Reply("Late.", first_token=60) if request.title == TITLES[1] and request.attempt == 1 else script(request)
    )
    events = reader.events()
    while reader.text != TEXTS[TITLES[0]]:
        next(events)
    wait_until(lambda: stored(reader.thread) == 3)
    events.close()
    wait_until(lambda: server.in_flight == 0)
    reader.rest()
    assert reader.seen == ["chunk", "end"], "nothing is taken back"
    assert reader.text == answer(1, 2, 1, 1)
    assert server.titles()[4:] == [TITLES[1]]


def test_two_readers_of_a_thread_have_it_answered_once(server: FakeOpenAI, reader: Reader) -> None:
    server.script = lambda request: Reply(script(request).text, per_token=0.01 if request.title else 0)
    others = [reader.copy() for _ in range(4)]
    threads = [Thread(target=each.rest) for each in (reader, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.text for each in (reader, *others)] == [answer()] * 5
    assert len(server.requests) == 1 + len(TITLES)


def test_a_thread_has_many_questions_one_after_the_other(server: FakeOpenAI, reader: Reader) -> None:
    assert httpx.post(reader.url, params=QUESTION).status_code == 409, "the first one is not answered yet"
    assert server.requests == [], "a question is stored, and asked when there is a reader"
    again = reader.copy()
    reader.rest()
    assert reader.text == answer()
    again.rest()
    assert (again.text, again.seen) == (reader.text, ["chunk", "end"])
    assert len(server.requests) == 1 + len(TITLES)

    assert httpx.post(reader.url, params={"question": "And in summer?"}).status_code == 202
    reader.rest()
    assert reader.seen == ["chunk", "end", "restart", "chunk", "end"], "the id was of the first answer"
    assert reader.text == answer(2, 2, 2, 2)
    assert answer() in server.of_stage("skeleton")[-1].prompt


def test_a_failure_is_an_event_and_can_be_read_past(server: FakeOpenAI, reader: Reader) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else script(request)
    assert [event.data for event in reader.rest() if event.name == "failed"] == [{"error": "ExpansionError"}]
    server.script = script
    reader.rest()
    assert reader.seen == ["chunk", "failed", "restart", "chunk", "end"], "the points after it were shown already"
    assert reader.text == answer(1, 2, 1, 1)
    assert server.titles()[4:] == [TITLES[1]]


def test_what_is_no_question_no_thread_or_no_id_is_refused(url: str) -> None:
    new = f"{url}/threads/{uuid4().hex}"
    assert httpx.post(new, params={"question": " "}).status_code == 422
    assert httpx.get(new).status_code == 404
    assert httpx.get(f"{new}%00").status_code == 422
    assert httpx.get(new, headers={"Last-Event-ID": "12"}).status_code == 422
