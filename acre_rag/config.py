"""Settings of an engine: how documents are read, and how questions are put."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from acre_rag.errors import ConfigError

StoredDtype = Literal["bfloat16", "float16", "float32", "int8", "int8-int4"]

Plan = Literal["refill", "recompute", "prefill"]
"""A way to answer: over L1 and L2 from the store; over those encoded again for the question; or
over the whole text, as the plain model would."""

Policy = Literal[Plan, "auto"]
"""Which plan to follow: always the same, or the one that is cheapest here, by `explain`."""

RefillTokens = int | Literal["auto"] | None
"""Most raw tokens to refill: a number, `None` for a share of the documents, or `auto` for as many
as the question needs, told from its scores."""

MOST_LANDMARKS = 256
"""Landmarks that stay beside those of what is refilled: as many as 4,096 tokens have. More of
them, of longer documents, cost time and memory, and distract a small model from the evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The words around a document and a question.

    What stands before the document is part of every cache; what follows it is not, so that
    `question` and `instructions` may change from one question to the next.

    Attributes:
        introduction: Opens the user's turn, before the documents.
        question: Follows the documents; `{question}` marks the place of the question.
        instructions: Follows the question, unless the question brings its own.
    """

    introduction: str = "Read the context and answer the question.\n\n"
    question: str = "\nQuestion: {question}\n"
    instructions: str = "Answer with a short phrase from the context."

    def __post_init__(self) -> None:
        if self.question.count("{question}") != 1:
            raise ConfigError(
                f"prompt question is {self.question!r}; expected exactly one '{{question}}': add it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ACREConfig:
    """Settings of an engine.

    `selection`, `most_landmarks`, `on_damage` and `policy` may change at any time; with any other,
    caches are made anew.

    Attributes:
        interval_tokens: Raw tokens that one landmark stands for.
        window_tokens: Raw tokens prefilled in one step; a multiple of `interval_tokens`.
        segment_tokens: Raw tokens after which the landmarks start anew; a multiple of
            `window_tokens`. A segment ends sooner where the context is too short for it.
        stored_dtype: Number type of the stored keys and values. `int8` and `int8-int4` (keys in
            8 bits, values in 4) are for raw tokens alone: landmarks are then in bfloat16.
        context_tokens: Longest sequence the model may see; `None` takes the model's own limit.
        selection: `learned` weights of the adapter (or the calibrated heads of the
            training-free mode), or the `published` rule of ACRE (last layer, all heads).
        most_landmarks: Landmarks that stay in the refilled cache beside those of the refilled
            intervals: the best-scoring ones. A question attends to all of them when it chooses.
        on_damage: Encode a damaged or missing value again (`recompute`), or `raise`.
        policy: The plan that questions follow: `refill` from the store; `recompute`, encoding the
            documents for each question; `prefill`, the whole text in front of the model; `auto`
            takes what `explain` predicts to be cheapest.
        prompt: The words around a document and a question.
    """

    interval_tokens: int = 16
    window_tokens: int = 1024
    segment_tokens: int = 16384
    stored_dtype: StoredDtype = "int8"
    context_tokens: int | None = None
    selection: Literal["learned", "published"] = "learned"
    most_landmarks: int = MOST_LANDMARKS
    on_damage: Literal["recompute", "raise"] = "recompute"
    policy: Policy = "refill"
    prompt: Prompt = field(default_factory=Prompt)

    def __post_init__(self) -> None:
        for name in ("interval_tokens", "window_tokens", "segment_tokens", "context_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more: raise it")
        most: object = self.most_landmarks
        if not isinstance(most, int) or most < 0:
            raise ConfigError(
                f"most_landmarks is {most!r}; expected 0 or more: give a number, as "
                "large as you like"
            )
        for small, large in (
            ("interval_tokens", "window_tokens"),
            ("window_tokens", "segment_tokens"),
        ):
            if getattr(self, large) % getattr(self, small):
                raise ConfigError(
                    f"{large} is {getattr(self, large)}; expected a multiple of {small} "
                    f"({getattr(self, small)}): change one of them"
                )
        for name, allowed in (
            ("stored_dtype", get_args(StoredDtype)),
            ("selection", ("learned", "published")),
            ("on_damage", ("recompute", "raise")),
            ("policy", get_args(Policy)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}"
                )
