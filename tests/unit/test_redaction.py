"""Keys in text that is stored or printed."""

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import Field, SecretStr

from sot_graph import DemoChatModel, ExpansionError, create_sot_graph
from sot_graph.models import chat_models_in
from sot_graph.redaction import ERROR_LIMIT, describe, redact, secrets_of


@pytest.mark.parametrize(
    ("text", "redacted"),
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
        ("x-api-key: 0123456789abcdef", "x-api-key: ***"),
        ("client_secret=0123456789abcdef", "client_secret=***"),
        ("cache_key=user_profile_2024, sort_key: created_at_2024_01, partition-key=region_eu_west_1", None),
        ("KeyError: 'title1', max_tokens=40960000, a monkey: bananas123456, token: none, sort key: user_id_2", None),
    ],
)
def test_keys_are_recognized_by_their_form(text: str, redacted: str | None) -> None:
    assert redact(text) == (text if redacted is None else redacted)


class Keyed(DemoChatModel):
    api_key: SecretStr = SecretStr("a-very-own-key")
    default_headers: dict[str, str] = Field(
        default={"X-Team": "team-secret", "X-Short": "abc", "Accept": "application/json"}
    )


def test_a_models_keys_and_headers_are_known() -> None:
    assert secrets_of(Keyed()) == ["a-very-own-key", "team-secret"]
    assert secrets_of(DemoChatModel(), None, "openai:gpt-5.5") == []


@pytest.mark.parametrize(
    "made",
    [
        Keyed().bind(stop=["-"]),
        Keyed().bind(stop=["-"]).with_config(tags=["mine"]),
        Keyed().with_retry(),
        DemoChatModel().with_fallbacks([Keyed()]),
        Keyed().with_fallbacks([DemoChatModel()]).with_config(tags=["mine"]),
        Keyed().configurable_fields(first_token=ConfigurableField("first_token")),
        DemoChatModel().configurable_alternatives(ConfigurableField("which"), keyed=Keyed()),
    ],
    ids=lambda made: type(made).__name__,
)
def test_the_keys_of_a_model_within_are_known(made: Any) -> None:
    assert secrets_of(made) == ["a-very-own-key", "team-secret"]


def test_the_keys_of_several_models_are_known() -> None:
    """The longest first: one may be the beginning of another."""
    first, second = Keyed(default_headers={}), Keyed(api_key=SecretStr("a-very-own-key-2"))
    assert secrets_of(first, second) == ["a-very-own-key-2", "a-very-own-key", "team-secret"]


class Router(DemoChatModel):
    first: Keyed
    second: Keyed


def test_a_model_may_get_attributes_while_its_keys_are_collected() -> None:
    """A client makes parts of itself when it is used first, in another thread."""
    model = ChatOpenAI(model="m", api_key=SecretStr("a-very-own-key"), model_kwargs={"user": "me"})

    class Busy(dict[str, Any]):
        def items(self) -> Any:
            vars(model)["made_later"] = 1
            return super().items()

    model.model_kwargs = Busy(user="me")
    assert secrets_of(model) == ["a-very-own-key"]

    router = Router(first=Keyed(), second=Keyed())
    found = []
    for each in chat_models_in(router):
        found.append(each)
        vars(router)[f"made_later_{len(found)}"] = 1
    assert found == [router, router.first, router.second]


def test_the_headers_that_a_binding_gives_are_known() -> None:
    assert secrets_of(DemoChatModel().bind(extra_headers={"x-auth": "bound-secret"})) == ["bound-secret"]


def test_a_header_that_is_a_word_is_no_part_of_others() -> None:
    assert redact("The server and the observer.", ["server"]) == "The *** and the observer."


def test_an_error_is_described_without_keys_and_in_short() -> None:
    assert (
        describe(ValueError("no team-secret, no sk-aaaaaaaa1\x00"), ["team-secret"])
        == "ValueError: no ***, no ***\ufffd"
    )
    assert len(describe(ValueError("x" * 10_000))) == ERROR_LIMIT


class Refused(Exception):  # noqa: N818 - the test's own
    def __init__(self, message: str, body: Any) -> None:
        super().__init__(message, body)
        self.body = body


@pytest.mark.parametrize(
    "error",
    [
        KeyError("token=customer_2024_batch"),
        Refused("no sk-aaaaaaaa1", {"error": [{"message": "sk-bbbbbbbb1"}]}),
        ExceptionGroup("two", [ValueError("sk-aaaaaaaa1"), KeyError("a-very-own-key")]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("option", ["route", "merge", "expander"])
async def test_an_exception_arrives_as_it_was_raised(option: str, error: Exception) -> None:
    """The very one, unchanged."""

    def fail(_: Any) -> Any:
        raise error

    options: Any = {option: RunnableLambda(fail)}
    graph: Any = create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0), **options)
    before = error.args, str(error), _attributes(error)
    for run in (asyncio.to_thread(graph.invoke, {"question": "What?"}), graph.ainvoke({"question": "What?"})):
        with pytest.raises((type(error), ExpansionError)) as caught:
            await run
        raised: BaseException | None = caught.value
        if option == "expander":
            assert isinstance(caught.value.__cause__, ExceptionGroup)
            raised = caught.value.__cause__.exceptions[0]
        assert raised is error
        assert (error.args, str(error), _attributes(error)) == before


def _attributes(error: Exception) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "__notes__"}  # the engine adds one


class Wrapping(BaseChatModel):
    inner: Any

    @property
    def _llm_type(self) -> str:
        return "wrapping"

    def _generate(self, *_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError


def test_the_keys_of_a_model_inside_another_one_are_found() -> None:
    inner = ChatOpenAI(model="fake", api_key=SecretStr("a-very-own-key"))
    assert secrets_of(Wrapping(inner=inner)) == ["a-very-own-key"]
