"""The code blocks of README.md and docs/, and what stands below them as their output."""

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
OPERATORS = {"&&", "|", "<", ">", ";"}


class Block(NamedTuple):
    """A block of a page, and its output if the page shows it."""

    name: str
    language: str
    code: str
    output: str | None

    @property
    def needs_the_local_model(self) -> bool:
        return "local_chat_model" in self.code


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(f"{path.name}:{line}", *match.groups()))
    return [block for block in found if block.language in languages]


def run_python(block: Block) -> None:
    """Run a block by itself, and compare what it prints with what the page shows."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block.code, block.name, "exec"), {"__name__": "example"})
    compare(block, out.getvalue())


def compare(block: Block, printed: str) -> None:
    """Compare an output with the one shown, in which `...` stands for what differs from run to run."""
    printed = "\n".join(line.rstrip() for line in printed.rstrip().splitlines()) + "\n"
    assert printed.strip(), "a block prints something, so that its reader sees that it worked"
    if block.output is not None:
        is_same = doctest.OutputChecker().check_output(block.output, printed, doctest.ELLIPSIS)
        assert is_same, f"{block.name} shows\n{block.output}\nand prints\n{printed}"


def commands(block: Block) -> Iterator[list[str]]:
    """The `sot-graph` commands of a shell block, as lists of arguments, without what pipes and redirects add."""
    for line in block.code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        arguments: list[str] | None = None
        for word in [*lexer, ";"]:
            if arguments is not None and word in OPERATORS:
                yield arguments
                arguments = None
            elif arguments is not None:
                arguments.append(word)
            elif word == "sot-graph":
                arguments = []
