"""Adapters of modules: Linear, Conv1D, Embedding and ConvNd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import MERGE, OTHER_BASE, SAVE_AGAIN
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.model import Factor, LowRank
from persona.checkpoints.dtypes import ARITHMETIC
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.errors import CheckpointError

if TYPE_CHECKING:
    from persona.checkpoints.adapters.collector import Collector

    Parts = dict[str, TensorInfo]

INCOMPLETE = f"The adapter is incomplete. {SAVE_AGAIN}"
MISMATCH = "The weights and adapter_config.json belong to different adapters."


def check_halves(file: TensorFile, path: str, parts: Parts) -> None:
    """Check that a module has both factors, in dtypes that persona computes with.

    Raises:
        CheckpointError: a factor is missing, or has another dtype.
    """
    first = next(iter(parts.values()))
    for a, b in (("A", "B"), ("embedding_A", "embedding_B")):
        if (a in parts) != (b in parts):
            missing = a if b in parts else b
            raise CheckpointError(
                f"{file.path}: '{first.name}' has no counterpart: lora_{missing} of '{path}' is missing", INCOMPLETE
            )
    if ("A" in parts) == ("embedding_A" in parts):
        raise CheckpointError(
            f"{file.path}: '{first.name}' has no factors lora_A and lora_B that belong to it", INCOMPLETE
        )
    for info in parts.values():
        if info.dtype not in ARITHMETIC:
            raise CheckpointError(
                f"{file.path}: '{info.name}' has the unsupported dtype {info.dtype}",
                "Save the adapter in F32, BF16 or F16.",
            )


def place(collector: Collector, path: str, parts: Parts) -> None:
    """Add the adapter of one module to the collector."""
    embedding = "embedding_A" in parts
    a, b = (parts["embedding_A"], parts["embedding_B"]) if embedding else (parts["A"], parts["B"])
    if ".base_layer" in path:
        raise _nested(collector, a)
    origin = collector.origin(collector.names.require(f"{path}.weight", a.name))
    check_base(collector, origin, a)
    turned = embedding or _stored_in_out(collector, path, origin, a, b)
    delta = _low_rank(a, b, turned, collector.config.scale_of(path))
    _check_shapes(collector, origin, delta, a, b)
    check_rank(collector, path, a, a.shape[0])
    collector.free(origin.name, a)
    _add_weight(collector, origin, delta, parts, axis=1 if turned else 0)
    _add_bias(collector, path, delta.scale, parts)


def _nested(collector: Collector, a: TensorInfo) -> CheckpointError:
    """The error for ``nn.MultiheadAttention``: PEFT 0.21 nests wrappers for it and its out_proj, and adds that ΔW twice."""
    return collector.error(
        f"'{a.name}' belongs to a module inside a wrapped one, as in nn.MultiheadAttention, "
        "but the config has no target parameter for it",
        MERGE,
    )


def _low_rank(a: TensorInfo, b: TensorInfo, turned: bool, scale: float) -> LowRank:
    left, right = (a, b) if turned else (b, a)
    return LowRank(Factor(left, turned), Factor(right, turned), scale)


def _stored_in_out(collector: Collector, path: str, origin: BaseTensor, a: TensorInfo, b: TensorInfo) -> bool:
    """Whether the base stores this weight [in, out], like transformers' Conv1D (GPT-2).

    The shape shows it unless the matrix is square. ``fan_in_fan_out`` alone is not reliable: PEFT overwrites it for
    each module, so the config has the value of the last one. A Conv1D always has a bias and other Conv1Ds around it.
    """
    if len(origin.shape) != 2 or len(a.shape) != 2 or len(b.shape) != 2:
        return False
    shape = (b.shape[0], a.shape[1])
    if shape[0] != shape[1]:
        return origin.shape != shape and origin.shape == shape[::-1]
    if collector.names.find(f"{path}.bias", a.name) is None:
        return False
    around = stored_in_out_around({n: shape for n, (_, shape) in collector.names.known.items()}, origin.name)
    return around.pop() if len(around) == 1 else collector.config.fan_in_fan_out


def stored_in_out_around(shapes: Mapping[str, tuple[int, ...]], name: str) -> set[bool]:
    """Whether the non-square weights with a bias in the same layer are stored [in, out]; both if they differ."""
    layer = re.match(r".*?\.\d+\.|\d+\.|", name)
    around = set()
    for other, shape in shapes.items():
        bias = shapes.get(other.removesuffix("weight") + "bias")
        inside = layer is not None and other.startswith(layer[0]) and other.endswith(".weight")
        if inside and bias and len(shape) == 2 and shape[0] != shape[1] and bias in ((shape[0],), (shape[1],)):
            around.add(bias == (shape[1],))
    return around


def check_base(collector: Collector, origin: BaseTensor, a: TensorInfo) -> None:
    """Raise CheckpointError if persona cannot compute with the dtype of the base's tensor."""
    if origin.dtype not in ARITHMETIC:
        raise collector.error(
            f"'{a.name}' changes '{origin.name}', which the base stores as {origin.dtype}",
            "Use the unquantized checkpoint as the base.",
        )


