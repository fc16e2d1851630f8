"""One vector of a recipe, summarized for people: its form, its size in the store, what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

from persona.ids import FisherId, VectorId
from persona.recipe import derived
from persona.recipe.alphas import Alpha
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.store.nouns import TensorSpec, TermOf, Vector, rank_of


@dataclass(frozen=True)
class VectorSummary:
    """One vector; ``kept_bytes`` is what its tensors take in the store, ``baked_from`` what a baked one is made of.

    A derived one is the sum of ``terms``, which is ``expression`` in words. ``fisher`` is the diagonal that a method may weigh
    it by.
    """

    name: str
    id: VectorId
    alpha: Alpha
    form: str
    rank: int | None
    tensors: int
    kept_bytes: int
    node: str | None
    only: tuple[str, ...]
    excepted: tuple[str, ...]
    gone: tuple[str, ...]
    baked_from: Recipe | None = None
    expression: str = ""
    terms: tuple[TermOf, ...] = ()
    fisher: FisherId | None = None


def summarize(repo: Repository, entry: Entry, recipe: Recipe) -> VectorSummary:
    """One vector of a resolved recipe, whose names the terms of a derived one get."""
    name = VectorId(entry.id)
    vector = repo.vector(name)
    return VectorSummary(
        name=entry.name,
        id=name,
        alpha=entry.alpha,
        form=vector.form,
        rank=_rank(vector),
        tensors=len(vector.names),
        kept_bytes=kept_bytes(repo, vector),
        node=entry.node,
        only=entry.only,
        excepted=entry.excepted,
        gone=vector.gone,
        baked_from=Recipe.get(repo.objects, vector.baked_from) if vector.baked_from else None,
        expression=derived.said(vector.terms, derived.names_in([recipe])),
        terms=vector.terms,
        fisher=FisherId(entry.fisher) if entry.fisher else None,
    )


def _rank(vector: Vector) -> int | None:
    """The largest rank of its factors; of a derived vector, if it has nothing but factors."""
    if not vector.terms:
        return max((spec.rank for spec in vector.low_rank.values()), default=None)
    ranks = [rank_of(source) for name in vector.names if (source := vector.source(name)) is not None]
    return max((rank or 0 for rank in ranks), default=None) if all(ranks) else None


def kept_bytes(repo: Repository, vector: Vector) -> int:
    """What a vector's tensors take in the store."""
    kept = {spec.id: repo.tensors.describe(spec.id).stored_bytes for spec in stored_tensors(vector)}
    return sum(kept.values())


def stored_tensors(vector: Vector) -> list[TensorSpec]:
    """Every tensor that a vector needs from the store."""
    found = list(vector.tensors.values())
    for spec in vector.low_rank.values():
        found += [spec.left, spec.right]
    return found
