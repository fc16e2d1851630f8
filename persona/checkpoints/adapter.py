"""Reading a PEFT LoRA adapter as what it does to a base checkpoint.

Format: ``adapter_config.json`` and ``adapter_model.safetensors``, as ``PeftModel.save_pretrained`` writes them.
The arithmetic is that of ``merge_and_unload`` (peft/tuners/lora/layer.py), in fp32:

    Linear      ΔW = s · B · A                    ``lora_A`` [r, in], ``lora_B`` [out, r]
    Conv1D      ΔW = s · (B · A)ᵀ                 weights stored [in, out] (``fan_in_fan_out``)
    Embedding   ΔW = s · (B · A)ᵀ                 ``lora_embedding_A`` [r, vocabulary], ``lora_embedding_B`` [dim, r]
    ConvNd      ΔW = s · B · A                    ``lora_A`` [r, in, k…], ``lora_B`` [out, r, 1…]
    s = alpha / r, or alpha / √r for rsLoRA; ``rank_pattern`` and ``alpha_pattern`` by module

Whatever cannot be written so is made dense (``adapters.dense``, ``adapters.experts``) or refused: nothing that
changes the arithmetic is passed over.
"""

from __future__ import annotations

from pathlib import Path

from persona.checkpoints.adapters import collect, ties
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
from persona.errors import CheckpointError

__all__ = ["CONFIG", "WEIGHTS", "Adapter", "BaseView", "Factor", "LowRank", "MadeDense", "matrix", "open_adapter"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


def open_adapter(folder: Path, base: BaseView) -> Adapter:
    """The adapter in ``folder`` in terms of ``base``; CheckpointError if it is not one, or not one for this base."""
    _check_folder(folder)
    config = read_config(folder / CONFIG)
    file = TensorFile(folder / WEIGHTS)
    found = collect.collect(file, sort_keys(file), config, base)
    return ties.settle(file, config, base, found)


def _check_folder(folder: Path) -> None:
    if not (folder / CONFIG).is_file():
        raise _no_config(folder)
    if (folder / WEIGHTS).is_file():
        return
    if (folder / PICKLED).is_file():
        raise CheckpointError(
            f"{folder} holds its weights as {PICKLED}, a pickle, which can run code when it is opened",
            f"Turn it into safetensors first: persona convert {folder} -o {folder}-safe",
        )
    raise CheckpointError(f"{folder} has {CONFIG} and no {WEIGHTS}", "Copy the adapter again: it is incomplete.")


def _no_config(folder: Path) -> CheckpointError:
    inner = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if len(inner) > 1:
        return CheckpointError(
            f"{folder} holds more than one adapter: {', '.join(inner)}",
            f"Name one of them, for example {folder / inner[0]}.",
        )
    if inner:
        return CheckpointError(f"{folder} has no {CONFIG}", f"The adapter is one folder further: {folder / inner[0]}.")
    return CheckpointError(
        f"{folder} has no {CONFIG}", "Give the folder that peft's save_pretrained wrote, with both of its files."
    )
