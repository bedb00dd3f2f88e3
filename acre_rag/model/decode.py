"""Decode over a refilled cache: one rotation, then the stock model's own `generate`."""

import threading
from collections.abc import Callable, Generator
from queue import Queue

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer, TextIteratorStreamer

from acre_rag.cache import KVBlock, RoomyBlock
from acre_rag.model.growing_cache import growing_cache
from acre_rag.model.local import LocalModel
from acre_rag.model.question_rows import read_question
from acre_rag.model.reading import Memory, ReadingTwin
from acre_rag.model.support import layer_devices


def rotated_cache(local: LocalModel, twin: ReadingTwin, block: KVBlock) -> DynamicCache:
    """Copy a block, rotate it to positions 0 and up, and make it a stock cache."""
    return rotate_into_cache(local, twin, RoomyBlock.copied(block))


def rotate_into_cache(local: LocalModel, twin: ReadingTwin, spliced: RoomyBlock) -> DynamicCache:
    """Rotate a spliced block in place to positions 0 and up, and make a stock cache of it.

    Cache length then equals the next position, as `generate` expects. The block's memory becomes
    the cache's: what is made in inference mode answers in inference mode.
    """
    keys, values = spliced.whole.keys[:, None], spliced.whole.values[:, None]
    positions = torch.arange(spliced.tokens, device=keys.device)
    twin.rotate_in_place(keys[:, :, :, : spliced.tokens], positions)
    placed = zip(keys, values, layer_devices(local.model), strict=True)
    layers = [
        (own_keys.to(device), own_values.to(device)) for own_keys, own_values, device in placed
    ]
    return growing_cache(layers, spliced.tokens, spliced.lease)


def asked_cache(
    local: LocalModel, twin: ReadingTwin, spliced: RoomyBlock, ids: list[int]
) -> tuple[DynamicCache, list[int]]:
    """Rotate a spliced block into a stock cache, and read the question's landmarks into it.

    Args:
        local: Model and tokenizer.
        twin: Reads with the adapter.
        spliced: As for `rotate_into_cache`.
        ids: Token ids of the question.

    Returns:
        The cache, and the ids that are to follow it: the last one, where landmarks stand before
        it, else all.
    """
    cache = rotate_into_cache(local, twin, spliced)
    taken = spliced.taken
    own, held = read_question(twin, Memory(taken.keys[:, None], taken.values[:, None]), ids)
    if held:
        for layer, device in enumerate(layer_devices(local.model)):
            keys, values = own.keys[layer, None], own.values[layer, None]
            cache.update(keys.to(device), values.to(device), layer)
    return cache, ids[held:]


def decode(
    local: LocalModel,
    cache: DynamicCache | None,
    ids: list[int],
    max_new_tokens: int,
    on_token: Callable[[], None],
) -> Generator[str, None, None]:
    """Generate greedily after `ids`, yielding text as it comes; closing it stops the model.

    The model runs in a thread of its own. An error there is raised here.

    Args:
        local: Model and tokenizer.
        cache: Rotated keys and values of everything before `ids`; `None` where nothing is.
        ids: Token ids that follow the cache.
        max_new_tokens: Most tokens to generate.
        on_token: Called after every token, before its text is whole enough to be given.
    """
    streamer = TextIteratorStreamer(
        local.tokenizer,
        skip_prompt=True,
        skip_special_tokens=True,
    )
    cancelled = threading.Event()
    failures: Queue[BaseException] = Queue()

    def run() -> None:
        watch = Watch(cancelled, on_token)
        try:
            with local.answering():
                generate_greedily(local, ids, cache, max_new_tokens, watch, streamer)
        except BaseException as error:  # noqa: BLE001  # handed to the consumer, which waits
            failures.put(error)
            # `end` would decode what is left, which may be what failed.
            streamer.text_queue.put(streamer.stop_signal)

    thread = threading.Thread(target=run, name="acre-decode", daemon=True)
    thread.start()
    try:
        for piece in streamer:
            if piece:
                yield piece
        if not failures.empty():
            raise failures.get()
    finally:
        cancelled.set()
        thread.join()


def generate_greedily(
    local: LocalModel,
    ids: list[int],
    cache: DynamicCache | None,
    max_new_tokens: int,
    watch: "Watch",
    streamer: BaseStreamer | None = None,
) -> Tensor:
    """Run the model's own `generate` behind a cache, always taking the likeliest token.

    Args:
        local: Model and tokenizer.
        ids: Token ids that follow the cache.
        cache: Rotated keys and values of everything before `ids`, which grows; `None` where
            nothing is.
        max_new_tokens: Most tokens to generate.
        watch: Looks on after every token.
        streamer: Given every token as it comes.

    Returns:
        `ids` and what was generated, (1, tokens), int64.
    """
    rows = torch.tensor([ids], device=local.device)
    length = len(ids) + (cache.get_seq_length() if cache is not None else 0)
    model = local.replays.answering(local.model, cache, max_new_tokens)
    with local.lock, torch.inference_mode():
        made: Tensor = model.generate(  # type: ignore[operator]  # a mixin's method
            rows,
            past_key_values=cache,
            attention_mask=torch.ones(1, length, dtype=torch.long, device=local.device),
            generation_config=greedy_settings(local, max_new_tokens),
            stopping_criteria=StoppingCriteriaList([watch]),
            streamer=streamer,
        )
    return made


def greedy_settings(local: LocalModel, max_new_tokens: int) -> GenerationConfig:
    """Make settings for `generate`: always the likeliest token, whatever the model's own say."""
    own: GenerationConfig | None = local.model.generation_config
    eos = own.eos_token_id if own is not None else None
    if eos is None:
        eos = local.tokenizer.eos_token_id
    pad = local.tokenizer.pad_token_id
    if pad is None:
        pad = eos[0] if isinstance(eos, list) else eos
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=eos,
        pad_token_id=pad,
        # Left open, these would be filled in from the model's own settings for chat.
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        num_beams=1,
        no_repeat_ngram_size=0,
    )


class Watch(StoppingCriteria):
    """Looks on after every token: counts it, and stops where that is wished."""

    def __init__(self, event: threading.Event, on_token: Callable[[], None]) -> None:
        self.event = event
        self.on_token = on_token

    def __call__(
        self,
        input_ids: Tensor,
        scores: Tensor,  # noqa: ARG002  # the base class passes it
        **_unused: object,
    ) -> Tensor:
        """Say of each row whether it is to stop."""
        self.on_token()
        return torch.full(
            (len(input_ids),), self.event.is_set(), dtype=torch.bool, device=input_ids.device
        )
