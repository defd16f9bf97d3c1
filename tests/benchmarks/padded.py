"""A padded batch without a server: the local model's weights, by `generate` of the package transformers.

Run with: uv run --with torch --with transformers --with gguf --extra local python -m tests.benchmarks.padded

It is no part of the tests, because torch is large. llama.cpp decodes requests of any length as one batch, and a new one
joins at any time (tests/benchmarks/batching.py). Here all of them start together, are padded to the longest, and end
together, as in the paper's own code for local models.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from sot_graph.local import shipped_model

TITLES = [f"A point on bees, number {number}, {'and more ' * (number % 5)}" for number in range(1, 65)]
QUESTION = "How do bees find their way home?"


def load(file: Path, device: str) -> tuple[Any, Any]:
    """The weights and the tokenizer in a GGUF file."""
    import torch  # noqa: PLC0415 - not among the project's packages
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - the same

    dtype = torch.float16 if device == "cuda" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=dtype)
    return model.to(device).eval(), tokenizer


def decode(model: Any, tokenizer: Any, size: int, length: int) -> float:
    """Seconds for a batch of so many points, each of the same number of tokens."""
    import torch  # noqa: PLC0415 - not among the project's packages

    prompts = [f"{QUESTION}\nTell me about {title}.\n" for title in TITLES[:size]]
    batch = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(**batch, min_new_tokens=length, max_new_tokens=length, do_sample=False)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Print a row for each size of a batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=None, help="A GGUF file. Default: SmolLM2.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    model, tokenizer = load(given.file or shipped_model(), given.device)
    for size in (max(given.sizes), 1):
        decode(model, tokenizer, size, given.tokens)  # the first one warms up
    print("| in the batch | tokens/s | one after the other : in one batch |\n|---|---|---|")
    rows = [[decode(model, tokenizer, size, given.tokens) for size in [1, *given.sizes]] for _ in range(given.runs)]
    for i, size in enumerate(given.sizes, start=1):
        speed = size * given.tokens / statistics.median(row[i] for row in rows)
        gains = [size * row[0] / row[i] for row in rows]
        spread = f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})"
        print(f"| {size} | {speed:.0f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
