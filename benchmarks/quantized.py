"""What quantized caches cost in quality, against caches in bfloat16 of the same reading.

Run it from the root of the repository:

    python -m benchmarks.quantized squad-dev.jsonl.gz [--limit 100] [--model NAME] [--adapter PATH]

Every document is read once; its raw tokens then go through each form, in the blocks of a store.
Landmarks are the same for all forms, and so are scores and chosen intervals. Measured are:

- divergence (nats) and agreement of the most probable token with bfloat16, over the gold answer;
- F1 of greedy answers, and whether the gold evidence was refilled;
- perplexity of the text that follows the first half of a document, all of that half refilled.

Prints JSON.
"""

import argparse
import copy
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache

from acre_rag.cache import KVBlock
from acre_rag.cache.stored import stored_bytes
from acre_rag.config import ACREConfig
from acre_rag.evaluate.composing import ComposedDocument, Sampling, compose
from acre_rag.evaluate.dataset import load_dataset
from acre_rag.evaluate.documents import OpenDocument, ReadDocument, as_stored
from acre_rag.evaluate.metrics import has_long_answers, scores
from acre_rag.evaluate.prompts import Prompt, recalls_evidence
from acre_rag.evaluate.refilling import Refilling, learned
from acre_rag.model.adapter_files import load_adapter
from acre_rag.model.batched import RememberedPrompt, answer_batch, remembered
from acre_rag.model.demo import demo_adapter_directory
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import splice

FORMS = ("bfloat16", "int8", "int8-int4")
METHOD = Refilling(name="acre", rule=learned)
NEW_TOKENS = 32
CONTINUED_TOKENS = 512

