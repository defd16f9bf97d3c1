"""Marks for prefix caches in the requests that servers get."""

from typing import Any

import pytest

from sot_graph import create_sot_graph
from sot_graph.prompts import CLOSE, LEAD, PLAIN_FORM
from tests.clients import CLIENTS
from tests.script_server import HttpRequest, Part, ScriptServer

LONG = [("user", "Bees steer by the sun. " * 500), ("ai", "I see."), ("user", "How can I sleep better?")]
SHORT = LONG[-1:]
MARK = "cache_control"
CLIENT = CLIENTS["anthropic"]


@pytest.fixture
def server(http_server: ScriptServer) -> ScriptServer:
    def script(request: HttpRequest) -> Any:
        told = str(request.body["messages"][-1])
        text = "1. Light\n2. Noise\n3. Heat" if PLAIN_FORM in told else "About this there is something to say."
        parts: list[Part] = list(CLIENT.reply(request, text))
        return parts

    http_server.script = script
    return http_server


def ask(server: ScriptServer, conversation: list[tuple[str, str]], **options: Any) -> list[Any]:
    given: Any = {"messages": conversation}
    create_sot_graph(CLIENT.make(server.url), **options).invoke(given)
    return [request.body for request in server.requests]


def marked(body: Any) -> list[int]:
    """Which messages of a request have a mark, from the last one."""
    count = len(body["messages"])
    return [place - count for place, message in enumerate(body["messages"]) if MARK in str(message)]


def test_a_long_conversation_is_marked_in_all_calls_and_has_a_plain_outline(server: ScriptServer) -> None:
    outline, *points = ask(server, LONG)
    assert "tools" not in outline
    assert len(points) == 3
    assert [marked(body) for body in (outline, *points)] == [[-3]] * 4
    assert len({str(body["messages"][:-2]) for body in (outline, *points)}) == 1


def test_a_short_conversation_is_not_marked(server: ScriptServer) -> None:
    outline, *others = ask(server, SHORT)
    assert "tools" in outline
    assert not any(marked(body) for body in (outline, *others))


def test_with_an_opening_its_call_is_marked_and_the_outline_has_its_schema(server: ScriptServer) -> None:
    bodies = ask(server, LONG, lead=True)
    (outline,) = [body for body in bodies if "tools" in body]
    assert not marked(outline)
    (opening,) = [body for body in bodies if LEAD in str(body)]
    assert marked(opening) == [-3]
    assert all(marked(body) for body in bodies if PLAIN_FORM not in str(body) and "tools" not in body)


def test_an_ending_is_marked_as_the_points_are(server: ScriptServer) -> None:
    *others, ending = ask(server, LONG, closing=True)
    assert CLOSE in str(ending["messages"][-1])
    assert [marked(body) for body in (*others, ending)] == [[-3]] * 5
    assert len({str(body["messages"][:-2]) for body in (*others, ending)}) == 1


def test_the_points_are_not_marked_if_no_call_was_there_before_them(server: ScriptServer) -> None:
    given: Any = {"messages": LONG, "outline": ["Light", "Noise"]}
    create_sot_graph(CLIENT.make(server.url)).invoke(given)
    assert [marked(request.body) for request in server.requests] == [[], []]


def test_another_model_for_the_outline_warms_nothing(server: ScriptServer) -> None:
    bodies = ask(server, LONG, skeleton_model=CLIENT.make(server.url))
    assert "tools" in bodies[0]
    assert not any(map(marked, bodies))
