"""Keys and headers are in no stored text: a point's error, checkpoints, log lines. What is raised is not changed."""

import logging
from collections.abc import Callable
from typing import Any

import openai
import pytest
from langchain.chat_models import init_chat_model
from langchain_core.runnables import ConfigurableField
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, create_sot_graph
from tests.agents import Around
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, usual
from tests.integration.conftest import THREAD, Run

KEY = "sk-test-key"
OTHER_KEY = "sk-other-key-123"
HEADER = "header-secret-1"
QUESTION = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


def echoing(request: Request) -> Reply:
    """A server that refuses the second point, and repeats what it was sent, and a key of somebody else's."""
    if request.title != TITLES[1]:
        return usual(request)
    headers = [request.headers[name] for name in ("authorization", "x-auth") if name in request.headers]
    return Reply(status=401, message=f"Refused: {', '.join([*headers, OTHER_KEY])}.")


MODELS: dict[str, Callable[[FakeOpenAI], Any]] = {
    "default headers": lambda server: server.model(default_headers={"x-auth": HEADER}),
    "headers of a call": lambda server: server.model(model_kwargs={"extra_headers": {"x-auth": HEADER}}),
    "bind": lambda server: server.model().bind(extra_headers={"x-auth": HEADER}),
    "with_config": lambda server: server.model(default_headers={"x-auth": HEADER}).with_config(tags=["mine"]),
    "with_retry": lambda server: server.model(default_headers={"x-auth": HEADER}).with_retry(),
    "with_fallbacks": lambda server: server.model().with_fallbacks([server.model(default_headers={"x-auth": HEADER})]),
    "configurable_fields": lambda server: server.model(default_headers={"x-auth": HEADER}).configurable_fields(
        temperature=ConfigurableField("temperature")
    ),
}


@pytest.mark.parametrize("option", ["model", "expander"])
@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
async def test_a_points_error_has_no_key_and_no_header(
    server: FakeOpenAI, run: Run, made: Callable[[FakeOpenAI], Any], option: str
) -> None:
    server.script = echoing
    if option == "model":
        graph = create_sot_graph(made(server), on_error="keep")
    else:
        graph = create_sot_graph(server.model(), expander=made(server), on_error="keep")
    result = await run(graph, QUESTION)
    assert [point["status"] for point in result["points"]] == ["written", "failed", "written", "written"]
    error = result["points"][1]["error"]
    assert "Refused: Bearer ***, ***" in error
    for secret in (KEY, HEADER, OTHER_KEY):
        assert secret not in error


@pytest.mark.parametrize("on_error", ["raise", "keep"])
async def test_what_is_stored_and_logged_has_no_key_and_no_header(
    server: FakeOpenAI, run: Run, on_error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="sot_graph")
    refusing = echoing
    server.script = lambda request: (
        Reply(status=503, message=refusing(request).message) if request.title == TITLES[1] else usual(request)
    )
    saver = InMemorySaver()
    model = server.model(default_headers={"x-auth": HEADER})
    graph = create_sot_graph(model, on_error=on_error, checkpointer=saver, retry_policy=FAST)
    shown = ""
    try:
        shown = str((await run(graph, QUESTION, THREAD))["points"])
    except ExpansionError as error:
        shown = f"{error} {error.failed}"
    stored = str([state.values for state in graph.get_state_history(THREAD)]) + str(saver.blobs)
    assert len([request for request in server.requests if request.title == TITLES[1]]) == 3
    for text in (shown, stored, caplog.text):
        for secret in (KEY, HEADER, OTHER_KEY):
            assert secret not in text
    assert "Refused: Bearer ***, ***" in shown


