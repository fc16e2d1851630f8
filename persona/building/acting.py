"""Active vectors: which vectors of a recipe change a tensor, and how strongly.

:mod:`persona.building.plan` has the rules for what follows from that. The checks here reject combinations of vectors that cannot be
built together.

A base may tie its output head to the embedding and store the shared matrix once. A vector may then have the head's
change under either name, so :class:`Active` looks up every tensor under the names that the base knows it by.
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
"""Forms of vectors that store whole tensors, and so have a dtype of their own."""


@dataclass(frozen=True)
class Active:
    """A vector with a non-zero alpha somewhere, on the recipe's base."""

    entry: Entry
    vector: Vector
    base: Base
    depths: Depths = field(default_factory=lambda: Depths({}))
    diagonal: Fisher | None = None

    @property
    def name(self) -> str:
        """Its name in the recipe."""
        return self.entry.name

    def alpha_at(self, own_name: str) -> float:
        """Its alpha at one of its own tensors; 0 where ``only`` and ``except`` exclude the tensor."""
        if not self.entry.touches(own_name):
            return 0.0
        alpha = alphas.alpha_at(self.entry.alpha, own_name, self.depths)
        if alpha is None:
            raise UsageError(
                f"vectors.{self.name}.alpha: no pattern matches {own_name}, which the vector changes",
                f'Add a pattern for it, a default ("*" = 1.0), or exclude it: except = ["{own_name}"].',
            )
        return alpha

    def touch_at(self, tensor: str) -> Touch | None:
        """What it does to a tensor; None if nothing."""
        source = self.vector.source(*self.base.names_of(tensor))
        if source is None:
            return None
        alpha = self.alpha_at(self._own_name(tensor))
        return Touch(self, alpha, source) if alpha != 0 else None

    def brings(self, tensor: str) -> bool:
        """Whether it can add a tensor that the base does not have, under exactly this name."""
        return self.vector.brings(tensor) and self.alpha_at(tensor) > 0

    def whole_specs(self, tensor: str) -> list[TensorSpec]:
        """How its full fine-tunes store a tensor: the base's spec for those that leave it alone."""
        if not self.entry.touches(self._own_name(tensor)):
            return []
        before, names = self.base.spec(tensor), self.base.names_of(tensor)
        runs = [run for _, run in self.vector.weighted if run.form in WHOLE or before is None]
        specs = [next((run.tensors[name] for name in names if name in run.tensors), before) for run in runs]
        return [spec for spec in specs if spec is not None]

    def diagonal_spec(self, tensor: str) -> TensorSpec | None:
        """Its Fisher diagonal at a tensor."""
        known = self.diagonal.tensors if self.diagonal is not None else {}
        return next((known[name] for name in self.base.names_of(tensor) if name in known), None)

    def _own_name(self, tensor: str) -> str:
        """The name under which it has a tensor, which is the one that patterns match."""
        names = self.base.names_of(tensor)
        return next((name for name in names if self.vector.source(name) is not None), tensor)


@dataclass(frozen=True)
class Touch:
    """What one vector does to one output tensor."""

    active: Active
    alpha: float
    source: Source

    @property
    def dense(self) -> list[Dense]:
        """The whole tensors among its sources."""
        parts = enumerate(parts_of(self.source))
        return [Dense(self, c, spec, number) for number, (c, spec) in parts if isinstance(spec, TensorSpec)]


@dataclass(frozen=True)
class Dense:
    """A whole tensor that changes an output: the vector's own, or that of term number ``part`` of a derived vector."""

    touch: Touch
    coefficient: float
    spec: TensorSpec
    part: int

    @property
    def share(self) -> float:
        """How strongly it brings new rows or tensors; negative if it, or its whole vector, is subtracted."""
        return self.touch.alpha * (self.coefficient if self.touch.alpha > 0 else 1.0)


def active_vectors(
    recipe: Recipe, base: Base, vectors: Mapping[str, Vector], diagonals: Mapping[str, Fisher] | None = None
) -> list[Active]:
    """List the vectors with a non-zero alpha somewhere, in recipe order."""
    depths, known = Depths.of(base.tensors), diagonals or {}
    acting = (entry for entry in recipe.vectors if alphas.acts(entry.alpha))
    return [Active(entry, vectors[entry.name], base, depths, known.get(entry.name)) for entry in acting]


def check_patterns(entry: Entry, vector: Vector) -> None:
    """Check that every pattern of ``only``, ``except`` and ``alpha`` matches a tensor of the vector.

    Raises:
        UsageError: a pattern matches none.
    """
    names = [*vector.names, *vector.gone]
    keys = (("only", entry.only), ("except", entry.excepted), ("alpha", alphas.patterns(entry.alpha)))
    for key, patterns in keys:
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    f"vectors.{entry.name}.{key}: '{pattern}' matches none of its {len(names)} tensors",
                    f"Its tensors have names like '{names[0]}'." if names else "It has no tensors.",
                )


def grown(base: Base, vector: Vector) -> list[str]:
    """Names of the tensors that a vector adds, or adds rows to."""
    names = (n for n, spec in vector.wholes if n not in base.tensors or spec.shape != base.tensors[n].shape)
    return list(dict.fromkeys(names))


def check_growth(base: Base, active: Iterable[Active]) -> None:
    """Check that embedding and head grow together.

    Raises:
        Refusal: a vector adds rows to both, but a pattern or alpha keeps it off one of them.
    """
    for a in active:
        rows = [name for name in grown(base, a.vector) if name in base.tensors]
        kept = [name for name in rows if a.alpha_at(name) > 0]
        if kept and len(kept) < len(rows):
            left = next(name for name in rows if name not in kept)
            raise Refusal(
                f"vector '{a.name}' adds rows to {kept[0]} and to {left}, but is kept off {left}",
                "Embedding and head must have the same rows: use the same only, except and alpha for both.",
            )


def dropped(active: Iterable[Active]) -> set[str]:
    """Names of the tensors to leave out, because a vector with a positive alpha was saved without them.

    Raises:
        Refusal: another vector changes such a tensor.
    """
    active = list(active)
    lacking = {name: a for a in active for name in a.vector.gone if a.alpha_at(name) > 0}
    for name, lacks in lacking.items():
        for other in active:
            if name in other.vector.names and other.alpha_at(name) > 0:
                raise Refusal(
                    f"vector '{lacks.name}' was saved without {name}, but vector '{other.name}' changes it",
                    f'Choose one in persona.toml: set except = ["{name}"] on the other.',
                )
    return set(lacking)


def agreed_shape(name: str, before: TensorSpec | None, bringing: list[Dense]) -> tuple[int, ...]:
    """The shape of an output: the base's, or the larger one that the vectors in ``bringing`` agree on.

    Raises:
        Refusal: two vectors give the tensor different new shapes.
    """
    shape = before.shape if before else bringing[0].spec.shape
    grower = None
    for touch, spec in ((dense.touch, dense.spec) for dense in bringing):
        if spec.shape == shape:
            grower = grower or (touch.active if before is None else None)
            continue
        if before is not None and spec.shape == before.shape:
            continue
        if grower is not None:
            raise Refusal(
                f"vectors '{grower.name}' and '{touch.active.name}' give {name} different shapes: "
                f"{list(shape)} and {list(spec.shape)}",
                "They added different tokens or different heads. Choose whose tokens the build has, in the table [files] "
                f'of persona.toml (tokenizer = "{grower.name}", or tokens = "union" for both), or exclude one with except = ["{name}"].',
            )
        shape, grower = spec.shape, touch.active
    return shape
