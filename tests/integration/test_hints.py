"""An error of a model call says which model and which host it was for, and what is likely, without any secret."""

import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_aws import ChatBedrockConverse
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableLambda
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_groq import ChatGroq
from langchain_mistralai import ChatMistralAI
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from langgraph.types import RetryPolicy
from pydantic import SecretStr

from sot_graph import DemoChatModel, ExpansionError, create_sot_graph, create_sot_tool
from sot_graph.hints import add_hint
from sot_graph.redaction import ERROR_LIMIT, NOTE, describe, note_of
from tests.clients import CLIENTS, KEY, Client
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, usual
from tests.integration.conftest import Run
from tests.processes import run as command
from tests.script_server import ScriptServer, response

QUESTION = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)
NOBODY = "http://127.0.0.1:9"
"""A port that nobody listens on."""
UP = "Is the server up, and is the address right?"


def notes_of(error: BaseException) -> list[str]:
    """Ours; LangGraph adds one that names the task."""
    return [note for note in getattr(error, "__notes__", []) if note.startswith(NOTE)]


def refusing(stage: str, status: int = 404, message: str = "no such model") -> Script:
    def script(request: Request) -> Reply:
        return Reply(status=status, message=message) if request.stage == stage else usual(request)

    return script


# --- all clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
async def test_a_server_that_is_not_up_is_named(client: Client, run: Run) -> None:
    with pytest.raises(Exception, match=r"(?i)connect") as caught:
        await run(create_sot_graph(client.make(NOBODY), retry_policy=FAST), QUESTION)
    (note,) = notes_of(caught.value)  # one, after three attempts
    assert re.fullmatch(rf"{NOTE}model '(amazon\.)?m' at {NOBODY}(/v1)?\. {re.escape(UP)}", note)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
async def test_a_model_that_is_not_served_is_named(client: Client, http_server: ScriptServer, run: Run) -> None:
    http_server.script = lambda _: response({"error": {"message": "not found"}}, 404)
    with pytest.raises(Exception, match=r"(?i)404|not found") as caught:
        await run(create_sot_graph(client.make(http_server.url), retry_policy=FAST), QUESTION)
    (note,) = notes_of(caught.value)
    assert re.match(rf"{NOTE}model '(amazon\.)?m' at {http_server.url}", note)
    assert note.endswith("Probably the path of the base URL is wrong, or the model is not served there.")


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
async def test_a_key_of_another_provider_is_likely(client: Client, http_server: ScriptServer, run: Run) -> None:
    http_server.script = lambda _: response({"error": {"message": "who are you?"}}, 401)
    with pytest.raises(Exception, match=r".") as caught:
        await run(create_sot_graph(client.make(http_server.url), retry_policy=FAST), QUESTION)
    (note,) = notes_of(caught.value)
    assert note.endswith("Probably the key is missing, or is one for another provider.")
    assert KEY.get_secret_value() not in note


MODEL: dict[str, Any] = {"model": "m", "api_key": KEY}
DEFAULTS: dict[str, tuple[Callable[[], BaseChatModel], str]] = {
    "openai": (lambda: ChatOpenAI(model="m", api_key=KEY), "model 'm' at https://api.openai.com/v1."),
    "anthropic": (
        lambda: ChatAnthropic(**MODEL),
        "model 'm' at https://api.anthropic.com.",
    ),
    "ollama": (lambda: ChatOllama(model="m"), "model 'm' at http://127.0.0.1:11434."),
    "groq": (lambda: ChatGroq(**MODEL), "model 'm' at https://api.groq.com."),
    "mistral": (lambda: ChatMistralAI(model_name="m", api_key=KEY), "model 'm' at https://api.mistral.ai/v1."),
    "gemini": (
        lambda: ChatGoogleGenerativeAI(model="m", google_api_key=KEY),
        "model 'm' of ChatGoogleGenerativeAI.",
    ),
    "bedrock": (
        lambda: ChatBedrockConverse(
            model_id="m", provider="amazon", region_name="eu-west-1", aws_access_key_id=KEY, aws_secret_access_key=KEY
        ),
        "model 'm' at https://bedrock-runtime.eu-west-1.amazonaws.com.",
    ),
}


