"""`acre eval`: the methods side by side on a set of questions."""

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acre_rag import __version__
from acre_rag.cli import eval_options, options
from acre_rag.cli.failures import MisuseError, say
from acre_rag.cli.show import show_table
from acre_rag.model.location import DEMO_MODEL, NO_ADAPTER

if TYPE_CHECKING:
    from acre_rag.evaluate.composing import Sampling
    from acre_rag.evaluate.methods import Readers
    from acre_rag.evaluate.report import Numbers
    from acre_rag.evaluate.run import Evaluation, Row


def evaluate(
    dataset: eval_options.Dataset,
    *,
    methods: eval_options.Methods = None,
    budget: eval_options.Budgets = None,
    tuned: eval_options.Tuned = None,
    chunk_tokens: eval_options.ChunkTokens = 64,
    sentence_model: eval_options.SentenceModel = None,
    limit: eval_options.Limit = 200,
    questions_per_document: eval_options.QuestionsPerDocument = None,
    max_document_tokens: eval_options.MaxDocumentTokens = 4096,
    questions_within: eval_options.QuestionsWithin = None,
    seed: eval_options.Seed = 0,
    max_new_tokens: options.MaxNewTokens = 32,
    instructions: options.Instructions = None,
    timed: eval_options.Timed = 8,
    batch_tokens: eval_options.BatchTokens = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    stored: options.Stored = None,
    json: eval_options.Results = None,
    rows: eval_options.Rows = None,
    picture: eval_options.Picture = None,
    debug: options.Debug = False,
) -> None:
    """Measure methods side by side: one frozen model, one prompt, greedy decoding.

    Documents are cut, or filled up, to one length; only questions whose gold answer lies inside
    are drawn, at random and always the same ones for a seed.

    For example:

        acre eval squad-dev.jsonl.gz --methods acre,rag-bm25 --limit 40 --questions-per-document 10
        acre eval squad-dev.jsonl.gz --budget 256 --budget 512 --json out.json --picture out.png
    """
    del debug  # its callback has seen to it
    if not dataset.is_file():
        raise MisuseError(f"{dataset} is no file; expected JSON lines: check the path")
    from acre_rag.evaluate.composing import Sampling, compose
    from acre_rag.evaluate.dataset import load_dataset
    from acre_rag.evaluate.methods import make_methods
    from acre_rag.evaluate.report import summary
    from acre_rag.evaluate.run import Evaluation
    from acre_rag.evaluate.tuned import load_baselines

    output = _Output(json=json, rows=rows, picture=picture)
    output.check()
    sampling = Sampling(
        max_document_tokens=max_document_tokens or None,
        questions_within=questions_within,
        limit=limit,
        questions_per_document=questions_per_document,
        seed=seed,
    )
    documents = load_dataset(dataset)
    readers = _readers(model, adapter, device, dtype, stored)
    evaluation = Evaluation(
        readers=readers,
        documents=compose(documents, readers.free.frame, sampling),
        methods=[
            *make_methods(
                _names(methods, readers),
                readers,
                chunk_tokens=chunk_tokens,
                sentence_model=sentence_model,
            ),
            *load_baselines(tuned or [], readers.free.local, readers.free, chunk_tokens),
        ],
        budgets=list(dict.fromkeys(budget or [256])),
        max_new_tokens=max_new_tokens,
        instructions=instructions,
        batch_tokens=batch_tokens,
        timed_questions=timed,
    )
    answered = evaluation.rows(lambda name, done, of: say(f"{name} ({done} of {of})"))
    results = summary(answered, evaluation.first_token_ms())
    given = {
        "dataset": dataset.name,
        "questions_left_out": sum(document.unanswered for document in documents),
        "chunk_tokens": chunk_tokens,
        "adapter": None if adapter is None else Path(adapter).name,
    }
    output.write(results, given | _settings(evaluation, sampling), answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """Where results go, besides the table."""

    json: Path | None
    rows: Path | None
    picture: Path | None

    def check(self) -> None:
        """See that all can be written, before hours of work."""
        from acre_rag.evaluate.report import check_writable

        for place in (self.json, self.rows, self.picture):
            if place is not None:
                check_writable(place)

    def write(
        self,
        results: "Mapping[str, Mapping[str, Numbers]]",
        settings: Mapping[str, object],
        answered: "Sequence[Row]",
    ) -> None:
        """Show the table, and write what was asked for."""
        from acre_rag.evaluate.report import draw, main_measure, table, write_json, write_rows

        columns, lines = table(results)
        show_table(columns, lines, left=2)
        if self.json is not None:
            methods = next(iter(results.values()))
            write_json({"methods": methods, "budgets": results, **settings}, self.json)
        if self.rows is not None:
            write_rows(answered, self.rows)
        if self.picture is not None:
            tokens = settings["max_document_tokens"] or "all"
            title = f"{settings['dataset']}, documents of {tokens} tokens"
            draw(results, self.picture, measure=main_measure(results), title=title)


def _settings(evaluation: "Evaluation", sampling: "Sampling") -> dict[str, object]:
    """Tell what was measured, where and when, in words without paths of this machine."""
    local = evaluation.readers.free.local
    return {
        "documents": len(evaluation.documents),
        **asdict(sampling),
        "max_new_tokens": evaluation.max_new_tokens,
        "instructions": evaluation.instructions,
        "model": Path(local.name).name,
        "dtype": str(local.model.dtype),
        "stored_dtype": evaluation.readers.free.config.stored_dtype,
        "device": _device_name(local.device.type),
        "python": platform.python_version(),
        "acre_rag": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _readers(
    model: str | None,
    adapter: str | None,
    device: str | None,
    dtype: options.NumberType | None,
    stored: options.StoredForm | None,
) -> "Readers":
    """Load the model, and its adapter where there is one."""
    from acre_rag.config import ACREConfig
    from acre_rag.evaluate.methods import Readers
    from acre_rag.model.adapter_files import load_adapter
    from acre_rag.model.demo import demo_adapter_directory
    from acre_rag.model.local import LocalModel

    local = LocalModel.load(model, device=device, dtype=dtype and dtype.value)
    place = demo_adapter_directory() if local.name == DEMO_MODEL else None
    if adapter is not None:
        place = None if adapter == NO_ADAPTER else Path(adapter)
    loaded = None if place is None else load_adapter(place)
    defaults = ACREConfig()
    config = ACREConfig(
        interval_tokens=getattr(loaded, "interval_tokens", defaults.interval_tokens),
        stored_dtype=stored.value if stored else defaults.stored_dtype,
    )
    return Readers.over(local, loaded, config)


def _names(methods: list[str] | None, readers: "Readers") -> list[str]:
    from acre_rag.evaluate.methods import METHODS, WITH_ADAPTER

    if methods:
        return [name for given in methods for name in given.replace(",", " ").split()]
    if readers.trained is not None:
        return list(METHODS)
    say(f"note: {readers.free.local.name} has no landmark adapter; left out what needs one")
    return [name for name in METHODS if name not in WITH_ADAPTER]


def _device_name(kind: str) -> str:
    if kind != "cuda":
        return f"{kind}, {platform.machine()}"
    import torch

    return str(torch.cuda.get_device_name())
