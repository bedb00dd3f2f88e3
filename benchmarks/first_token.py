"""First token from a cache, against the same model's full prefill of the same document.

Run it from the root of the repository:

    python -m benchmarks.first_token [--model NAME] [--tokens 4000] [--repeats 5]

Both are measured in turn, in one process. Every question over the cache comes from a new engine,
so that its landmarks are read from the store too; the model is ready for either. Prints JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from acre_rag import ACREEngine, Document, LocalModel
from examples.full_text import ask_full_text

QUESTION = "How much does the machine weigh without its pump?"
DOCUMENTS = Path(__file__).parents[1] / "examples" / "documents"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--adapter")
    parser.add_argument("--dtype")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    local = LocalModel.load(options.model, dtype=options.dtype)
    with tempfile.TemporaryDirectory() as store:
        with ACREEngine(local, options.adapter, store) as engine:
            text = text_of(engine, options.tokens)
            (done,) = engine.ingest([Document(id="document", text=text)])
            method = next(engine.documents()).method
        runs = [measure(local, options.adapter, store, text) for _ in range(options.repeats + 1)]
    seconds = {name: [run[name] for run in runs[1:]] for name in runs[0]}  # the first warms up
    median = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "model": local.name,
        "method": method,
        "dtype": str(local.model.dtype).removeprefix("torch."),
        "device": str(local.device),
        "threads": torch.get_num_threads(),
        "document_tokens": done.tokens,
        "seconds": seconds,
        "median_seconds": median,
        "ratio": median["full_text"] / median["cache"],
        "cpu_ratio": median["full_text_cpu"] / median["cache_cpu"],
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def text_of(engine: ACREEngine, tokens: int) -> str:
    """Take so many tokens' worth of the example documents."""
    whole = "\n\n".join(
        path.read_text(encoding="utf-8") for path in sorted(DOCUMENTS.iterdir(), reverse=True)
    )
    _, offsets = engine.reader.frame.encode_with_offsets(whole)
    return whole[: offsets[min(tokens, len(offsets)) - 1][1]]


def measure(local: LocalModel, adapter: str | None, store: str, text: str) -> dict[str, float]:
    """Ask once from the cache and once over the full text; wall and processor seconds."""
    with ACREEngine(local, adapter, store) as engine:
        started = time.process_time()
        answer = engine.ask(QUESTION, ["document"], max_new_tokens=1)
        between = time.process_time()
        full = ask_full_text(engine, text, QUESTION, max_new_tokens=1)
        return {
            "cache": answer.seconds.first_token,
            "full_text": full.first_token,
            "cache_cpu": between - started,
            "full_text_cpu": time.process_time() - between,
        }


if __name__ == "__main__":
    main()