Rows = dict[str, dict[str, list[float]]]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--adapter", type=Path, default=demo_adapter_directory())
    parser.add_argument("--dtype")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--questions-per-document", type=int, default=10)
    parser.add_argument("--document-tokens", type=int, default=2048)
    parser.add_argument("--budget", type=int, default=256)
    options = parser.parse_args()
    local = LocalModel.load(options.model, dtype=options.dtype)
    adapter = load_adapter(options.adapter)
    config = ACREConfig(interval_tokens=adapter.interval_tokens)
    reader = DocumentReader(local, adapter, config)
    sampling = Sampling(
        max_document_tokens=options.document_tokens,
        limit=options.limit,
        questions_per_document=options.questions_per_document,
    )
    documents = compose(load_dataset(options.dataset), reader.frame, sampling)
    rows: Rows = {form: defaultdict(list) for form in FORMS}
    for number, document in enumerate(documents, 1):
        measure(document, reader, options.budget, rows)
        sys.stderr.write(f"{number} of {len(documents)}\n")
    shape = reader.twin.shape
    sizes = (shape.layers, shape.kv_heads, 32, shape.head_dim)
    result = {
        "model": local.name,
        "dtype": str(local.model.dtype).removeprefix("torch."),
        "device": str(local.device),
        "dataset": options.dataset.name,
        "documents": len(documents),
        "document_tokens": options.document_tokens,
        "budget": options.budget,
        "forms": {
            form: {"bytes_per_token": stored_bytes(form, sizes) / 32} | summary(rows, form)
            for form in FORMS
        },
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def measure(document: ComposedDocument, reader: DocumentReader, budget: int, rows: Rows) -> None:
    """Ask one document's questions, and continue its text, over each form of its cache."""
    opened = OpenDocument(document, free=reader, trained=reader, max_new_tokens=NEW_TOKENS)
    read = opened.trained
    long = has_long_answers(list(document.questions))
    read.scores  # noqa: B018  # made once, for all forms
    exact: list[Tensor] = []
    for form in FORMS:
        own = copy.copy(opened)
        own.trained = through(read, form)
        prompts = [prompt for prompt in METHOD.prompts(own, budget) if prompt is not None]
        answers = answer_batch(reader.local, [p.remembered for p in prompts], NEW_TOKENS)
        asked = zip(document.questions, prompts, answers, strict=True)
        for index, (question, prompt, answer) in enumerate(asked):
            found = rows[form]
            for name, score in scores(answer, question, long=long).items():
                found[name].append(score)
            recalled = recalls_evidence(question, prompt.spans)
            if recalled is not None:
                found["evidence_recall"].append(float(recalled))
            logits = gold_logits(reader, prompt, question.answers[0])
            if form == FORMS[0]:
                exact.append(logits)
            found["divergence"].append(divergence(exact[index], logits))
            agreed = exact[index].argmax(-1) == logits.argmax(-1)
            found["top_1_agreement"].extend(agreed.float().tolist())
        rows[form]["loss"].extend(continued(reader, own.trained, document))


def through(read: ReadDocument, form: str) -> ReadDocument:
    """The same reading, its raw tokens as they come back from a form."""
    other = copy.copy(read)
    other.__dict__["_read"] = (read.l1, as_stored(read.l2, read.layout, form))
    return other


def gold_logits(reader: DocumentReader, prompt: Prompt, answer: str) -> Tensor:
    """Logits from the end of the prompt to the end of the gold answer, (places, vocabulary)."""
    ids = reader.local.tokenizer(" " + answer, add_special_tokens=False)["input_ids"]
    memory = prompt.remembered
    return forward(reader, memory, memory.ids + ids)[-len(ids) - 1 :]


def continued(
    reader: DocumentReader, read: ReadDocument, document: ComposedDocument
) -> list[float]:
    """Loss of each token after the first half of a document, all of that half refilled."""
    interval = read.layout.interval_tokens
    intervals = len(document.tokens.ids) // interval // 2
    half = intervals * interval
    owners = torch.arange(half) // interval
    landmarks, tokens = read.l1.slice(0, intervals), read.l2.slice(0, half)
    spliced = splice(landmarks, torch.arange(intervals), tokens, owners)
    block = KVBlock.concatenate([reader.prefix, spliced])
    following = document.tokens.ids[half : half + CONTINUED_TOKENS].tolist()
    logits = forward(reader, remembered(reader.twin, block, []), following)
    targets = torch.tensor(following[1:])
    return torch.nn.functional.cross_entropy(logits[:-1], targets, reduction="none").tolist()


def forward(reader: DocumentReader, memory: RememberedPrompt, ids: list[int]) -> Tensor:
    """Logits of every id behind a memory, (ids, vocabulary), float32, on the CPU."""
    pairs = zip(memory.keys[:, None], memory.values[:, None], strict=True)
    with torch.inference_mode():
        output = reader.local.model(
            torch.tensor([ids], device=reader.local.device),
            past_key_values=DynamicCache(ddp_cache_data=list(pairs)),
        )
    return output.logits[0].float().cpu()


def divergence(exact: Tensor, other: Tensor) -> float:
    """Kullback-Leibler divergence of a form from bfloat16, in nats, averaged over places."""
    theirs, ours = exact.log_softmax(-1), other.log_softmax(-1)
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


def summary(rows: Rows, form: str) -> dict[str, float | int]:
    """Means; of F1 and loss also how they differ from bfloat16, question by question."""
    found = rows[form]
    means = {name: statistics.fmean(values) for name, values in found.items()}
    loss = means.pop("loss")
    paired = [a - b for a, b in zip(found["f1"], rows[FORMS[0]]["f1"], strict=True)]
    spread = statistics.stdev(paired) / math.sqrt(len(paired)) if len(paired) > 1 else 0.0
    return means | {
        "questions": len(found["f1"]),
        "f1_change": statistics.fmean(paired),
        "f1_change_standard_error": spread,
        "answers_that_scored_otherwise": sum(change != 0 for change in paired),
        "perplexity": math.exp(loss),
        "perplexity_change_percent": 100
        * (math.exp(loss - statistics.fmean(rows[FORMS[0]]["loss"])) - 1),
        "continued_tokens": len(found["loss"]),
    }


if __name__ == "__main__":
    main()
