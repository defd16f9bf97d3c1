"""The factory's options, the drawing and the public names; no model is called."""

import re
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import CachePolicy

import sot_graph
from sot_graph import DemoChatModel, SotGraph, create_sot_graph

QUICK = DemoChatModel(first_token=0, tokens_per_second=0)


def _name(value: object) -> str:
    """The same in each process."""
    return re.sub(r" at 0x\w+", "", str(value))


def _no_argument() -> Any:
    return True


async def _no_argument_async() -> str:
    return "x"


NO_ARGUMENT: Any = _no_argument
DRAWN = """\
graph TD;
\t__start__([<p>__start__</p>]):::first
\tskeleton(skeleton)
\texpand(expand)
\tdirect(direct)
\tmerge(merge)
\t__end__([<p>__end__</p>]):::last
\t__start__ --> skeleton;
\texpand --> merge;
\tskeleton -.-> direct;
\tskeleton -.-> expand;
\tdirect --> __end__;
\tmerge --> __end__;
"""


def test_public_names_are_sorted_and_complete() -> None:
    public = {name for name, value in vars(sot_graph).items() if not name.startswith("_") and not _is_module(value)}
    lazy = {name for names in vars(sot_graph)["_MODULES"].values() for name in names}  # imported when they are used
    assert sot_graph.__all__ == sorted(public | lazy)
    assert all(hasattr(sot_graph, name) for name in sot_graph.__all__)


def _is_module(value: Any) -> bool:
    return isinstance(value, type(sys))


def test_importing_the_package_imports_no_provider() -> None:
    providers = "('openai', 'langchain_openai', 'langchain', 'typer', 'xllamacpp', 'sot_graph.local')"
    code = f"import sot_graph, sys; print([name for name in {providers} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"route": "always"},
        {"on_error": "keep"},
        {"headings": True},
        {"merge": lambda _: "x"},
        {"min_points": 1},
        {"expander": lambda _: "x"},
    ],
    ids=" ".join,
)
async def test_the_drawing_shows_the_picture(options: dict[str, Any]) -> None:
    graph = create_sot_graph(QUICK, **options)
    for drawn in (graph.get_graph(), await graph.aget_graph()):
        mermaid = drawn.draw_mermaid(with_styles=True)
        assert DRAWN in mermaid


def test_the_drawing_has_the_opening_only_with_lead() -> None:
    mermaid = create_sot_graph(QUICK, lead=True).get_graph().draw_mermaid()
    edges = {line.strip(" \t;") for line in mermaid.splitlines() if "->" in line}
    assert edges == {
        "__start__ --> skeleton",
        "__start__ --> lead",
        "lead --> __end__",
        "skeleton -.-> expand",
        "skeleton -.-> direct",
        "expand --> merge",
        "merge --> __end__",
        "direct --> __end__",
    }


def test_the_drawing_has_the_ending_only_with_closing() -> None:
    mermaid = create_sot_graph(QUICK, closing=True).get_graph().draw_mermaid()
    edges = {line.strip(" \t;") for line in mermaid.splitlines() if "->" in line}
    assert edges == {
        "__start__ --> skeleton",
        "skeleton -.-> expand",
        "skeleton -.-> direct",
        "expand --> closing",
        "closing --> merge",
        "merge --> __end__",
        "direct --> __end__",
    }


def test_the_drawing_has_the_review_only_with_review() -> None:
    mermaid = create_sot_graph(QUICK, review=True).get_graph().draw_mermaid()
    edges = {line.strip(" \t;") for line in mermaid.splitlines() if "->" in line}
    assert edges == {
        "__start__ --> skeleton",
        "skeleton -.-> review",
        "skeleton -.-> direct",
        "review -.-> expand",
        "review -.-> skeleton",
        "expand --> merge",
        "merge --> __end__",
        "direct --> __end__",
    }


def test_in_a_parent_it_draws_as_one_node_or_in_full() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(QUICK))
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    parent = builder.compile()
    assert set(parent.get_graph().nodes) == {"__start__", "answer", "__end__"}
    inner = {name.removeprefix("answer:") for name in parent.get_graph(xray=True).nodes}
    assert {"skeleton", "expand", "merge", "direct"} <= inner
    assert not any("error_handler" in name for name in inner)


def test_it_is_a_compiled_state_graph() -> None:
    graph = create_sot_graph(QUICK)
    assert isinstance(graph, CompiledStateGraph)
    assert isinstance(graph.builder, StateGraph)
    assert graph.name == graph.get_name() == "skeleton_of_thought"
    assert create_sot_graph(QUICK, name="writer").get_name() == "writer"
    assert isinstance(graph.with_config(tags=["mine"]), SotGraph)
    saver = InMemorySaver()
    anew = graph.builder.compile(checkpointer=saver, interrupt_before=["expand"], name="anew")
    assert isinstance(anew, SotGraph)
    assert (anew.name, anew.checkpointer, anew.interrupt_before_nodes) == ("anew", saver, ["expand"])


