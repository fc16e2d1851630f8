"""Summaries of the vectors of a recipe: form, size in the store, and what they are made of."""

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
    """One vector of a recipe.

    ``rank`` is null for a full fine-tune. ``tensors`` counts the tensors that it changes, ``kept_bytes`` is their size in the store, and
    ``gone`` lists tensors of the base that it was saved without. ``baked_from`` is the recipe that a baked vector
    replaces. A derived vector is the sum of ``terms``, written out in ``expression``. ``fisher`` is the id of its
    Fisher diagonal.
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
    """Summarize one vector of a resolved recipe. Terms of a derived vector are named as in ``recipe``."""
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
    """The largest rank of a vector's factors; None if it has whole tensors only, or a derived one has any."""
    if not vector.terms:
        return max((spec.rank for spec in vector.low_rank.values()), default=None)
    ranks = [rank_of(source) for name in vector.names if (source := vector.source(name)) is not None]
    return max((rank or 0 for rank in ranks), default=None) if all(ranks) else None


def kept_bytes(repo: Repository, vector: Vector) -> int:
    """Bytes that a vector's tensors take in the store."""
    kept = {spec.id: repo.tensors.describe(spec.id).stored_bytes for spec in stored_tensors(vector)}
    return sum(kept.values())


def stored_tensors(vector: Vector) -> list[TensorSpec]:
    """Every tensor that a vector has in the store."""
    factors = [factor for spec in vector.low_rank.values() for factor in (spec.left, spec.right)]
    return [*vector.tensors.values(), *factors]
