"""Keys in errors, and text that can be sent and stored."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables import RunnableLambda
from pydantic import Field, SecretStr

from sot_graph import DemoChatModel, create_sot_graph
from sot_graph.keys import is_secret, secrets_of
from sot_graph.safety import Hider, encodable, hide, hide_in, storable


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Incorrect API key provided: sk-proj-abc_123-x.", "Incorrect API key provided: ***."),
        ("Authorization: Bearer abc.DEF-1_2=, x", "Authorization: Bearer ***, x"),
        ("{'authorization': 'Basic dXNlcjpwYXNz1'}", "{'authorization': 'Basic ***'}"),
        ("at https://user:pass@host.example/v1", "at https://***@host.example/v1"),
        ("a basic answer, the bearer of news, task-force, risk-averse, the sk-learning module", None),
        ("Missing bearer or basic authentication in header", None),
        ("Bearer token is invalid or expired, basic requirements were not met", None),
        ("https://host.example/v1?a@b", None),
        ("GET /v1?key=AIzaSyD-0123456789abcdefghij", "GET /v1?key=***"),
        ("no such key: gsk_abc123def456", "no such key: ***"),
        ("api-key: 0123456789abcdef", "api-key: ***"),
        ("{'api_key': 'abcdefghij12'}", "{'api_key': '***'}"),
        ("KeyError: 'title1', max_tokens=40960000, a monkey: bananas123456, token: none, sort key: user_id_2", None),
    ],
)
def test_keys_are_told_by_their_form(text: str, hidden: str | None) -> None:
    shown = hide(text)
    assert shown == (text if hidden is None else hidden)


class Keyed(DemoChatModel):
    api_key: SecretStr = SecretStr("a-very-own-key")
    default_headers: dict[str, str] = Field(
        default={"X-Team": "team-secret", "X-Short": "abc", "Accept": "application/json"}
    )
    inner: Any = None


@pytest.fixture(autouse=True)
def _no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})


def test_a_models_keys_and_headers_are_known() -> None:
    assert secrets_of(Keyed()) == ["a-very-own-key", "team-secret"]
    assert secrets_of(Keyed(inner=Keyed(api_key=SecretStr("another-key"), default_headers={}))) == [
        "a-very-own-key",
        "another-key",
        "team-secret",
    ]
    assert secrets_of(DemoChatModel(), None, "openai:gpt-5.5") == []


@dataclass
class Writer:
    model: Any

    def write(self, messages: Any) -> Any:
        return self.model.invoke(messages)


@pytest.mark.parametrize(
    "made",
    [
        lambda model: RunnableLambda(model.invoke),
        lambda model: RunnableLambda(lambda messages: model.invoke(messages[-1:])),
        lambda model: partial(Writer.write, Writer(model)),
        lambda model: Writer(model).write,
        lambda model: Writer({"a": [model]}).write,
        lambda model: lambda messages, writer=model: writer.invoke(messages),
        lambda model: lambda messages, *, writer=model: writer.invoke(messages),
        lambda model: {"a": [RunnableLambda(str) | model]},
        lambda model: model.bind(stop=["-"]).with_config(tags=["mine"]),
        lambda model: DemoChatModel().with_fallbacks([model]),
        lambda model: create_agent(model, []),
        lambda model: create_sot_graph(DemoChatModel(), expander=create_sot_graph(model)),
        lambda model: Keyed(inner=model.bind(), api_key=SecretStr("none")),
    ],
)
def test_the_keys_of_models_within_are_known(made: Callable[[Any], Any]) -> None:
    assert "a-very-own-key" in secrets_of(made(Keyed()))


ELSEWHERE = Keyed(api_key=SecretStr("key-of-a-module"))


def helper(messages: Any) -> Any:
    return ELSEWHERE.invoke(messages)


def test_a_model_that_a_function_knows_by_its_module_is_found() -> None:
    assert "key-of-a-module" in secrets_of(helper)
    assert "key-of-a-module" in secrets_of(RunnableLambda(lambda messages: helper(messages[-1:])))


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("api_key", "X-API-Key", "accessToken", "clientSecret", "apikey", "x-auth")),
        *((name, True) for name in ("PGPASSWORD", "OPENAI_KEY_2", "API_KEYS", "GITHUB_PAT", "SECRET_KEY_BASE")),
        *((name, False) for name in ("max_tokens", "monkey", "author", "KEYBOARD", "model", "path", "", "x-team")),
    ],
)
def test_a_key_is_told_by_its_name(name: str, secret: bool) -> None:  # noqa: FBT001 - of the table
    assert is_secret(name) is secret


def test_a_header_that_is_a_word_is_no_part_of_others() -> None:
    assert hide("The server and the observer.", ["server"]) == "The *** and the observer."


def test_what_a_binding_gives_a_model_is_known() -> None:
    bound = DemoChatModel().bind(extra_headers={"x-auth": "bound-secret"}, servers=[{"authorization": "bound-token"}])
    assert secrets_of(bound) == ["bound-secret", "bound-token"]


def test_keys_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTHER_API_KEY", "HOME_TOKEN", "LANG", "MONKEY"):
        monkeypatch.setenv(name, f"the value of {name}")
    monkeypatch.setenv("PGPASSWORD", "postgres")
    assert secrets_of() == ["the value of OTHER_API_KEY", "the value of HOME_TOKEN"]


def test_looking_for_keys_ends_soon() -> None:
    """However much hangs on what writes the points, and also where it hangs on itself."""
    much: list[Any] = [[{"text": [number]}] for number in range(100_000)]
    much.append(much)
    began = time.process_time()
    secrets_of(RunnableLambda(lambda _: much))
    assert time.process_time() - began < 1


def test_an_error_keeps_its_kind_and_loses_its_keys() -> None:
    class Told(NamedTuple):
        of: str

    class Refused(Exception):  # noqa: N818 - the test's own
        def __init__(self, message: str, body: Any) -> None:
            super().__init__(message, Told("sk-in-a-tuple-1"))
            self.message, self.body, self.count = message, body, 3

    error = Refused("no sk-aaaaaaaa1", {"error": [{"message": "team-secret"}, ("sk-bbbbbbbb1", 1)]})
    error.__cause__ = ValueError("sk-cccccccc1")
    error.__cause__.__context__ = error  # in a circle
    hide_in(error, ["team-secret"])
    assert error.args[0] == error.message == "no ***"
    assert error.body == {"error": [{"message": "***"}, ("***", 1)]}
    assert (error.count, str(error.__cause__)) == (3, "***")


def test_a_group_of_errors_loses_its_keys() -> None:
    group = ExceptionGroup("two", [ValueError("sk-aaaaaaaa1"), ExceptionGroup("one", [KeyError("team-secret")])])
    hide_in(group, ["team-secret"])
    assert str(group.exceptions[0]) == "***"
    assert "team-secret" not in repr(group.exceptions[1])


def test_an_error_that_cannot_be_changed_stays_as_it_is() -> None:
    class Stubborn(Exception):  # noqa: N818 - the test's own
        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(name)

    error = Stubborn("sk-aaaaaaaa1")
    hide_in(error)
    assert isinstance(error, Stubborn)


def test_text_is_changed_only_where_it_cannot_be_sent_or_stored() -> None:
    odd = "ä\x00\ud800\x1b\u202e😀"
    assert encodable(odd) == "ä\x00\ufffd\x1b\u202e😀"
    assert storable(odd) == "ä\ufffd\ufffd\x1b\u202e😀"
    plain = "plain"
    assert storable(plain) == plain


def test_the_hider_comes_first_in_merged_managers_too() -> None:
    for _ in range(500):
        others = [BaseCallbackHandler() for _ in range(9)]
        hider = Hider([])
        first, second = (CallbackManager([hider, *each], [hider, *each]) for each in (others[:4], others[2:]))
        merged = first.merge(second)
        assert merged.handlers[0] is merged.inheritable_handlers[0] is hider
        assert set(merged.handlers) == {hider, *others}
