"""Adapters of parameters (``target_parameters``): experts stacked in one 3-D tensor.

    ΔW[e] = s · B_e · A_e      A_e = A[e·r : (e+1)·r],  B_e = B[:, e::E] for E experts of rank r
    ``lora_A`` [E·r, in], ``lora_B`` [out, r·E]; ΔW[e] is transposed where the model stores [E, in, out]

Source: peft/tuners/lora/layer.py, ``ParamWrapper.get_delta_weight``. Keys do not contain the parameter's name:
several on one module are nested (``experts.lora_A``, ``experts.base_layer.lora_A``) and are identified by their shapes.
A name in ``target_parameters`` can be the end of a path, so it is a target only where the base has that parameter.
A base may store experts separately; transformers 5 stacks them on loading (conversion_mapping.py: "mixtral",
"qwen2_moe"): gate_up_proj[e] = [gate_proj; up_proj] or [w1; w3], down_proj[e] = down_proj or w2. Then each tensor's
change is low-rank: rows of B_e times A_e.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import MERGE, OTHER_BASE, AdapterConfig
from persona.checkpoints.adapters.layers import check_base, check_rank
from persona.checkpoints.adapters.model import Factor, LowRank
from persona.checkpoints.adapters.stacks import ExpertPiece, Stack
from persona.checkpoints.tensorfile import TensorInfo

if TYPE_CHECKING:
    from persona.checkpoints.adapters.collector import Collector
    from persona.checkpoints.adapters.layers import Parts

    Way = list[tuple[Parts, "Target", bool]]

NEST: Final = ".base_layer"
SPLIT_MODULE: Final = re.compile(r"(?P<module>.+)\.(?P<parameter>gate_up_proj|down_proj)s\.(?P<expert>\d+)")
"""Modules into which Unsloth splits the experts of a stacked parameter."""
SPLIT: Final = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
"""A stacked parameter → the names of its parts in bases that store experts separately."""


@dataclass(frozen=True)
class Target:
    """A parameter of the model, and the base tensors that hold it: one, or several pieces."""

    key: str
    shape: tuple[int, ...]
    name: str = ""
    pieces: tuple[ExpertPiece, ...] = ()


@dataclass
class Wrapped:
    """Adapters of parameters.

    Attributes:
        modules: Modules with adapted parameters → their factor pairs, outermost first.
        targets: Modules → their parameters that the config targets.
        experts: Stacked parameters → factor pairs of modules that are single experts.
        paths: The paths of all these pairs.
    """

    modules: dict[str, list[Parts]] = field(default_factory=dict)
    targets: dict[str, list[Target]] = field(default_factory=dict)
    experts: dict[str, dict[int, Parts]] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)


def group(collector: Collector) -> Wrapped:
    """Select the adapters that belong to parameters rather than to modules."""
    wrapped = Wrapped()
    lora = collector.keys.lora
    for path in sorted(lora, key=len):
        if "A" not in lora[path]:
            continue
        if split := SPLIT_MODULE.fullmatch(path):
            target = f"{split['module']}.{split['parameter']}"
            wrapped.experts.setdefault(target, {})[int(split["expert"])] = lora[path]
            wrapped.paths.add(path)
            continue
        module = path
        while module.endswith(NEST):
            module = module.removesuffix(NEST)
        if module not in wrapped.targets:
            wrapped.targets[module] = _targets(collector, module, lora[path]["A"])
        if wrapped.targets[module]:
            wrapped.modules.setdefault(module, []).append(lora[path])
            wrapped.paths.add(path)
    return wrapped


def _targets(collector: Collector, module: str, a: TensorInfo) -> list[Target]:
    """The module's parameters that the config targets."""
    names = _targeted(module, collector.config)
    found = [target for name in names if (target := _locate(collector, module, name, a))]
    if found or not names or collector.names.find(f"{module}.weight", a.name) is not None:
        return found
    return [target for name in names if (target := _looked_up(collector, f"{module}.{name}"))]


def _targeted(module: str, config: AdapterConfig) -> list[str]:
    """Names of the module's parameters that the config targets; some may not exist."""
    names = {target.rpartition(".")[2] for target in config.target_parameters}
    keys = {name: f"{module}.{name}" for name in names}
    wanted = config.target_parameters
    return sorted(name for name, key in keys.items() if any(key == t or key.endswith(f".{t}") for t in wanted))


def place(collector: Collector, module: str, pairs: list[Parts], targets: list[Target]) -> None:
    """Add the adapters of one module's parameters to the collector."""
    for parts, target, turned in _match(collector, module, pairs, targets):
        a = parts["A"]
        check_rank(collector, target.key, a, a.shape[0] // _experts(target))
        _add(collector, parts, target, turned)


def _looked_up(collector: Collector, key: str) -> Target | None:
    """A parameter of the model that transformers makes of base tensors with other names."""
    modules, group = collector.base.modules, collector.names.groups.get(key)
    if modules is None or group is None:
        return None
    parts = {file: group.part(file) for file in group.files}
    if group.converter is None:
        return Target(key, group.shapes[0], group.files[0])
    pieces = [
        ExpertPiece(file, part.expert, part.start, part.stop)
        for file, part in parts.items()
        if part is not None and part.expert is not None
    ]
    whole = len(pieces) == len(group.files) and not modules.stores_in_out(key.rpartition(".")[0])
    return Target(key, modules.parameters[key], "", tuple(pieces)) if whole else None


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
    if len(ways) > 1:
        ways = _as_loaded(collector, module, ways)
    if len(ways) == 1:
        return ways[0]
    first = pairs[0]["A"]
    pairs_text = "; ".join(f"'{p['A'].name}' {list(p['A'].shape)} and B {list(p['B'].shape)}" for p in pairs)
    targets_text = "; ".join(f"'{t.key}' {list(t.shape)}" for t in targets)
    if ways:
        raise collector.error(
            f"'{first.name}' is ambiguous, {len(ways)} assignments fit: {pairs_text} for {targets_text}", MERGE
        )
    raise collector.error(f"the factors {pairs_text} do not fit {targets_text} in the base", OTHER_BASE)


def _as_loaded(collector: Collector, module: str, ways: list[Way]) -> list[Way]:
    """The ways that agree with the loaded model: how it stores experts, and the last parameter outermost."""
    modules = collector.base.modules
    if modules is None or any(target.key not in modules.parameters for _, target, _ in ways[0]):
        return ways
    turned = modules.stores_in_out(module)
    orders = [[modules.order(target.key) for _, target, _ in way] for way in ways]
    good = [way for way, order in zip(ways, orders, strict=True) if order == sorted(order, reverse=True)]
    return [way for way in good if all(turn == (turned and len(t.shape) == 3) for _, t, turn in way)] or good


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
    experts = _experts(target)
    stack = Stack(collector.file, a, b, experts, scale, turned)
    for piece in target.pieces or (ExpertPiece(target.name, -1, 0, 0),):
        origin = collector.origin(piece.name)
        check_base(collector, origin, a)
        collector.free(origin.name, a)
        if origin.own or (experts > 1 and not target.pieces):
            collector.changes.made[origin.name] = dense.made(
                origin, "target_parameters", partial(stack.summed, origin, piece)
            )
        elif target.pieces:
            collector.changes.low_rank[origin.name] = stack.low_rank(piece)
        else:
            collector.changes.low_rank[origin.name] = LowRank(Factor(b, False), Factor(a, False), scale)