def _check_shapes(collector: Collector, origin: BaseTensor, delta: LowRank, a: TensorInfo, b: TensorInfo) -> None:
    whole = len(a.shape) >= 2 and len(b.shape) >= 2 and 0 not in (*a.shape, *b.shape)
    out_in = (b.shape[:1] + a.shape[1:]) if whole else ()
    made = out_in[::-1] if delta.left.transposed else out_in
    fewer = len(made) == 2 and made[1:] == origin.shape[1:] and _lacks_rows(collector, origin, made[0])
    if whole and (made == origin.shape or fewer) and a.shape[0] == prod(b.shape[1:]) == b.shape[1]:
        return
    raise collector.error(
        f"'{a.name}' {list(a.shape)} and '{b.name}' {list(b.shape)} do not fit "
        f"'{origin.name}', which is {list(origin.shape)} in the base",
        OTHER_BASE if whole else "The factors are incomplete: gather sharded weights (ZeRO-3, FSDP) before saving.",
    )


def _lacks_rows(collector: Collector, origin: BaseTensor, rows: int) -> bool:
    """Whether a change without the last rows of an embedding is that of a vocabulary without padding; not for DoRA's norms."""
    return not collector.config.dora and collector.lacks_rows(origin.name, rows, origin)


def check_rank(collector: Collector, module: str, a: TensorInfo, rank: int) -> None:
    """Raise CheckpointError unless the factors have the config's rank, from which the scale is computed."""
    expected = collector.config.rank_of(module)
    if rank != expected:
        raise collector.error(f"'{a.name}' has rank {rank} but the config says {expected} for '{module}'", MISMATCH)


def _add_weight(collector: Collector, origin: BaseTensor, delta: LowRank, parts: Parts, axis: int) -> None:
    file, changes, magnitude = collector.file, collector.changes, parts.get("magnitude_vector")
    if (magnitude is not None) != collector.config.dora:
        raise _disagrees(collector, parts, "use_dora", "lora_magnitude_vector", magnitude)
    if magnitude is not None:
        if prod(magnitude.shape) != origin.shape[axis]:
            raise collector.misfit(magnitude, origin.name, origin.shape)
        made = dense.made(origin, "DoRA", lambda: dense.dora(file, origin, delta, magnitude, axis))
        changes.made[origin.name] = made
    elif origin.own or _rows_of(delta) < origin.shape[0]:
        how = "LoRA on a tensor that the adapter replaces" if origin.own else "LoRA on fewer rows than the base"
        changes.made[origin.name] = dense.made(origin, how, lambda: dense.summed(file, origin, delta))
    else:
        changes.low_rank[origin.name] = delta


def _rows_of(delta: LowRank) -> int:
    """The number of rows of ΔW."""
    return delta.left.info.shape[1 if delta.left.transposed else 0]


def _add_bias(collector: Collector, path: str, scale: float, parts: Parts) -> None:
    bias = parts.get("bias")
    if (bias is not None) != collector.config.lora_bias:
        raise _disagrees(collector, parts, "lora_bias", "lora_B.bias", bias)
    if bias is None:
        return
    origin = collector.origin(collector.names.require(f"{path}.bias", bias.name))
    if bias.shape != origin.shape:
        raise collector.misfit(bias, origin.name, origin.shape)
    collector.free(origin.name, bias)
    made = dense.made(origin, "lora_bias", lambda: dense.biased(collector.file, origin, bias, scale))
    collector.changes.made[origin.name] = made


def _disagrees(collector: Collector, parts: Parts, key: str, part: str, info: TensorInfo | None) -> CheckpointError:
    where = next(iter(parts.values())).name
    verb = "has" if info is not None else "lacks"
    return collector.error(
        f"the module of '{where}' {verb} a {part} but the config says {key} = {info is None}", MISMATCH
    )
