"""Writing a PEFT adapter: the module that a base tensor belongs to, its keys, and ``adapter_config.json``.

ΔW = B · A with ``lora_alpha`` = ``r`` for every module, so that PEFT's scaling is 1:

    linear      ΔW = B · A       weight [out, in]       ``lora_A`` [r, in], ``lora_B`` [out, r]
    conv1d      ΔW = (B · A)ᵀ    weight [in, out]       ``lora_A`` [r, in], ``lora_B`` [out, r]
    embedding   ΔW = (B · A)ᵀ    weight [vocab, dim]    ``lora_embedding_A`` [r, vocab], ``lora_embedding_B`` [dim, r]
    conv        ΔW = B · A       weight [out, in, k…]   ``lora_A`` [r, in, k…], ``lora_B`` [out, r, 1…]

The format also meets the requirements of other readers. vLLM (vllm/lora/peft_helper.py, lora_model.py) requires ``r``,
``lora_alpha`` and ``target_modules``, keys that start with ``base_model.model.``, and no ``modules_to_save``, bias or
DoRA. It ignores ``rank_pattern`` and ``alpha_pattern``: it scales every module by lora_alpha / r, which is 1 here, and
compares ``r``, the largest rank, with its ``--max-lora-rank``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from persona.checkpoints.adapters.keys import PREFIX
from persona.checkpoints.adapters.layers import stored_in_out_around

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

    Shape = tuple[int, ...]

TURNED: Final = frozenset({"conv1d", "embedding"})
"""Kinds of modules with ΔW = (B · A)ᵀ."""
BARE: Final = {"gpt2": "transformer.", "bloom": "transformer.", "opt": "model."}
"""The prefix that checkpoints of the bare model lack, by ``model_type``; early models were uploaded that way."""
RENAMED: Final = (("language_model.model.", "model.language_model."), ("language_model.lm_head.", "lm_head."))
"""Prefixes of names in files → prefixes in the model, since transformers 5."""
_EMBEDDING: Final = re.compile(r"(.*\.)?(\w*embed(ding|dings|_tokens|_in|_positions)?|wte|wpe|shared)")
_ROUTER: Final = re.compile(r".*\.(gate|router|shared_expert_gate)")
_EXPERT: Final = re.compile(r".*\.experts\.\d+\..*")


@dataclass(frozen=True)
class Module:
    """A module that an adapter can change; ``tensor`` is its weight in the base, ``path`` its name in the model."""

    tensor: str
    path: str
    kind: str
    shape: Shape

    @property
    def keys(self) -> tuple[str, str]:
        """The names of A and B in the file."""
        ends = (
            ("lora_embedding_A", "lora_embedding_B") if self.kind == "embedding" else ("lora_A.weight", "lora_B.weight")
        )
        return f"{PREFIX}{self.path}.{ends[0]}", f"{PREFIX}{self.path}.{ends[1]}"

    def shapes(self, rank: int) -> tuple[Shape, Shape]:
        """The shapes of A and B in the file."""
        if self.kind in TURNED:
            return (rank, self.shape[0]), (self.shape[1], rank)
        return (rank, *self.shape[1:]), (self.shape[0], rank, *(1 for _ in self.shape[2:]))

    def turned(self, left: Float32, right: Float32) -> tuple[Float32, Float32]:
        """A [r, …] and B […, r] from L and R in the weight's orientation (ΔW = L · R), and vice versa."""
        return (left.T, right.T) if self.kind in TURNED else (right, left)


@dataclass(frozen=True)
class Unsaid:
    """Why an adapter cannot express a recipe's change to a tensor."""

    why: str


def module_of(
    name: str,
    shapes: Mapping[str, Shape],
    tied: Mapping[str, str],
    config: Mapping[str, Any],
    *,
    turned: bool | None = None,
) -> Module | Unsaid:
    """The module whose weight is the base tensor ``name``, or why there is none.

    A tied head or embedding has none: PEFT changes one of the two, but merging the adapter would change both.

    Args:
        shapes: Shapes of all base tensors.
        tied: Names of tied heads → the tensor that they share.
        config: The base's ``config.json``.
        turned: Whether an adapter that was read stores the module transposed, if one has the module.
    """
    if name not in shapes:
        return Unsaid("the base has no such tensor")
    if name in tied.values():
        return Unsaid("embedding and head share it")
    path, _, leaf = name.rpartition(".")
    if leaf != "weight" or len(shapes[name]) < 2:
        return Unsaid("it is not the matrix of a module")
    if _ROUTER.fullmatch(path):
        return Unsaid("it routes among experts")
    kind = _kind(path, name, shapes, turned)
    return kind if isinstance(kind, Unsaid) else Module(name, model_path(path, shapes, config), kind, shapes[name])


def _kind(path: str, name: str, shapes: Mapping[str, Shape], turned: bool | None) -> str | Unsaid:
    shape, bias = shapes[name], shapes.get(f"{path}.bias")
    if len(shape) > 2:
        return "conv" if turned is not None else Unsaid("it is not a matrix")
    if turned is not None:
        return "linear" if not turned else "conv1d" if bias is not None else "embedding"
    if _EXPERT.fullmatch(path):
        return Unsaid("it belongs to an expert, and transformers stacks experts")
    if bias is None:
        return "embedding" if _EMBEDDING.fullmatch(path) else "linear"
    if shape[0] != shape[1]:
        return "conv1d" if bias == shape[1:] else "linear"
    return "conv1d" if stored_in_out_around(shapes, name) == {True} else "linear"


def model_path(path: str, shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> str:
    """The name in the model of the module that the files call ``path``."""
    for before, after in RENAMED:
        if path.startswith(before):
            return after + path.removeprefix(before)
    prefix = BARE.get(str(config.get("model_type")), "")
    if prefix and any(name.startswith(prefix) for name in shapes):
        return path
    return path if path == "lm_head" else prefix + path


def config_json(ranks: Mapping[str, int], base_name: str, config: Mapping[str, Any], *, fan_in_fan_out: bool) -> bytes:
    """Encode ``adapter_config.json``, with only keys that every PEFT since 0.5 supports.

    Args:
        ranks: Module path → rank.
        base_name: Name or path of the base model.
        config: The base's ``config.json``.
    """
    largest = max(ranks.values())
    patterns = _patterns(ranks, largest)
    fields = {
        "alpha_pattern": patterns,
        "base_model_name_or_path": base_name or None,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": largest,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": largest,
        "rank_pattern": patterns,
        "target_modules": sorted(ranks),
        "task_type": _task(config),
    }
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()


def _patterns(ranks: Mapping[str, int], largest: int) -> dict[str, int]:
    """Ranks other than the largest, by full path.

    PEFT uses the first key that a path ends with. So longer keys come first, and a module with the largest rank is
    listed as well if its path ends with that of a module with a smaller one.
    """
    ends = [f".{path}" for path, rank in ranks.items() if rank != largest]
    longest_first = sorted(ranks, key=lambda path: (-len(path), path))
    return {p: ranks[p] for p in longest_first if ranks[p] != largest or any(p.endswith(end) for end in ends)}


def _task(config: Mapping[str, Any]) -> str | None:
    named = config.get("architectures")
    first = str(named[0]) if isinstance(named, list) and named else ""
    return "CAUSAL_LM" if first.endswith(("ForCausalLM", "LMHeadModel")) else None
