"""Reading a LoRA adapter as changes to a base checkpoint: PEFT's, or mlx-lm's (``adapters.mlx``).

Format: ``adapter_config.json`` and ``adapter_model.safetensors``, as ``PeftModel.save_pretrained`` writes them.
The arithmetic is the one of ``merge_and_unload`` (peft/tuners/lora/layer.py), in fp32:

    Linear      ΔW = s · B · A                    ``lora_A`` [r, in], ``lora_B`` [out, r]
    Conv1D      ΔW = s · (B · A)ᵀ                 weights stored [in, out] (``fan_in_fan_out``)
    Embedding   ΔW = s · (B · A)ᵀ                 ``lora_embedding_A`` [r, vocabulary], ``lora_embedding_B`` [dim, r]
    ConvNd      ΔW = s · B · A                    ``lora_A`` [r, in, k…], ``lora_B`` [out, r, 1…]
    s = alpha / r, or alpha / √r for rsLoRA; ``rank_pattern`` and ``alpha_pattern`` by module

Everything else is made dense (``adapters.dense``, ``adapters.experts``) or refused: no setting that changes the
arithmetic is ignored.
"""

from __future__ import annotations

from pathlib import Path

from persona.checkpoints.adapters import collect, mlx, ties
from persona.checkpoints.adapters.config import read_config
from persona.checkpoints.adapters.keys import sort_keys
from persona.checkpoints.adapters.model import (
    Adapter,
    BaseView,
    Factor,
    LowRank,
    MadeDense,
    matrix,
)
from persona.checkpoints.tensorfile import TensorFile
from persona.checkpoints.ties import is_embedding, is_head
from persona.errors import CheckpointError

__all__ = ["CONFIG", "WEIGHTS", "Adapter", "BaseView", "Factor", "LowRank", "MadeDense", "matrix", "open_adapter"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


def open_adapter(folder: Path, base: BaseView, tied: str | None = None) -> Adapter:
    """Open the adapter in ``folder`` and express it as changes to the tensors of ``base``.

    Args:
        tied: What to do with a change to one of two tied names: ``untie`` or ``merge`` (see ``adapters.ties``).

    Raises:
        CheckpointError: ``folder`` is not an adapter, its configuration cannot be expressed as changes to weights,
            or it does not fit ``base``.
    """
    _check_folder(folder)
    if mlx.is_mlx(folder):
        return mlx.open_mlx(folder, CONFIG, base, tied)
    config = read_config(folder / CONFIG)
    file = TensorFile(folder / WEIGHTS)
    changes = collect.collect(file, sort_keys(file), config, base)
    adapter = ties.settle(file, config, base, changes, tied)
    _check_vocabulary(adapter, base)
    return adapter


def _check_vocabulary(adapter: Adapter, base: BaseView) -> None:
    """Check that embedding and head have the same number of rows, if the base has both with the same."""
    rows = {name: shape[0] for name, (_, shape) in base.names.items() if len(shape) == 2}
    grown = rows | {name: tensor.shape[0] for table in (adapter.full, adapter.made) for name, tensor in table.items()}
    heads = [name for name in rows if is_head(name)]
    for name in (name for name in rows if is_embedding(name) and grown[name] > rows[name]):
        for head in heads:
            if rows[head] == rows[name] and grown[head] != grown[name]:
                raise CheckpointError(
                    f"{adapter.file.path} has {grown[name]} rows for '{name}' but {grown[head]} for '{head}'",
                    "PEFT did not save the head's new rows: add the head to modules_to_save and train again.",
                )


def _check_folder(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        raise _no_config(folder)
    if (folder / WEIGHTS).is_file() or mlx.is_mlx(folder):
        return
    if (folder / PICKLED).is_file():
        raise CheckpointError(
            f"{folder} contains {PICKLED}, a pickle, which can run code when it is opened",
            f"Convert it to safetensors first: persona convert {folder} -o {folder}-safe",
        )
    raise CheckpointError(f"{folder} has {CONFIG} but no {WEIGHTS}", "The adapter is incomplete: copy it again.")


def _no_config(folder: Path) -> CheckpointError:
    inner = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if len(inner) > 1:
        return CheckpointError(
            f"{folder} contains more than one adapter: {', '.join(inner)}",
            f"Give one of them, for example {folder / inner[0]}.",
        )
    if inner:
        return CheckpointError(f"{folder} has no {CONFIG}", f"The adapter is in a subfolder: {folder / inner[0]}")
    return CheckpointError(f"{folder} has no {CONFIG}", "Give the folder that peft's save_pretrained wrote.")
