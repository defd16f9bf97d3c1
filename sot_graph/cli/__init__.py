"""The command line: `sot-graph ask`, `batch`, `compare`, `draw` and `route`. It needs the extra `cli`."""

import sys

EXTRA = frozenset({"click", "rich", "svg", "typer"})
"""The modules that the extra installs."""

try:
    from sot_graph.cli.entry import app, main
except ModuleNotFoundError as error:  # pragma: no cover - the tests have the extra
    if (error.name or "").partition(".")[0] not in EXTRA:
        raise
    sys.exit(f"sot-graph needs the extra `cli` ({error}): pip install '.[cli]' in its checkout")

__all__ = ["app", "main"]
