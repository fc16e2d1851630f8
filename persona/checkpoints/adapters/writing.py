"""Writing a PEFT adapter: modules and parameters, their keys and shapes, and ``adapter_config.json``.

ΔW = B · A with ``lora_alpha`` = ``r`` for every module, so that PEFT's scaling is 1:

    linear      ΔW = B · A       weight [out, in]       ``lora_A`` [r, in], ``lora_B`` [out, r]
    conv1d      ΔW = (B · A)ᵀ    weight [in, out]       ``lora_A`` [r, in], ``lora_B`` [out, r]
    embedding   ΔW = (B · A)ᵀ    weight [vocab, dim]    ``lora_embedding_A`` [r, vocab], ``lora_embedding_B`` [dim, r]
    conv        ΔW = B · A       weight [out, in, k…]   ``lora_A`` [r, in, k…], ``lora_B`` [out, r, 1…]
    parameter   ΔW = B · A       any matrix             as linear, named in ``target_parameters``
    experts     ΔW[e] = B_e · A_e, all experts stacked  ``lora_A`` [E·r, in], ``lora_B`` [out, r·E] (``adapters.experts``)

Several parameters of one module have the same path: PEFT nests their wrappers in the order of the module's parameters, the
last one outermost, and the keys of the others have one ``.base_layer`` for each wrapper around them.

The format also meets the requirements of other readers. vLLM (vllm/lora/peft_helper.py, lora_model.py) requires ``r``,
``lora_alpha`` and ``target_modules``, keys that start with ``base_model.model.``, and no ``modules_to_save``, bias or
DoRA. It ignores ``rank_pattern`` and ``alpha_pattern``: it scales every module by lora_alpha / r, which is 1 here, and
compares ``r``, the largest rank, with its ``--max-lora-rank``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from persona.checkpoints.adapters.keys import PREFIX

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

    Shape = tuple[int, ...]

TURNED: Final = frozenset({"conv1d", "embedding"})
"""Kinds of modules with ΔW = (B · A)ᵀ."""


@dataclass(frozen=True)
class Slot:
    """One expert's rows ``start`` to ``stop`` in a parameter [experts, …] that stacks experts."""

    expert: int
    start: int
    stop: int


@dataclass(frozen=True)
class Module:
    """A module or parameter that an adapter can change.

    Attributes:
        tensor: The tensor's name in the base.
        path: The module's name in the model.
        kind: linear, conv1d, embedding, conv, parameter, experts (a tensor with all experts), or expert (one expert's
            tensor, to be stacked with the others).
        shape: Shape of the tensor; for ``expert`` that of the stacked parameter.
        parameter: The parameter's name within the module, if it is a target of its own.
        slot: Where in the stacked parameter the tensor is, for ``expert``.
        flipped: Whether ΔW[e] is transposed, for experts.
        order: The parameter's place among those of its module.
        nest: How many wrappers of other parameters are around this one's.
    """

    tensor: str
    path: str
    kind: str
    shape: Shape
    parameter: str = ""
    slot: Slot | None = None
    flipped: bool = False
    order: int = 0
    nest: int = 0

    @property
    def target(self) -> str:
        """Its name in ``target_modules`` or ``target_parameters``."""
        return f"{self.path}.{self.parameter}" if self.parameter else self.path

    @property
    def keys(self) -> tuple[str, str]:
        """The names of A and B in the file."""
        ends = (
            ("lora_embedding_A", "lora_embedding_B") if self.kind == "embedding" else ("lora_A.weight", "lora_B.weight")
        )
        stem = f"{PREFIX}{self.path}{'.base_layer' * self.nest}"
        return f"{stem}.{ends[0]}", f"{stem}.{ends[1]}"

    def shapes(self, rank: int) -> tuple[Shape, Shape]:
        """The shapes of A and B in the file."""
        if self.kind == "experts":
            experts, *pair = self.shape
            rows, columns = reversed(pair) if self.flipped else pair
            return (experts * rank, columns), (rows, rank * experts)
        if self.kind in TURNED:
            return (rank, self.shape[0]), (self.shape[1], rank)
        return (rank, *self.shape[1:]), (self.shape[0], rank, *(1 for _ in self.shape[2:]))

    def turned(self, left: Float32, right: Float32) -> tuple[Float32, Float32]:
        """A [r, …] and B […, r] from L and R in the weight's orientation (ΔW = L · R), and vice versa."""
        return (left.T, right.T) if self.kind in TURNED else (right, left)

    def stacked(self, left: Float32, right: Float32) -> tuple[Float32, Float32]:
        """A [E·r, in] and B [out, r·E] from L [E, rows, r] and R [E, r, columns], for all experts."""
        if self.flipped:
            left, right = right.transpose(0, 2, 1), left.transpose(0, 2, 1)
        a = right.reshape(-1, right.shape[2])
        return a, left.transpose(1, 2, 0).reshape(left.shape[1], -1)


@dataclass(frozen=True)
class Unsaid:
    """Why an adapter cannot express a recipe's change to a tensor."""

    why: str


def config_json(ranks: Sequence[tuple[Module, int]], base_name: str, config: Mapping[str, Any]) -> bytes:
    """Encode ``adapter_config.json``, with only keys that every PEFT since 0.5 supports if only modules are targets.

    Args:
        ranks: Modules and their ranks.
        base_name: Name or path of the base model.
        config: The base's ``config.json``.
    """
    by_target = {module.target: rank for module, rank in ranks}
    largest = max(by_target.values())
    patterns = _patterns(by_target, largest)
    parameters = sorted(module.target for module, _ in ranks if module.parameter)
    fields = {
        "alpha_pattern": patterns,
        "base_model_name_or_path": base_name or None,
        "bias": "none",
        "fan_in_fan_out": all(module.kind == "conv1d" for module, _ in ranks),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": largest,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": largest,
        "rank_pattern": patterns,
        "target_modules": sorted(module.target for module, _ in ranks if not module.parameter),
        **({"target_parameters": parameters} if parameters else {}),
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
