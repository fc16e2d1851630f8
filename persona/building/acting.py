"""The vectors of a recipe that act, and what each of them does to a tensor.

The rules are those of :mod:`persona.building.plan`; here is which vectors they are about at a tensor, and what of it is refused because
vectors do not go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from persona.errors import Refusal, UsageError
from persona.recipe import alphas
from persona.recipe.alphas import Depths
from persona.recipe.model import Entry, Recipe
from persona.store.fishers import Fisher
from persona.store.nouns import Base, Source, TensorSpec, Vector, parts_of

WHOLE = frozenset({"dense", "baked"})
"""Forms of vectors that have a dtype of their own: what changes is kept as whole tensors."""


@dataclass(frozen=True)
class Active:
    """A vector of the recipe that acts somewhere."""

    entry: Entry
    vector: Vector
    depths: Depths = field(default_factory=lambda: Depths({}))
    diagonal: Fisher | None = None

    @property
    def name(self) -> str:
        """What the recipe calls it."""
        return self.entry.name

    def called(self, tensor: str, base: Base) -> str:
        """Under which name it has a tensor, which is the one that patterns match: a tied head may be the matrix that it shares."""
        return next((name for name in base.names_of(tensor) if self.vector.source(name) is not None), tensor)

    def at(self, tensor: str) -> float:
        """Its strength at a tensor that it touches, 0 at another."""
        if not self.entry.touches(tensor):
            return 0.0
        alpha = alphas.alpha_at(self.entry.alpha, tensor, self.depths)
        if alpha is None:
            raise UsageError(
                f"vectors.{self.name}.alpha: none of its patterns matches {tensor}, which the vector changes",
                f'Say how strong it is there, or everywhere else: "*" = 1.0, or keep it off: except = ["{tensor}"].',
            )
        return alpha


@dataclass(frozen=True)
class Touch:
    """A vector that changes an output tensor, how strongly, and by what."""

    active: Active
    alpha: float
    source: Source

    @property
    def dense(self) -> list[Dense]:
        """The whole tensors in it."""
        parts = enumerate(parts_of(self.source))
        return [Dense(self, c, part, n) for n, (c, part) in parts if isinstance(part, TensorSpec)]


@dataclass(frozen=True)
class Dense:
    """A whole tensor that changes an output: the vector's own, or the ``part``-th of the sum that it is."""

    touch: Touch
    coefficient: float
    spec: TensorSpec
    part: int

    @property
    def share(self) -> float:
        """How strongly it brings what the base has not; negative if it, or all of its vector, is taken away."""
        return self.touch.alpha * (self.coefficient if self.touch.alpha > 0 else 1.0)


def active_vectors(
    recipe: Recipe, base: Base, vectors: Mapping[str, Vector], diagonals: Mapping[str, Fisher] | None = None
) -> list[Active]:
    """The vectors that act, in recipe order."""
    depths, known = Depths.of(base.tensors), diagonals or {}
    acting = (entry for entry in recipe.vectors if alphas.acts(entry.alpha))
    return [Active(entry, vectors[entry.name], depths, known.get(entry.name)) for entry in acting]


def touch_at(active: Active, name: str, base: Base) -> Touch | None:
    """What a vector does to a tensor; to a head that this build unties, what it does to the matrix it was."""
    source = active.vector.source(*base.names_of(name))
    if source is None:
        return None
    alpha = active.at(active.called(name, base))
    return Touch(active, alpha, source) if alpha != 0 else None


def check_patterns(entry: Entry, vector: Vector) -> None:
    """Raise if a pattern of ``only``, ``except`` or ``alpha`` matches none of a vector's tensors."""
    names = [*vector.names, *vector.gone]
    said = (("only", entry.only), ("except", entry.excepted), ("alpha", alphas.patterns(entry.alpha)))
    for key, patterns in said:
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    f"vectors.{entry.name}.{key}: '{pattern}' matches none of its {len(names)} tensors",
                    f"Its tensors are named like '{names[0]}'." if names else "It has no tensors.",
                )


def grown(base: Base, vector: Vector) -> list[str]:
    """The tensors to which a vector adds rows, and those it brings anew."""
    found = (n for n, spec in vector.wholes if n not in base.tensors or spec.shape != base.tensors[n].shape)
    return list(dict.fromkeys(found))


def check_growth(base: Base, active: Iterable[Active]) -> None:
    """Raise if a vector grows one matrix of the vocabulary and is kept off the other, or not positive there."""
    for a in active:
        rows = [name for name in grown(base, a.vector) if name in base.tensors]
        kept = [name for name in rows if a.at(name) > 0]
        if kept and len(kept) < len(rows):
            left = next(name for name in rows if name not in kept)
            raise Refusal(
                f"vector '{a.name}' adds rows to {kept[0]} and is kept off {left}, to which it adds them too",
                "Embedding and head must have the same rows: let only, except and alpha treat both alike.",
            )


def dropped(active: Iterable[Active]) -> set[str]:
    """Tensors that are left out, because a vector lacks them."""
    active = list(active)
    lacking = {name: a for a in active for name in a.vector.gone if a.at(name) > 0}
    for name, lacks in lacking.items():
        for other in active:
            if name in other.vector.names and other.at(name) > 0:
                raise Refusal(
                    f"vector '{lacks.name}' was saved without {name}, and vector '{other.name}' changes it",
                    f'Decide in persona.toml: except = ["{name}"] on one of them.',
                )
    return set(lacking)


def agreed_shape(name: str, before: TensorSpec | None, dense: list[Dense]) -> tuple[int, ...]:
    """The base's shape, or the larger one that vectors agree on."""
    shape = before.shape if before else dense[0].spec.shape
    grower = None
    for touch, spec in ((one.touch, one.spec) for one in dense):
        if spec.shape == shape:
            grower = grower or (touch.active if before is None else None)
            continue
        if before is not None and spec.shape == before.shape:
            continue
        if grower is not None:
            raise Refusal(
                f"vectors '{grower.name}' and '{touch.active.name}' give {name} different shapes: "
                f"{list(shape)} and {list(spec.shape)}",
                "They added different tokens, or brought different heads: train them with the same ones, "
                f'or keep one out with except = ["{name}"].',
            )
        shape, grower = spec.shape, touch.active
    return shape