@pytest.mark.parametrize(("made", "says"), DEFAULTS.values(), ids=DEFAULTS)
def test_the_host_that_a_client_takes_by_itself_is_named(
    made: Callable[[], BaseChatModel], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OLLAMA_HOST", "GROQ_API_BASE", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    error = ValueError("hm")
    add_hint(error, made(), ())
    assert notes_of(error) == [f"{NOTE}{says}"]


# --- what is likely ------------------------------------------------------------------------------


async def test_a_base_url_without_v1_is_likely(server: FakeOpenAI, run: Run) -> None:
    url = server.url.removesuffix("/v1")
    graph = create_sot_graph(ChatOpenAI(model="m", base_url=url, api_key=KEY), retry_policy=FAST)
    with pytest.raises(Exception, match=r"(?i)404|not found") as caught:
        await run(graph, QUESTION)
    likely = "Probably the base URL lacks /v1 at its end, or the model is not served there."
    assert notes_of(caught.value) == [f"{NOTE}model 'm' at {url}. {likely}"]


@pytest.mark.parametrize("url", ["127.0.0.1:9/v1", "localhost:9/v1"])
async def test_a_base_url_without_http_is_told(run: Run, url: str) -> None:
    graph = create_sot_graph(ChatOpenAI(model="m", base_url=url, api_key=KEY), retry_policy=FAST)
    with pytest.raises(Exception, match="Connection error") as caught:
        await run(graph, QUESTION)
    assert notes_of(caught.value) == [f"{NOTE}model 'm' at {url}. The base URL lacks http:// or https:// in front."]


# --- each stage ----------------------------------------------------------------------------------


async def test_the_direct_answers_error_is_named(server: FakeOpenAI, run: Run) -> None:
    server.script = refusing("direct")
    with pytest.raises(Exception, match="no such model") as caught:
        await run(create_sot_graph(server.model(), route=lambda _: False), QUESTION)
    (note,) = notes_of(caught.value)
    assert f"model 'fake' at {server.url}." in note


async def test_a_points_error_is_named_and_said_once(server: FakeOpenAI, run: Run) -> None:
    server.script = refusing("expand")
    with pytest.raises(ExpansionError) as caught:
        await run(create_sot_graph(server.model()), QUESTION)
    message = str(caught.value)
    assert message.count(f"{NOTE}model 'fake' at {server.url}.") == 1
    assert re.match(rf"4 of 4 points could not be written: 1 \('{TITLES[0]}'\), 2 .*'{TITLES[3]}'\): .*Error", message)
    group: Any = caught.value.__cause__
    assert [len(notes_of(error)) for error in group.exceptions] == [1, 1, 1, 1]
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


async def test_a_kept_points_error_is_named(server: FakeOpenAI, run: Run) -> None:
    usually = refusing("expand")
    server.script = lambda request: usually(request) if request.title == TITLES[1] else usual(request)
    result = await run(create_sot_graph(server.model(), on_error="keep"), QUESTION)
    assert f"{NOTE}model 'fake' at {server.url}. Probably" in result["points"][1]["error"]
    assert NOTE not in result["answer"]


async def test_the_log_line_of_the_opening_names_it(
    server: FakeOpenAI, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = refusing("direct")  # as which the server takes the opening's request
    await run(create_sot_graph(server.model(), lead=True), QUESTION)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(rf"The opening failed: .*{NOTE}model 'fake' at {server.url}\.", line)


async def test_an_agent_is_told_too(server: FakeOpenAI, run: Run) -> None:
    server.script = refusing("expand")
    tool = create_sot_tool(create_sot_graph(server.model()))
    call: Any = {"name": tool.name, "args": QUESTION, "id": "1", "type": "tool_call"}
    message: Any = await run(tool, call)
    assert message.status == "error"
    assert message.content.count(NOTE) == 1


# --- models inside others ------------------------------------------------------------------------


async def test_the_model_in_a_binding_a_chain_and_fallbacks_is_named(server: FakeOpenAI, run: Run) -> None:
    server.script = refusing("expand")
    other = ChatOpenAI(model="other", base_url=f"{NOBODY}/v1", api_key=KEY)
    expanders: dict[str, Any] = {
        f"model 'bound' at {server.url}.": server.model().bind(model="bound"),
        f"model 'fake' at {server.url}.": RunnableLambda(lambda messages: messages) | server.model(),
        f"model 'fake' at {server.url} or model 'other' at {NOBODY}/v1.": server.model().with_fallbacks([other]),
    }
    for says, expander in expanders.items():
        graph = create_sot_graph(server.model(), expander=expander, retry_policy=FAST)
        with pytest.raises(ExpansionError, match=re.escape(f"{NOTE}{says}")):
            await run(graph, QUESTION)


async def test_what_is_no_model_has_no_note(server: FakeOpenAI, run: Run) -> None:
    def fail(_given: object) -> Any:
        msg = "my own"
        raise OutputParserException(msg)

    cases: list[Any] = [{"route": fail}, {"merge": fail}]
    for options in cases:
        with pytest.raises(OutputParserException) as caught:
            await run(create_sot_graph(server.model(), **options), QUESTION)
        assert notes_of(caught.value) == []
    error = ValueError("hm")
    add_hint(error, DemoChatModel(), ())
    assert notes_of(error) == []


# --- what a note must not do ---------------------------------------------------------------------

URLS = {
    "http://me:pass-word1@127.0.0.1:9/v1": "http://127.0.0.1:9/v1",
    "me:pass-word1@127.0.0.1:9/v1": "127.0.0.1:9/v1",
    "http://127.0.0.1:9/v1?api-key=pass-word1": "http://127.0.0.1:9/v1",
    "http://127.0.0.1:9/v1/#pass-word1": "http://127.0.0.1:9/v1",
    "http://127.0.0.1:9/sk-test-key/v1": "http://127.0.0.1:9/***/v1",
    "http://127.0.0.1:9/header-secret-1/v1/": "http://127.0.0.1:9/***/v1",
}


@pytest.mark.parametrize(("url", "shown"), URLS.items(), ids=URLS)
async def test_no_secret_is_in_a_note(run: Run, url: str, shown: str) -> None:
    model = ChatOpenAI(
        model="m", base_url=url, api_key=SecretStr("sk-test-key"), default_headers={"x-auth": "header-secret-1"}
    )
    with pytest.raises(Exception, match=r".") as caught:
        await run(create_sot_graph(model, retry_policy=FAST), QUESTION)
    (note,) = notes_of(caught.value)
    assert note.startswith(f"{NOTE}model 'm' at {shown}. ")


def test_a_password_with_any_characters_is_in_no_note(server: FakeOpenAI) -> None:
    model = server.model().model_copy(update={"openai_api_base": "http://me:p/w?1#@host/v1"})
    error = ValueError("hm")
    add_hint(error, model, ())
    assert notes_of(error) == [f"{NOTE}model 'fake' at http://host/v1."]


async def test_an_error_that_is_raised_again_has_one_note(server: FakeOpenAI) -> None:
    error = httpx.ConnectError("no")
    before = hash(error)
    for _ in range(3):
        add_hint(error, server.model(), ())
    assert len(notes_of(error)) == 1
    assert (error, hash(error)) == (error, before)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), note_of(copy)) == ("no", note_of(error))


def test_a_long_error_keeps_its_note(server: FakeOpenAI) -> None:
    error = ValueError("x" * 10_000)
    error.add_note("During task with name 'expand'")  # LangGraph's
    add_hint(error, server.model(), ())
    described = describe(error)
    assert len(described) == ERROR_LIMIT
    assert described.endswith(f"xxx {note_of(error)}")
    assert "During task" not in described


# --- the command line ----------------------------------------------------------------------------


def test_the_command_line_says_it_in_one_line(server: FakeOpenAI) -> None:
    arguments = ("ask", "How can I sleep better?", "--model", "m", "--base-url")
    done = command(*arguments, server.url.removesuffix("/v1"))
    *_, line = done.stderr.splitlines()
    assert done.returncode == 1
    assert re.search("404|Not Found", line)
    assert line.endswith("Probably the base URL lacks /v1 at its end, or the model is not served there.")
    *_, line = command(*arguments, "127.0.0.1:9/v1").stderr.splitlines()
    assert line.endswith(
        "Connection error. The call was for model 'm' at 127.0.0.1:9/v1. The base URL lacks http:// "
        "or https:// in front."
    )
