"""Sorting the keys of ``adapter_model.safetensors`` by kind.

A key is ``base_model.model.<module>.<part>`` with one of these parts. In a state dict saved by hand, it may contain an
adapter's name (``lora_A.default.weight``) and parts of wrappers (``wrappers.unwrapped``), and lack the prefix.

    lora_A.weight, lora_B.weight, lora_B.bias        Linear, Conv1D, ConvNd, parameters
    lora_embedding_A, lora_embedding_B               Embedding
    lora_magnitude_vector                            DoRA
    token_adapter.trainable_tokens_delta             trainable_token_indices
    weight, bias, …                                  modules_to_save, save_embedding_layers, bias="all"
    base_layer.weight                                a copy of the base, saved if embeddings are a target
    base_layer.bias                                  bias="all" and "lora_only"
    modules_to_save.…, original_module.…             a second copy, and the untrained original (bias="all")

Source: peft/utils/save_and_load.py, tuners_utils.py (``_get_adapter_state_dict``), other.py (the wrappers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from persona.checkpoints.adapters.config import MERGE, SAVE_AGAIN
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.checkpoints.wrappers import unwrapped
from persona.errors import CheckpointError

PREFIX: Final = "base_model.model."
_LORA: Final = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?(?:\.(?P<leaf>weight|bias))?"
)
_TOKENS: Final = re.compile(r"(?P<module>.+)\.token_adapter\.trainable_tokens_delta(?:\.(?P<adapter>[^.]+))?")
_COPY: Final = re.compile(r"(?P<module>.+?)\.(?:token_adapter\.)?base_layer\.(?P<leaf>weight|bias)")
_SAVED: Final = re.compile(r"(?P<module>.+)\.modules_to_save\.(?:default\.)?(?P<leaf>.+)")
_UNUSED: Final = re.compile(r".+\.original_module\..+|.+\.lora_velora_embed(\.[^.]+)?")
"""Keys without effect: a wrapped module's untrained original, and VeLoRA's projection (backward pass only)."""
_UNKNOWN: Final = re.compile(r"(^|\.)(lora_|base_layer\.|token_adapter\.)")


@dataclass
class Keys:
    """Tensors by the model's module paths (``lora``, ``tokens``) or tensor names (``full``, ``copies``)."""

    lora: dict[str, dict[str, TensorInfo]] = field(default_factory=dict)
    tokens: dict[str, TensorInfo] = field(default_factory=dict)
    full: dict[str, TensorInfo] = field(default_factory=dict)
    copies: dict[str, TensorInfo] = field(default_factory=dict)


def sort_keys(file: TensorFile) -> Keys:
    """Sort all keys of a file.

    Raises:
        CheckpointError: a key is unknown, or the file contains more than one adapter.
    """
    if not file.tensors:
        raise CheckpointError(
            f"{file.path} contains no tensors", "Gather sharded weights (ZeRO-3, FSDP) before saving the adapter."
        )
    keys, adapters = Keys(), set[str]()
    for key in sorted(file.tensors):
        name = unwrapped(unwrapped(key).removeprefix(PREFIX))
        adapters |= _place(file, keys, name, file.tensors[key])
    if len(adapters) > 1:
        raise CheckpointError(
            f"{file.path} contains more than one adapter: {', '.join(sorted(adapters))}",
            "Save them one by one with peft's save_pretrained(folder, selected_adapters=[name]).",
        )
    return keys


def _place(file: TensorFile, keys: Keys, name: str, info: TensorInfo) -> set[str]:
    """Sort one tensor; returns the adapter's name if the key contains one."""
    if match := _LORA.fullmatch(name):
        part = "bias" if match["leaf"] == "bias" else match["part"].removeprefix("lora_")
        _put(file, keys.lora.setdefault(match["module"], {}), part, info)
        return {match["adapter"]} - {None}
    if match := _TOKENS.fullmatch(name):
        _put(file, keys.tokens, match["module"], info)
        return {match["adapter"]} - {None}
    if _UNUSED.fullmatch(name):
        return set()
    if match := _COPY.fullmatch(name):
        table = keys.copies if match["leaf"] == "weight" else keys.full
        _put(file, table, f"{match['module']}.{match['leaf']}", info)
        return set()
    if match := _SAVED.fullmatch(name):
        name = f"{match['module']}.{match['leaf']}"
    if _UNKNOWN.search(name):
        raise CheckpointError(
            f"{file.path}: unknown key '{info.name}'", f"It is from a newer or modified PEFT. {MERGE}"
        )
    _put(file, keys.full, name, info)
    return set()


def _put(file: TensorFile, table: dict[str, TensorInfo], at: str, info: TensorInfo) -> None:
    """Add a tensor; a second one must be equal (bias="all" saves a saved module's bias twice)."""
    other = table.setdefault(at, info)
    if other is not info and not same(file, other, info):
        raise CheckpointError(
            f"{file.path}: '{other.name}' and '{info.name}' are different values for the same tensor",
            f"{SAVE_AGAIN} Select a single adapter.",
        )


def same(file: TensorFile, one: TensorInfo, other: TensorInfo) -> bool:
    """Whether two stored tensors are equal bit for bit."""
    alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    return alike and all((a == b).all() for a, b in zip(file.chunks(one), file.chunks(other), strict=True))
