"""Adapters of parameters (``target_parameters``): experts stacked in one 3-D tensor.

    ΔW[e] = s · B_e · A_e      A_e = A[e·r : (e+1)·r],  B_e = B[:, e::E] for E experts of rank r
    ``lora_A`` [E·r, in], ``lora_B`` [out, r·E]; ΔW[e] is transposed where the model stores [E, in, out]

Source: peft/tuners/lora/layer.py, ``ParamWrapper.get_delta_weight``. Keys do not contain the parameter's name:
several on one module are nested (``experts.lora_A``, ``experts.base_layer.lora_A``) and are identified by their shapes.
A base may store experts separately; transformers 5 stacks them on loading (conversion_mapping.py: "mixtral",
"qwen2_moe"): gate_up_proj[e] = [gate_proj; up_proj] or [w1; w3], down_proj[e] = down_proj or w2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import MERGE, OTHER_BASE, AdapterConfig
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.layers import check_base, check_rank
from persona.checkpoints.adapters.model import Factor, LowRank, MadeDense, values
from persona.checkpoints.tensorfile import TensorFile, TensorInfo

if TYPE_CHECKING:
    from persona.checkpoints.adapters.collector import Collector
    from persona.checkpoints.adapters.layers import Parts
    from persona.checkpoints.dtypes import Float32

NEST: Final = ".base_layer"
SPLIT: Final = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
"""A stacked parameter → the names of its parts in bases that store experts separately."""


@dataclass(frozen=True)
class ExpertPiece:
    """A base tensor that holds rows ``start`` to ``stop`` of one expert."""

    name: str
    expert: int
    start: int
    stop: int


@dataclass(frozen=True)
class Target:
    """A parameter of the model, and the base tensors that hold it: one, or several pieces."""

    key: str
    shape: tuple[int, ...]
    name: str = ""
    pieces: tuple[ExpertPiece, ...] = ()


@dataclass
class Wrapped:
    """Modules with adapted parameters → their factor pairs, outermost first; and the paths of all these pairs."""

    modules: dict[str, list[Parts]] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)


def group(lora: dict[str, Parts], config: AdapterConfig) -> Wrapped:
    """Select the adapters that belong to parameters rather than to modules."""
    wrapped = Wrapped()
    for path in sorted(lora, key=len):
        module = path
        while module.endswith(NEST):
            module = module.removesuffix(NEST)
        if "A" in lora[path] and _targeted(module, config):
            wrapped.modules.setdefault(module, []).append(lora[path])
            wrapped.paths.add(path)
    return wrapped


def _targeted(module: str, config: AdapterConfig) -> list[str]:
    """Names of the module's parameters that the config targets; some may not exist."""
    names = {target.rpartition(".")[2] for target in config.target_parameters}
    keys = {name: f"{module}.{name}" for name in names}
    wanted = config.target_parameters
    return sorted(name for name, key in keys.items() if any(key == t or key.endswith(f".{t}") for t in wanted))


