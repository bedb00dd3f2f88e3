"""A model tuned by low-rank changes (LoRA, through PEFT), for baselines that are trained too."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from acre_rag.errors import AdapterError, ConfigError
from acre_rag.model.local import LocalModel


class TunedModel(nn.Module):
    """Low-rank changes to all linear layers of a frozen model, in float32, as parameters.

    The model itself is changed: from here on it computes with them.

    Args:
        local: Model and tokenizer.
        rank: Rank of every change.

    Raises:
        ConfigError: The library for it is not installed.
    """

    def __init__(self, local: LocalModel, rank: int) -> None:
        super().__init__()
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise _not_installed() from error
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with _quiet():
            peft = get_peft_model(local.model, config)
        changes = {n: p for n, p in peft.named_parameters() if p.requires_grad}
        self.changes = nn.ParameterDict({n.replace(".", "/"): p for n, p in changes.items()})
        # In a tuple they are no modules of this one, whose parameters the changes alone are.
        self._models = (local.model, peft)
        local.model.train(mode=False)

    def groups(self, learning_rate: float, selection_rate: float) -> list[dict[str, object]]:  # noqa: ARG002  # nothing selects
        """Give the parameters to an optimizer, all alike."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def states(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """Run rows through the model: last hidden states, (batch, rows, hidden).

        Args:
            ids: Token ids, (batch, rows).
            mask: What each row sees, (batch, 1, rows, rows), bool; `None` for all before it.
            positions: Place of each row, (batch, rows).
        """
        model, dtype = self._models[0], self._models[0].dtype
        half = dtype in {torch.bfloat16, torch.float16}
        with torch.autocast(ids.device.type, dtype=dtype if half else None, enabled=half):
            output = model.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
            )
            states: Tensor = output.last_hidden_state
            return states

    def save(self, directory: Path) -> None:
        """Write the changes in PEFT's layout.

        Raises:
            AdapterError: The directory cannot be written.
        """
        try:
            # A look at the hub, for whether its vocabulary has changed, would find no network.
            self._models[1].save_pretrained(str(directory), save_embedding_layers=False)
        except OSError as error:
            raise AdapterError(
                f"{directory} cannot be written ({error.strerror}); expected a directory with room"
            ) from error


def load_tuned(local: LocalModel, directory: Path) -> LocalModel:
    """Copy a model, and merge changes that were saved into the copy.

    Raises:
        AdapterError: There are none, or they are of another model.
        ConfigError: The library for it is not installed.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise _not_installed() from error
    if not (directory / "adapter_config.json").is_file():
        raise AdapterError(
            f"{directory} has no adapter_config.json; expected what acre train baseline wrote: "
            "check the path"
        )
    try:
        with _quiet():
            tuned = PeftModel.from_pretrained(copy.deepcopy(local.model), str(directory))
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise AdapterError(
            f"{directory} does not fit {local.name} ({str(error).splitlines()[0]}); expected "
            "changes to this model: name the model they were trained for"
        ) from error
    merged: PreTrainedModel = tuned.merge_and_unload()
    return replace(local, model=merged.eval())


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what transformers has to say of names that PEFT still uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def _not_installed() -> ConfigError:
    return ConfigError(
        "tuned baselines need peft, which is not installed; expected the train extra: run "
        "pip install 'acre-rag[train]'"
    )
