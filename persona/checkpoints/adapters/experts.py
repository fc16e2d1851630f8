"""Adapters of parameters (``target_parameters``): the experts of a mixture, stacked in one 3-D tensor.

    ΔW[e] = s · B_e · A_e      A_e = A[e·r : (e+1)·r],  B_e = B[:, e::E] for E experts of rank r
    ``lora_A`` [E·r, in], ``lora_B`` [out, r·E]; ΔW[e] is transposed where the model stores [E, in, out]

Source: peft/tuners/lora/layer.py, ``ParamWrapper.get_delta_weight``. Keys do not name the parameter: several on one
module are nested (``experts.lora_A``, ``experts.base_layer.lora_A``), so which is which is told from the shapes.
A base may store experts one by one; transformers 5 stacks them as it loads (conversion_mapping.py: "mixtral",
"qwen2_moe"): gate_up_proj[e] = [gate_proj; up_proj] or [w1; w3], down_proj[e] = down_proj or w2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import MERGE, AdapterConfig
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.layers import OTHER_BASE, check_base, check_rank
from persona.checkpoints.adapters.model import Factor, LowRank, MadeDense, values
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.errors import CheckpointError

if TYPE_CHECKING:
    from persona.checkpoints.adapters.collector import Collector
    from persona.checkpoints.adapters.layers import Parts
    from persona.checkpoints.dtypes import Float32

NEST: Final = ".base_layer"
SPLIT: Final = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
"""A stacked parameter → the names that its parts have where a base stores experts one by one."""


@dataclass(frozen=True)
class ExpertPiece:
    """A base tensor that is rows ``start`` to ``stop`` of one expert."""

    name: str
    expert: int
    start: int
    stop: int


@dataclass(frozen=True)
class Target:
    """A parameter of the model, and where the base has it: whole, or in pieces."""

    key: str
    shape: tuple[int, ...]
    name: str = ""
    pieces: tuple[ExpertPiece, ...] = ()


@dataclass
class Wrapped:
    """The modules whose parameters are adapted → their factor pairs, outermost first; and all their paths."""

    modules: dict[str, list[Parts]] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)


def group(lora: dict[str, Parts], config: AdapterConfig) -> Wrapped:
    """The adapters that belong to parameters rather than to modules."""
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
    """The names of the module's parameters that the config targets (which may not all exist)."""
    names = {target.rpartition(".")[2] for target in config.target_parameters}
    keys = {name: f"{module}.{name}" for name in names}
    wanted = config.target_parameters
    return sorted(name for name, key in keys.items() if any(key == t or key.endswith(f".{t}") for t in wanted))


def place(collector: Collector, module: str, pairs: list[Parts]) -> None:
    """The adapters of one module's parameters in the collector's tables."""
    names = _targeted(module, collector.config)
    targets = [target for name in names if (target := _locate(collector, module, name, pairs[0]["A"]))]
    for parts, target, turned in _match(collector, module, pairs, targets):
        a = parts["A"]
        experts = _experts(target)
        check_rank(collector, target.key, a, a.shape[0] // experts)
        _add(collector, parts, target, turned)


def _locate(collector: Collector, module: str, name: str, a: TensorInfo) -> Target | None:
    found = collector.names.find(f"{module}.{name}", a.name)
    if found is not None:
        return Target(f"{module}.{name}", collector.names.known[found][1], found)
    for parts in SPLIT.get(name, ()):
        pieces, shape = _pieces(collector, module, parts, a)
        if pieces:
            return Target(f"{module}.{name}", shape, "", pieces)
    return None


def _pieces(
    collector: Collector, module: str, parts: tuple[str, ...], a: TensorInfo
) -> tuple[tuple[ExpertPiece, ...], tuple[int, ...]]:
    """The tensors of all experts of a base that stores them one by one, and the stacked shape."""
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
    """Which pair belongs to which parameter, and whether experts are stored [in, out]: the one way that fits."""
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
    said = "; ".join(f"'{p['A'].name}' {list(p['A'].shape)} and B {list(p['B'].shape)}" for p in pairs)
    have = "; ".join(f"'{t.key}' {list(t.shape)}" for t in targets) or f"nothing in '{module}'"
    if ways:
        raise CheckpointError(
            f"{collector.file.path}: '{first.name}' can be read in {len(ways)} ways: {said} for {have}", MERGE
        )
    raise CheckpointError(
        f"{collector.file.path}: the factors {said} do not make a change to {have} in the base", OTHER_BASE
    )


def _fits(parts: Parts, target: Target, turned: bool) -> bool:
    a, b = parts["A"].shape, parts["B"].shape
    if len(target.shape) not in (2, 3) or len(a) != 2 or len(b) != 2 or 0 in (*a, *b):
        return False
    experts = _experts(target)
    out_in = target.shape[-2:]
    if turned and len(target.shape) == 3 and not target.pieces:
        if experts == 1:
            return False  # peft cannot add it to the weights either
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
            collector.found.low_rank[origin.name] = LowRank(Factor(b, False), Factor(a, False), scale)
        else:
            stack = Stack(collector.file, a, b, _experts(target), scale, turned)
            collector.found.made[origin.name] = stack.made(origin, piece)


@dataclass(frozen=True)
class Stack:
    """The factors of all experts."""

    file: TensorFile
    a: TensorInfo
    b: TensorInfo
    experts: int
    scale: float
    turned: bool

    def made(self, origin: BaseTensor, piece: ExpertPiece) -> MadeDense:
        """A base tensor with its experts' changes: all of them, or the rows of one."""
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
