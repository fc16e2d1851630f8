"""A recipe as one exact PEFT adapter: the LoRA factors of its vectors, stacked.

    B = [λα₁s₁B₁ | λα₂s₂B₂ | …],  A = [A₁; A₂; …],  B · A = λ Σ αᵢ sᵢ BᵢAᵢ,  rank Σ rᵢ,  scaling 1

Each Bᵢ is only multiplied with its own Aᵢ, so there are no cross-terms. (PEFT's ``add_weighted_adapter`` with ``linear``
has them, because it adds the As and the Bs separately.) Every A is as committed; every entry of B is rounded once, from
λαs · B in fp64 to fp32. A recipe that changes anything else is refused, naming the vector and the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

from persona.building.acting import Active
from persona.building.plan import Output, Plan, Term
from persona.building.streams import factor
from persona.checkpoints import groups, settings
from persona.checkpoints.adapters.places import Places
from persona.checkpoints.adapters.writing import Module, Unsaid
from persona.errors import Refusal
from persona.recipe import alphas
from persona.store.nouns import Base, LowRankSpec, TensorSpec, parts_of
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

EXACT = frozenset({"linear", "task_arithmetic"})
"""Methods that are a plain sum."""
IN_ADAPTER = (groups.TOKENIZER, groups.TEMPLATE, groups.PROCESSOR)
"""Groups of files that an adapter's folder may have, as trainers write them there."""
_TIE = ("tie_word_embeddings",)
_COMPRESS = "Add --rank R for the nearest adapter of rank R, or build the whole model."


@dataclass(frozen=True)
class Pair:
    """An adapter's factors for one module; ``make`` computes A [r, …] and B […, r] as matrices in fp32.

    ``rights`` are the ids of the stored right factors, if there are any: parts of one expert that have the same share A.
    """

    module: Module
    rank: int
    make: Callable[[], tuple[Float32, Float32]]
    rights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What an adapter needs besides the plan: the base, its ``config.json`` and the active vectors."""

    base: Base
    config: Mapping[str, Any]
    active: Sequence[Active]

    @cached_property
    def places(self) -> Places:
        """Where the base's tensors are in the loaded model."""
        shapes = {name: spec.shape for name, spec in self.base.tensors.items()}
        return Places(shapes, self.base.tied, self.config)

    def module(self, name: str, *, turned: bool | None = None) -> Module | Unsaid:
        """The module that has ``name`` as its weight. ``turned`` says that its factors are stored transposed."""
        return self.places.module(name, turned=turned)


def changed(plan: Plan) -> list[Output]:
    """The outputs that differ from the base."""
    return [o for o in plan.outputs if o.terms or o.carried or (o.copy is not None and o.copy != o.base)]


def is_stack(output: Output) -> bool:
    """Whether only low-rank terms change a tensor."""
    sources = [source for term in output.terms for source in _sources(term)]
    return bool(sources) and not output.carried and all(isinstance(source, LowRankSpec) for _, source in sources)


def _sources(term: Term) -> Sequence[tuple[float, TensorSpec | LowRankSpec | None]]:
    """The parts that a term adds up, with their coefficients."""
    return [(1.0, None)] if term.source is None else parts_of(term.source)


def exact_pairs(plan: Plan, around: Surroundings, store: TensorStore) -> list[Pair]:
    """Stack the factors of every module that the recipe changes.

    Raises:
        Refusal: an adapter cannot represent the recipe exactly.
    """
    if plan.method not in EXACT:
        raise Refusal(f"method '{plan.method}' is not a sum of adapters, so there is no exact one", _COMPRESS)
    _check_rest(plan, around)
    pairs = []
    for output in changed(plan):
        if not is_stack(output):
            _refuse(_bringer(output, around), f"changes {output.name} as a whole tensor")
        module = stack_module(output, around)
        if isinstance(module, Unsaid):
            _refuse(output.terms[0].vector, f"changes {output.name}: {module.why}")
        make = partial(stacked, output, module, plan.scale, store)
        pairs.append(Pair(module, stack_rank(output), make, _rights(output)))
    return joined(pairs)


def _rights(output: Output) -> tuple[str, ...]:
    specs = [spec for term in output.terms for _, spec in _sources(term)]
    return tuple(spec.right.id for spec in specs if isinstance(spec, LowRankSpec))


def joined(pairs: Sequence[Pair]) -> list[Pair]:
    """Join the pairs of separate experts to one for their stacked parameter, nest parameters of one module, and fill modules up.

    llama.cpp reads no pattern of alphas: it divides `lora_alpha` by each module's own rank. vLLM divides it by `r`. Only
    modules of one rank have the scale 1 in both. Parameters are PEFT's alone and stay as they are.
    """
    experts: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.module.kind == "expert":
            experts.setdefault(pair.module.target, []).append(pair)
    whole = [pair for pair in pairs if pair.module.kind != "expert"]
    nested = _nested([*whole, *(_joined(parts) for parts in experts.values())])
    largest = max((pair.rank for pair in nested if not pair.module.parameter), default=0)
    return [pair if pair.module.parameter or pair.rank == largest else _filled(pair, largest) for pair in nested]


def _filled(pair: Pair, rank: int) -> Pair:
    """A pair with zeros up to ``rank``."""

    def make() -> tuple[Float32, Float32]:
        import numpy as np

        a, b = pair.make()
        more = rank - pair.rank
        return (
            np.concatenate([a, np.zeros((more, *a.shape[1:]), a.dtype)]),
            np.concatenate([b, np.zeros((len(b), more, *b.shape[2:]), b.dtype)], axis=1),
        )

    return replace(pair, rank=rank, make=make)


