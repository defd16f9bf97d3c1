"""Keys in errors, and text that can be sent and stored."""

from typing import Any, NamedTuple

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from pydantic import Field, SecretStr

from sot_graph import DemoChatModel
from sot_graph.safety import Hider, encodable, hide, hide_in, secrets_of, storable


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
    inner: DemoChatModel | None = None


def test_a_models_keys_and_headers_are_known() -> None:
    assert secrets_of(Keyed()) == ["a-very-own-key", "team-secret"]
    assert secrets_of(Keyed(inner=Keyed(api_key=SecretStr("another-key"), default_headers={}))) == [
        "a-very-own-key",
        "another-key",
        "team-secret",
    ]
    assert secrets_of(DemoChatModel(), None, "openai:gpt-5.5") == []


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