def place(collector: Collector, module: str, pairs: list[Parts]) -> None:
    """Add the adapters of one module's parameters to the collector."""
    names = _targeted(module, collector.config)
    targets = [target for name in names if (target := _locate(collector, module, name, pairs[0]["A"]))]
    for parts, target, turned in _match(collector, module, pairs, targets):
        a = parts["A"]
        experts = _experts(target)
        check_rank(collector, target.key, a, a.shape[0] // experts)
        _add(collector, parts, target, turned)


def _locate(collector: Collector, module: str, name: str, a: TensorInfo) -> Target | None:
    tensor = collector.names.find(f"{module}.{name}", a.name)
    if tensor is not None:
        return Target(f"{module}.{name}", collector.names.known[tensor][1], tensor)
    for parts in SPLIT.get(name, ()):
        pieces, shape = _pieces(collector, module, parts, a)
        if pieces:
            return Target(f"{module}.{name}", shape, "", pieces)
    return None


def _pieces(
    collector: Collector, module: str, parts: tuple[str, ...], a: TensorInfo
) -> tuple[tuple[ExpertPiece, ...], tuple[int, ...]]:
    """The tensors of all experts in a base that stores them separately, and the stacked shape."""
    pieces: list[ExpertPiece] = []
    shape: tuple[int, ...] = ()
    for expert in itertools.count():
        names = [collector.names.find(f"{module}.{expert}.{part}.weight", a.name) for part in parts]
        if None in names:
            return tuple(pieces), shape
        at = 0
        for name in filter(None, names):
            rows, *rest = collector.names.known[name][1]
            pieces.append(ExpertPiece(name, expert, at, at + rows))
            at += rows
            shape = (expert + 1, at, *rest)
    raise AssertionError


def _match(
    collector: Collector, module: str, pairs: list[Parts], targets: list[Target]
) -> list[tuple[Parts, Target, bool]]:
    """Match factor pairs to parameters by shape, with whether experts are stored [in, out].

    Raises:
        CheckpointError: no assignment fits, or more than one.
    """
    turns = (False, True) if any(not t.pieces and len(t.shape) == 3 for t in targets) else (False,)
    ways = [
        [(parts, target, turned) for parts, target in zip(pairs, order, strict=True)]
        for order in (itertools.permutations(targets) if len(pairs) == len(targets) else ())
        for turned in turns
        if all(_fits(parts, target, turned) for parts, target in zip(pairs, order, strict=True))
    ]
    if len(ways) == 1:
        return ways[0]
    first = pairs[0]["A"]
    pairs_text = "; ".join(f"'{p['A'].name}' {list(p['A'].shape)} and B {list(p['B'].shape)}" for p in pairs)
    targets_text = "; ".join(f"'{t.key}' {list(t.shape)}" for t in targets) or f"nothing in '{module}'"
    if ways:
        raise collector.error(
            f"'{first.name}' is ambiguous, {len(ways)} assignments fit: {pairs_text} for {targets_text}", MERGE
        )
    raise collector.error(f"the factors {pairs_text} do not fit {targets_text} in the base", OTHER_BASE)


def _fits(parts: Parts, target: Target, turned: bool) -> bool:
    a, b = parts["A"].shape, parts["B"].shape
    if len(target.shape) not in (2, 3) or len(a) != 2 or len(b) != 2 or 0 in (*a, *b):
        return False
    experts = _experts(target)
    out_in = target.shape[-2:]
    if turned and len(target.shape) == 3 and not target.pieces:
        if experts == 1:
            return False  # peft cannot merge it either
        out_in = out_in[::-1]
    return (b[0], a[1]) == out_in and a[0] == b[1] and a[0] % experts == 0


def _experts(target: Target) -> int:
    return target.shape[0] if len(target.shape) == 3 else 1


def _add(collector: Collector, parts: Parts, target: Target, turned: bool) -> None:
    a, b, scale = parts["A"], parts["B"], collector.config.scale_of(target.key)
    for piece in target.pieces or (ExpertPiece(target.name, -1, 0, 0),):
        origin = collector.origin(piece.name)
        check_base(collector, origin, a)
        collector.free(origin.name, a)
        if _experts(target) == 1 and not target.pieces:
            collector.changes.low_rank[origin.name] = LowRank(Factor(b, False), Factor(a, False), scale)
        else:
            stack = Stack(collector.file, a, b, _experts(target), scale, turned)
            collector.changes.made[origin.name] = stack.made(origin, piece)


@dataclass(frozen=True)
class Stack:
    """The factors of all experts, stacked."""

    file: TensorFile
    a: TensorInfo
    b: TensorInfo
    experts: int
    scale: float
    turned: bool

    def made(self, origin: BaseTensor, piece: ExpertPiece) -> MadeDense:
        """A base tensor with its change: all experts, or some rows of one."""
        return dense.made(origin, "target_parameters", lambda: self._summed(origin, piece))

    def _summed(self, origin: BaseTensor, piece: ExpertPiece) -> Float32:
        w = origin.read()
        whole = piece.expert < 0
        for expert, (left, right) in self._factors():
            if whole:
                w[expert] += dense.product(left, right, self.scale)
            elif expert == piece.expert:
                w += dense.product(left[piece.start : piece.stop], right, self.scale)
        return w

    def _factors(self) -> Iterator[tuple[int, tuple[Float32, Float32]]]:
        import numpy as np

        a = values(self.file, self.a).reshape(self.experts, -1, self.a.shape[1])
        b = values(self.file, self.b).reshape(self.b.shape[0], -1, self.experts)
        for expert in range(self.experts):
            left, right = np.ascontiguousarray(b[:, :, expert]), a[expert]
            yield (
                expert,
                (np.ascontiguousarray(right.T), np.ascontiguousarray(left.T)) if self.turned else (left, right),
            )
