"""llama.cpp's prompt cache on the demo model: what a laptop's owner would pick."""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.rounds import Way, take_turns
from acre_rag.bench.scene import Scene, Subject, fits
from acre_rag.errors import ConfigError
from acre_rag.model.demo import packaged_gguf
from acre_rag.model.location import DEMO_MODEL


def llama_cpp(scene: Scene) -> Findings:
    """Compare first tokens with llama.cpp's, from a saved prompt and from the whole text.

    It computes with the package's weights of 4 bits, ours with the same weights unpacked: each
    as its users have it. Both get the same token ids.
    """
    if scene.local.name != DEMO_MODEL or scene.local.device.type != "cpu":
        return Findings(notes=("llama.cpp: left out, it has the demo model on the CPU alone",))
    try:
        import llama_cpp as library
    except ImportError:
        return Findings(
            notes=("llama.cpp: left out, llama-cpp-python is not installed (pip builds it)",)
        )
    found = [_one_length(scene, library, tokens) for tokens in scene.sizes.tokens]
    return Findings.together(
        [Findings(facts={"llama-cpp-python": str(library.__version__)}), *found]
    )


def _one_length(scene: Scene, library: Any, tokens: int) -> Findings:  # noqa: ANN401  # untyped
    scene.say(f"llama.cpp: {tokens} tokens")
    with scene.opened(scene.folder / f"llama-{tokens}") as engine:
        subject = Subject.made(engine, tokens)
        frame = engine.reader.frame
        if not fits(engine, tokens, frame.question_rows(next(subject.questions))):
            return Findings(notes=(f"llama.cpp: {tokens} tokens are longer than the context",))
        engine.ingest(subject.document)
        rows = frame.question_rows(next(subject.questions)).ids
        prompt = SavedPrompt.made(
            library, scene.folder / f"{tokens}.state", subject.prompt_ids, rows
        )
        try:
            times = take_turns(
                [
                    Way(
                        name="ours",
                        run=lambda: engine.ask(
                            next(subject.questions), [subject.id], max_new_tokens=1
                        ),
                    ),
                    Way(name="saved", run=prompt.from_file),
                    Way(name="fresh", run=prompt.from_text),
                ],
                scene.sizes.rounds,
            )
        finally:
            prompt.model.close()
    return Findings(
        comparisons=tuple(
            Comparison.of_times(
                "first token, directory, warm",
                against,
                tokens=tokens,
                ours=times["ours"],
                theirs=times[way],
            )
            for way, against in (
                ("saved", "llama.cpp, prompt cache from a file"),
                ("fresh", "llama.cpp, full prefill"),
            )
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPrompt:
    """A document that llama.cpp has read, and keeps in a file.

    Attributes:
        library: The module.
        model: Opened over the packaged weights.
        path: The file.
        before: Token ids up to the question.
        rows: Token ids of the question and all after it.
    """

    library: Any
    model: Any
    path: Path
    before: list[int]
    rows: list[int]

    @staticmethod
    def made(library: Any, path: Path, before: list[int], rows: list[int]) -> "SavedPrompt":  # noqa: ANN401  # untyped
        """Read the document, and save what was computed.

        Raises:
            ConfigError: llama.cpp did not write it.
        """
        import torch

        model = library.Llama(
            model_path=str(packaged_gguf()),
            n_ctx=len(before) + len(rows) + 8,
            n_threads=torch.get_num_threads(),
            n_threads_batch=torch.get_num_threads(),
            verbose=False,
        )
        model.eval(before)
        ids = (library.llama_token * len(before))(*before)
        if not library.llama_state_save_file(model.ctx, bytes(path), ids, len(before)):
            raise ConfigError(
                f"llama.cpp did not write {path}; expected room for its state: free some"
            )
        return SavedPrompt(library=library, model=model, path=path, before=before, rows=rows)

    def from_file(self) -> None:
        """Load the prompt, and answer up to the first token.

        Raises:
            ConfigError: llama.cpp did not read it.
        """
        self.model.reset()
        room = len(self.before)
        ids, found = (self.library.llama_token * room)(), ctypes.c_size_t(0)
        read = self.library.llama_state_load_file(
            self.model.ctx, bytes(self.path), ids, room, ctypes.byref(found)
        )
        if not read or found.value != room:
            raise ConfigError(
                f"llama.cpp read {found.value} tokens of {self.path}; expected {room}: save again"
            )
        self.model.n_tokens = room
        self.model.input_ids[:room] = self.before
        self._first_token(self.rows)

    def from_text(self) -> None:
        """Read everything, and answer up to the first token."""
        self.model.reset()
        self._first_token([*self.before, *self.rows])

    def _first_token(self, ids: list[int]) -> None:
        self.model.eval(ids)
        self.model.sample(temp=0.0)
