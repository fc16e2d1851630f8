"""Adapters of modules that are single experts of a stacked parameter, as in Unsloth's 4-bit models.

    ``experts.gate_up_projs.3.lora_A`` [r, in], ``lora_B`` [out, r]      W[3] changes by s · B · A, or by its transpose

The stacked tensor is made dense.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import MERGE
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.layers import check_base, check_rank
from persona.checkpoints.adapters.model import Factor, LowRank, matrix
from persona.checkpoints.tensorfile import TensorFile

if TYPE_CHECKING:
    from persona.checkpoints.adapters.collector import Collector
    from persona.checkpoints.adapters.layers import Parts
    from persona.checkpoints.dtypes import Float32


def place(collector: Collector, key: str, by_expert: dict[int, Parts]) -> None:
    """Add adapters of modules that are the experts of one stacked parameter."""
    first = by_expert[min(by_expert)]
    name = collector.names.require(key, first["A"].name)
    origin = collector.origin(name)
    check_base(collector, origin, first["A"])
    collector.free(name, first["A"])
    pairs = {}
    for expert, parts in sorted(by_expert.items()):
        a, b = parts["A"], parts["B"]
        rank = a.shape[0]
        check_rank(collector, f"{key}s.{expert}", a, rank)
        turned = _is_turned(collector, key, origin, parts)
        if set(parts) != {"A", "B"}:
            raise collector.error(f"'{a.name}' is a DoRA or has a bias, which an expert of '{name}' cannot have", MERGE)
        if turned is None or expert >= origin.shape[0] or rank != b.shape[1]:
            raise collector.misfit(a, name, origin.shape)
        scale = collector.config.scale_of(f"{key}s.{expert}")
        pairs[expert] = LowRank(Factor(a if turned else b, turned), Factor(b if turned else a, turned), scale)
    how = "LoRA on single experts of a stacked tensor"
    collector.changes.made[name] = dense.made(origin, how, partial(_split_summed, collector.file, origin, pairs))


def _is_turned(collector: Collector, key: str, origin: BaseTensor, parts: Parts) -> bool | None:
    """Whether an expert's weight is stored transposed; None if the factors do not fit."""
    a, b = parts["A"].shape, parts["B"].shape
    if len(origin.shape) != 3 or len(a) != 2 or len(b) != 2:
        return None
    fits = [turned for turned in (False, True) if (b[0], a[1]) == origin.shape[1:][:: -1 if turned else 1]]
    if len(fits) < 2:
        return fits[0] if fits else None
    modules = collector.base.modules
    if modules is None or key not in modules.parameters:
        raise collector.error(
            f"'{parts['A'].name}' is ambiguous: experts of '{origin.name}' are square, so their shapes do not say whether "
            "they are transposed",
            MERGE,
        )
    return modules.stores_in_out(key.rpartition(".")[0])


def _split_summed(file: TensorFile, origin: BaseTensor, pairs: dict[int, LowRank]) -> Float32:
    w = origin.read()
    for expert, pair in pairs.items():
        w[expert] += dense.product(matrix(file, pair.left), matrix(file, pair.right), pair.scale)
    return w