@pytest.mark.parametrize("stage", ["skeleton", "direct"])
async def test_a_clients_error_arrives_as_the_client_raised_it(server: FakeOpenAI, run: Run, stage: str) -> None:
    """The very one, with the response and the body that the caller may need."""
    raised: list[Exception] = []

    class Noting(Around):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super()._generate(*args, **kwargs)
            except openai.APIStatusError as error:
                raised.append(error)
                raise

    message = f"Refused: {KEY}"
    server.script = lambda request: Reply(status=401, message=message) if request.stage == stage else usual(request)
    graph = create_sot_graph(Noting(inner=server.model(max_retries=0)), route=lambda _: stage == "skeleton")
    with pytest.raises(openai.AuthenticationError, match=message) as caught:
        await run(graph, QUESTION)
    assert caught.value is raised[0]
    assert isinstance(caught.value.body, dict)
    assert (caught.value.body["message"], caught.value.response.status_code) == (message, 401)


async def test_the_exceptions_of_points_are_a_cause_as_the_client_raised_them(server: FakeOpenAI, run: Run) -> None:
    server.script = echoing
    with pytest.raises(ExpansionError) as caught:
        await run(create_sot_graph(server.model()), QUESTION)
    assert KEY not in str(caught.value)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    (error,) = caught.value.__cause__.exceptions
    assert isinstance(error, openai.AuthenticationError)
    assert KEY in str(error), "what is raised is not changed"


async def test_an_exception_of_the_callers_own_arrives_as_it_was(server: FakeOpenAI, run: Run) -> None:
    error = KeyError("token=customer_2024_batch")

    def fail(_: Any) -> Any:
        raise error

    for option in ("route", "merge"):
        options: Any = {option: fail}
        with pytest.raises(KeyError) as caught:
            await run(create_sot_graph(server.model(), **options), QUESTION)
        assert caught.value is error
        assert error.args == ("token=customer_2024_batch",)


@pytest.mark.parametrize("made", [lambda model: model.invoke, lambda model: model.bind(stop=["---"])])
async def test_a_model_around_another_is_one_call_in_what_writes_points(
    server: FakeOpenAI, run: Run, made: Callable[[Any], Any]
) -> None:
    server.script = lambda request: usual(request) if request.stage == "skeleton" else Reply("A text of five words.")
    graph = create_sot_graph(server.model(), expander=made(Around(inner=server.model())))
    message = (await run(graph, QUESTION))["messages"][-1]
    assert (message.response_metadata["sot"]["calls"], len(server.requests)) == (5, 5)
    assert message.response_metadata["sot"]["stages"]["expand"]["usage"]["output_tokens"] == 4 * 5


async def test_a_key_of_the_runs_config_is_not_in_a_points_error(server: FakeOpenAI, run: Run) -> None:
    """The model, and its key, are known only when the run has chosen them."""
    key = "a key of the run"
    server.script = lambda request: (
        Reply(status=401, message=f"Refused: {key}.") if request.title == TITLES[1] else usual(request)
    )
    chosen = {"model": "fake", "model_provider": "openai", "base_url": server.url, "api_key": key}
    model = init_chat_model(configurable_fields=tuple(chosen))
    graph = create_sot_graph(model, on_error="keep")
    result = await run(graph, {"question": "What?"}, {"configurable": chosen})
    assert [point["status"] for point in result["points"]] == ["written", "failed", "written", "written"]
    assert "Refused: ***." in result["points"][1]["error"]


async def test_a_value_is_no_secret_because_of_its_name(
    server: FakeOpenAI, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment and the caller's metadata hold words such as key and pwd in names of things that are none."""
    monkeypatch.setenv("PWD", "/srv/reports")
    monkeypatch.setenv("OLDPWD", "/srv/archive")
    monkeypatch.setenv("KEYBOARD_LAYOUT", "colemak-dh")

    def fails(_messages: object) -> str:
        msg = "no file /srv/reports/a.txt or /srv/archive/b.txt for tenant_2024_batch, colemak-dh, created_at_desc"
        raise FileNotFoundError(msg)

    graph = create_sot_graph(server.model(), expander=fails, retry_policy=RetryPolicy(max_attempts=1))
    metadata = {"cache_key": "tenant_2024_batch", "sort_key": "created_at_desc"}
    with pytest.raises(ExpansionError) as raised:
        await run(graph, QUESTION, {"metadata": metadata, "configurable": metadata})
    assert "***" not in str(raised.value)
    assert "/srv/reports/a.txt" in str(raised.value.failed[0]["error"])
