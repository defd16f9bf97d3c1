"""Processes that are forked from one that has imported everything already: importing takes seconds."""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Self

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "sot_graph.cli.answer",
        "sot_graph.cli.bulk",
        "sot_graph.cli.comparison",
        "langchain_openai",
        "tests.integration.killed",
    ]
)

CLOSED, LEFT = "closed", "left"
"""Standard output that is closed, as by `>&-`; and a pipe whose reader has left."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a model of the developer's own."""
    env = {name: value for name, value in os.environ.items() if name not in {"SOT_MODEL", "OPENAI_API_KEY"}}
    return {**env, **more}


class Forked:
    """A function that runs in a process of its own."""

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: object,
        stdin: str | None = None,
        stdout: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process.

        Args:
            function: What it runs; of a module's top level.
            arguments: The function's.
            stdin: What it reads; None for nothing.
            stdout: What it writes to instead of a file: a path, or one of CLOSED and LEFT.
            env: Its environment.
        """
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._files = [folder / name for name in ("stdin", "stdout", "stderr")]
        self._files[0].write_text(stdin or "", encoding="utf-8")
        files = list(map(str, self._files))
        files[1] = stdout or files[1]
        env = environment() if env is None else env
        self._process = _CONTEXT.Process(target=_run, args=(function, arguments, files, dict(env), str(Path.cwd())))
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.send(signal.SIGINT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self._process.pid or 0, number)

    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._files[2].read_text(encoding="utf-8") if self._files[2].exists() else ""

    def wait(self, seconds: float = 60) -> CompletedProcess[str]:
        """Wait for its end.

        Raises:
            TimeoutError: It has not ended.
        """
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise TimeoutError
        out = self._files[1].read_text(encoding="utf-8") if self._files[1].exists() else ""
        return CompletedProcess([], self._process.exitcode, out, self.stderr())


class CommandLine(Forked):
    """`sot-graph` with these arguments."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        super().__init__(_main, *arguments, **options)


def run(*arguments: str, stdin: str | None = None, stdout: str | None = None, **env: str) -> CompletedProcess[str]:
    """Run the command line to its end."""
    with CommandLine(*arguments, stdin=stdin, stdout=stdout, env=environment(**env)) as process:
        return process.wait()


def wait_until(is_true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what another thread or process does."""
    deadline = time.monotonic() + seconds
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_true()


def _main(*arguments: str) -> None:
    sys.argv = ["sot-graph", *arguments]
    from sot_graph.cli import main  # noqa: PLC0415 - in the new process only

    main()


def _run(
    function: Callable[..., object], arguments: tuple[object, ...], files: list[str], env: dict[str, str], folder: str
) -> None:
    for number, path in enumerate(files):
        if (file := _opened(path, number)) is None:
            os.close(number)
        else:
            os.dup2(file, number)
            os.close(file)
    encoding = env.get("PYTHONIOENCODING", "utf-8")  # which Python reads when it starts
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - a number
    sys.stdout = None if files[1] == CLOSED else open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115 - a number
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - a number
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    function(*arguments)


def _opened(path: str, number: int) -> int | None:
    """What a standard stream is connected with."""
    if path == CLOSED:
        return None
    if path == LEFT:
        read, write = os.pipe()
        os.close(read)
        return write
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY, 0o600)