def test_the_schemas_are_readable() -> None:
    graph = create_sot_graph(QUICK)
    assert set(graph.get_input_jsonschema()["properties"]) == {"question", "messages", "outline"}
    assert set(graph.get_output_jsonschema()["properties"]) == {"messages", "points", "answer"}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"min_points": 0}, ValueError, "min_points must be at least 1"),
        ({"min_points": 5, "max_points": 4}, ValueError, "got min_points=5, max_points=4"),
        ({"max_points": "10"}, TypeError, "max_points must be a whole number, not '10'"),
        ({"max_points": True}, TypeError, "max_points must be a whole number"),
        ({"max_tokens": 0}, ValueError, "max_tokens must be at least 1, or None for no limit; got max_tokens=0"),
        ({"max_tokens": "10"}, TypeError, "max_tokens must be a whole number or None, not '10'"),
        ({"max_tokens": 1.5}, TypeError, "max_tokens must be a whole number or None, not 1.5"),
        ({"max_tokens": True}, TypeError, "max_tokens must be a whole number or None, not True"),
        ({"on_error": "ignore"}, ValueError, "on_error must be one of 'raise', 'keep', not 'ignore'"),
        ({"on_error": None}, TypeError, "on_error must be 'raise' or 'keep', not None"),
        ({"route": "never"}, ValueError, "route must be one of 'auto', 'always', not 'never'"),
        ({"route": None}, TypeError, "route must be 'auto', 'always', a function or a Runnable"),
        ({"route": 3}, TypeError, "route must be 'auto', 'always', a function or a Runnable, not 3"),
        ({"merge": "join"}, TypeError, "merge must be a function or a Runnable, not 'join'"),
        ({"headings": True, "merge": len}, ValueError, "headings is for the default merge"),
        ({"review": True, "lead": True}, ValueError, "use review or lead, not both"),
        ({"closing": 1}, TypeError, "closing must be True or False, not 1"),
        ({"review": "yes"}, TypeError, "review must be True or False, not 'yes'"),
        ({"system_prompt": 3}, TypeError, "system_prompt must be text or a SystemMessage, not 3"),
        ({"retry_policy": 3}, TypeError, "retry_policy must be a langgraph RetryPolicy"),
        ({"cache_policy": 3}, TypeError, "cache_policy must be a langgraph CachePolicy, not 3"),
        ({"skeleton_model": " "}, ValueError, "skeleton_model is blank"),
        ({"retry_policy": [3]}, TypeError, "retry_policy must be a langgraph RetryPolicy"),
        ({"merge": lambda: "x"}, TypeError, r"merge must take one argument, the list of points; <lambda>\(\) cannot"),
        (
            {"merge": lambda a, b: a + b},
            TypeError,
            r"<lambda>.a, b. cannot be called so: missing a required argument: 'b'",
        ),
        ({"route": lambda: True}, TypeError, "route must take one argument, the question"),
        ({"route": RunnableLambda(NO_ARGUMENT)}, TypeError, "route must take one argument, the question"),
        ({"expander": lambda: "x"}, TypeError, "expander must take one argument, the point's messages"),
        ({"expander": _no_argument_async}, TypeError, "expander must take one argument"),
        ({"expander": dict}, TypeError, r"not the class dict; make an object of it, such as dict\(...\)"),
        ({"expander": DemoChatModel}, TypeError, "not the class DemoChatModel; make an object of it"),
        ({"route": bool}, TypeError, "route must be .* not the class bool"),
        ({"merge": RunnableLambda}, TypeError, "merge must be .* not the class RunnableLambda"),
        ({"skeleton_model": DemoChatModel}, TypeError, "skeleton_model must be .* not the class DemoChatModel"),
        ({"cache_policy": CachePolicy()}, ValueError, "cache_policy needs a cache .*InMemoryCache"),
        ({"cache": 3}, TypeError, "cache must be a langgraph BaseCache, not 3"),
        ({"store": 3}, TypeError, "store must be a langgraph BaseStore, not 3"),
        ({"name": 3}, TypeError, "name must be text, not 3"),
        ({"skeleton_model": 3}, TypeError, "skeleton_model must be a model's name .* a chat model"),
    ],
    ids=_name,
)
def test_misuse_is_refused_at_construction(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        create_sot_graph(QUICK, **options)


class Joiner:
    def join(self, points: list[Any]) -> str:
        return f"{points}"

    def __call__(self, points: list[Any], config: RunnableConfig) -> str:
        return f"{points}{config}"


def _with_config(points: list[Any], *, config: RunnableConfig, sep: str = "") -> str:
    return f"{points}{config}{sep}"


@pytest.mark.parametrize(
    "function",
    [str.strip, len, Joiner().join, Joiner(), _with_config, partial(str.replace, "a", "b"), print],
    ids=_name,
)
def test_functions_that_take_one_argument_are_taken(function: Any) -> None:
    for option in ("merge", "expander", "route"):
        create_sot_graph(QUICK, **{option: function})


def test_a_cache_without_a_policy_is_fine() -> None:
    create_sot_graph(QUICK, cache=InMemoryCache())


@pytest.mark.parametrize("name", ["my-model", "nobody:knows", ":x", "openai"])
def test_a_name_without_a_provider_says_how_to_go_on(name: str) -> None:
    says = rf"model names no provider .*: '{name}'. Write 'provider:model', .* ChatOpenAI\(model='{name}', base_url="
    with pytest.raises(ValueError, match=says) as caught:
        create_sot_graph(name)
    assert "\nProviders: anthropic, " in str(caught.value)


@pytest.mark.parametrize("name", ["openai:", "openai: ", ""])
def test_a_name_without_a_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"model is blank, or names no model: '{name}'"):
        create_sot_graph(name)


@pytest.mark.parametrize("model", [None, 3, RunnableLambda(str)], ids=str)
def test_a_model_that_is_none_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"^model must be a model's name .* a chat model, .* use expander="):
        create_sot_graph(model)


def test_only_the_model_is_positional() -> None:
    with pytest.raises(TypeError, match="positional"):
        create_sot_graph(QUICK, QUICK)  # type: ignore[call-arg]


def test_the_callers_model_stays_as_it_was() -> None:
    model = DemoChatModel()
    create_sot_graph(model)
    assert model == DemoChatModel()
