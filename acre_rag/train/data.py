"""Training data from packs or straight from JSON lines, and the shapes of steps that fit it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from acre_rag.errors import DocumentError
from acre_rag.model.prompt import PromptFrame
from acre_rag.train.batches import StepShape
from acre_rag.train.measure import read_gold
from acre_rag.train.packs import QuestionPack, Ragged, load_texts
from acre_rag.train.prepare import pack_questions, pack_texts
from acre_rag.train.recipe import SHAPES

ANSWER_TOKENS = 24
_PACK = ".safetensors"


def open_texts(paths: Sequence[Path], frame: PromptFrame) -> Ragged:
    """Load a pack of texts, or tokenize texts: JSON lines, plain text, Markdown.

    Raises:
        DocumentError: A file cannot be read, or a line of it is malformed.
    """
    if len(paths) == 1 and paths[0].suffix == _PACK:
        return load_texts(paths[0])
    return pack_texts(paths, frame)


def open_questions(path: Path, frame: PromptFrame) -> tuple[QuestionPack, list[list[str]]]:
    """Load a pack of questions with its gold answers, or tokenize JSON lines.

    Raises:
        DocumentError: The file cannot be read, or a line of it is malformed.
    """
    if path.suffix == _PACK:
        return QuestionPack.load(path), read_gold(path)
    pack, kept = pack_questions(path, frame, answer_tokens=ANSWER_TOKENS)
    return pack, [[str(answer) for answer in line["answers"]] for line in kept]  # type: ignore[attr-defined]


def open_packs(paths: Sequence[Path], frame: PromptFrame) -> dict[str, QuestionPack]:
    """Load or tokenize several sets of questions: packs by the name of their file."""
    return {name_of(path): open_questions(path, frame)[0] for path in paths}


def name_of(path: Path) -> str:
    """Name a set by its file: as in the recipe where it begins so, else up to the first dot."""
    stem = path.name.split(".")[0]
    return next((shape.pack for shape in SHAPES if stem.startswith(shape.pack)), stem)


def fitting_shapes(
    packs: Mapping[str, QuestionPack], shapes: Sequence[StepShape], *, scale: float, tokens: int
) -> list[StepShape]:
    """Choose the shapes of steps that packs have enough text for.

    Args:
        packs: By name; one that no shape is made for takes those that are made for `squad`.
        shapes: Of a recipe.
        scale: Contexts of a step, as a share of the recipe's.
        tokens: Most tokens of a document.

    Raises:
        DocumentError: The packs have too little text for any of them.
    """
    known = {shape.pack for shape in shapes}
    wanted = [shape for shape in shapes if shape.pack in packs]
    for name in packs.keys() - known:
        wanted += [replace(shape, pack=name) for shape in shapes if shape.pack == "squad"]
    fitting = [
        shape
        for shape in wanted
        if shape.tokens <= min(tokens, int(packs[shape.pack].pieces.lengths.sum()))
    ]
    if not fitting:
        least = min((shape.tokens for shape in wanted), default=0)
        texts = {name: int(pack.pieces.lengths.sum()) for name, pack in packs.items()}
        raise DocumentError(
            f"the documents have {texts} tokens, and at most {tokens} are asked for; expected "
            f"documents of {least} tokens to be made of them: give more text, or raise the tokens"
        )
    return [shape.scaled(scale) for shape in fitting]