def _joined(parts: Sequence[Pair]) -> Pair:
    """Stack experts. B_e is block-diagonal over parts of an expert with different As; smaller ranks are filled with zeros."""
    module = replace(parts[0].module, kind="experts", slot=None)
    used: dict[int, int] = {}
    columns: dict[tuple[int, object], slice] = {}
    for number, pair in enumerate(parts):
        assert pair.module.slot is not None
        expert = pair.module.slot.expert
        start = used.get(expert, 0)
        key = (expert, pair.rights or number)
        if key not in columns:
            columns[key] = slice(start, start + pair.rank)
            used[expert] = start + pair.rank
    places = [columns[p.module.slot.expert, p.rights or n] for n, p in enumerate(parts) if p.module.slot]
    rank = max(used.values())
    return Pair(module, rank, partial(_stack_experts, module, list(zip(parts, places, strict=True)), rank))


def _stack_experts(module: Module, parts: Sequence[tuple[Pair, slice]], rank: int) -> tuple[Float32, Float32]:
    import numpy as np

    experts, rows, columns = module.shape
    left, right = np.zeros((experts, rows, rank), np.float32), np.zeros((experts, rank, columns), np.float32)
    for pair, used in parts:
        slot = pair.module.slot
        assert slot is not None
        a, b = pair.make()
        left[slot.expert, slot.start : slot.stop, used], right[slot.expert, used] = b, a
    return module.stacked(left, right)


def _nested(pairs: Sequence[Pair]) -> list[Pair]:
    """Count the wrappers around each parameter: those of later parameters of the same module."""
    orders: dict[str, list[int]] = {}
    for pair in pairs:
        if pair.module.parameter:
            orders.setdefault(pair.module.path, []).append(pair.module.order)

    def nest(module: Module) -> int:
        return sum(order > module.order for order in orders[module.path]) if module.parameter else 0

    return [replace(pair, module=replace(pair.module, nest=nest(pair.module))) for pair in pairs]


def stack_module(output: Output, around: Surroundings) -> Module | Unsaid:
    """The module of a tensor that low-rank terms change."""
    first = _sources(output.terms[0])[0][1]
    assert isinstance(first, LowRankSpec)
    module = around.module(output.name, turned=first.left_transposed)
    if isinstance(module, Module) and module.kind == "conv" and len(first.left.shape) != len(module.shape):
        return Unsaid("its factors have the shape of a plain parameter's, not of a convolution's")
    if isinstance(module, Module) and module.kind == "experts":
        return Unsaid("its factors are not those of stacked experts")
    return module


def stack_rank(output: Output) -> int:
    """Σ rᵢ of a tensor's terms."""
    return sum(spec.rank for t in output.terms for _, spec in _sources(t) if isinstance(spec, LowRankSpec))


def stacked(output: Output, module: Module, scale: float, store: TensorStore) -> tuple[Float32, Float32]:
    """A and B of all terms, stacked."""
    import numpy as np

    products = [(term, c, source) for term in output.terms for c, source in _sources(term)]
    pairs = [_folded(term, scale * term.alpha * c, source, module, store) for term, c, source in products]
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs], axis=1)


def _folded(
    term: Term, strength: float, spec: TensorSpec | LowRankSpec | None, module: Module, store: TensorStore
) -> tuple[Float32, Float32]:
    """A as committed, and B multiplied by λαs (and the coefficient, in a derived vector)."""
    import numpy as np

    assert isinstance(spec, LowRankSpec)
    left, right = factor(store, spec.left, spec.left_transposed), factor(store, spec.right, spec.right_transposed)
    a, b = module.turned(left, right)
    with np.errstate(over="ignore"):
        folded = (b.astype(np.float64) * (strength * spec.scale)).astype(np.float32)
    if not np.isfinite(folded).all():
        raise Refusal(f"the factors of vector '{term.vector}' for {module.tensor} are not finite", "Lower its alpha.")
    return a, folded


def _check_rest(plan: Plan, around: Surroundings) -> None:
    """Raise if a vector drops a tensor or brings settings, which an adapter cannot do."""
    names = {output.name for output in plan.outputs}
    for a in around.active:
        lacks = next((name for name in a.vector.gone if name in around.base.tensors and name not in names), None)
        if lacks is not None:
            _refuse(a.name, f"leaves out {lacks}")
        for file in unsaid(a):
            raise Refusal(f"vector '{a.name}' brings its own {file}, which an adapter cannot contain", _COMPRESS)


def told(active: Active) -> list[str]:
    """Files that an active vector brings or changes settings in. An untied head does not count: its tensor shows it."""
    if not alphas.adds(active.entry.alpha):
        return []
    return sorted({*active.vector.files, *_patched(active)})


def unsaid(active: Active) -> list[str]:
    """Those files of :func:`told` that an adapter's folder cannot have: settings, and other modules than the model."""
    own = {file for file in told(active) if groups.group_of(file) not in (*IN_ADAPTER, None)}
    return sorted({*own, *_patched(active)}) if alphas.adds(active.entry.alpha) else []


def _patched(active: Active) -> list[str]:
    """Files in which a vector changes settings."""
    return [
        file
        for file, patch in active.vector.config.items()
        if any(path != _TIE and not settings.is_ignored(path, value) for path, value in patch)
    ]


def _bringer(output: Output, around: Surroundings) -> str:
    """The first vector that changes a tensor as a whole tensor."""
    touching = [a for a in around.active if a.entry.touches(output.name)]
    dense = [a.name for a in touching if any(output.name in part.tensors for _, part in a.vector.weighted)]
    return dense[0] if dense else output.terms[0].vector


def _refuse(vector: str, what: str) -> NoReturn:
    raise Refusal(f"no exact adapter exists: vector '{vector}' {what}", _COMPRESS)
