"""``persona derive``: a vector that is a sum of others. It keeps none of their weights, and stays what it is.

See docs/decisions/0012-derived-vectors.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from persona.building.derived import FORM, sum_of
from persona.errors import ExpressionError, UsageError, WrongBase
from persona.ids import VectorId
from persona.recipe import derived, edit, expressions
from persona.recipe.model import Entry, Recipe
from persona.recipe.naming import Named, vector_at
from persona.recipe.parse import LARGEST, checked_vector_name, parse
from persona.recipe.resolve import resolve
from persona.repository import Repository
from persona.store.nouns import TermOf, Vector
from persona.verbs.recording import Recorded, clean_recipe, record
from persona.verbs.vectors import Listed, listed


@dataclass(frozen=True)
class Derived:
    """What ``derive`` did. ``recorded`` is None when the recipe had this very vector under this name already."""

    recorded: Recorded | None
    vector: Listed
    expression: str
    replaced: bool
    notes: tuple[str, ...] = ()


def derive(
    repo: Repository,
    name: str,
    expression: str,
    *,
    alpha: float | None = None,
    replace: bool = False,
    message: str | None = None,
    author: str = "",
    command: str = "derive",
) -> Derived:
    """Make the sum ``expression`` of vectors the vector ``name`` of the recipe, and commit that."""
    checked_vector_name(name)
    if alpha is not None and not abs(alpha) <= LARGEST:  # also false for NaN
        raise UsageError(f"alpha {alpha} is not a finite number of at most {LARGEST:.0e}", "Give one such as 0.8.")
    written = " ".join(expression.split())
    with clean_recipe(repo, command) as (change, text):
        recipe = resolve(parse(text), repo.objects, repo.recipe(repo.head()), text)
        vector = _made(repo, recipe, written)
        before = recipe.entry(name)
        entry = _entry(before, name, vector, alpha)
        if before is not None and before.id != vector and not replace:
            raise UsageError(
                f"the recipe has another vector '{name}' already",
                "Choose another name, or add --replace to redefine it.",
            )
        if entry == before:
            note = f"'{name}' is this very vector already; nothing new was recorded"
            return Derived(None, listed(repo, entry, recipe), written, False, (note,))
        text = edit.put_vector(text, entry, comment=_comment(repo, vector, written))
        facts = {"vector": name, "form": repo.vector(vector).form, "expression": written}
        recorded = record(repo, change, text, message or f"derive {name} = {written}", author, facts)
    after = repo.recipe(recorded.commit)
    notes = () if repo.vector(vector).form == FORM else (f"this is the vector {vector.short} itself, by another name",)
    return Derived(recorded, listed(repo, entry, after), written, before is not None, notes)


def mean_of(repo: Repository, recipe: Recipe, one: str, other: str) -> VectorId:
    """½·one + ½·other, of two vectors by their ids; kept, at no cost in storage."""
    return _made(repo, recipe, f'0.5 * "{one}" + 0.5 * "{other}"')


def _comment(repo: Repository, vector: VectorId, written: str) -> str:
    """What stands beside a derived vector in ``persona.toml``."""
    return f"= {written}" if repo.vector(vector).form == FORM else ""


def _entry(before: Entry | None, name: str, vector: VectorId, alpha: float | None) -> Entry:
    """The recipe's entry: what it said before, with what is new."""
    entry = before or Entry(name, vector)
    return replace(entry.with_vector(vector), alpha=entry.alpha if alpha is None else float(alpha))


def _made(repo: Repository, recipe: Recipe, written: str) -> VectorId:
    """The sum, kept; one that is a single vector, once, is that vector."""
    called: dict[VectorId, str] = {}
    sums = expressions.combine(written, lambda name: _flat(repo, recipe, written, name, called))
    terms = [TermOf(coefficient, vector, called[vector]) for vector, coefficient in sums.items()]
    if [term.coefficient for term in terms] == [1.0]:
        return terms[0].id
    vectors = [repo.vector(term.id) for term in terms]
    names = derived.names_in([recipe])
    shown = [derived.label(term, names) for term in terms]
    return sum_of(recipe.base_id, repo.base(recipe.base_id), terms, vectors, shown, repo.tensors).put(repo.objects)


def _flat(
    repo: Repository, recipe: Recipe, written: str, name: expressions.Name, called: dict[VectorId, str]
) -> Mapping[VectorId, Fraction]:
    """What a name of an expression means, as stored vectors: itself, or the terms of a derived one."""
    named = _found(repo, recipe, written, name)
    vector = Vector.get(repo.objects, named.id)
    if vector.base != recipe.base:
        raise WrongBase(
            f"vector '{name.text}' ({named.id.short}) belongs to base {vector.base.short}, "
            f"and the recipe's base is {recipe.base_name or 'unnamed'} ({recipe.base[:12]})",
            "Only vectors of one base can be added.",
        )
    terms = vector.terms or (TermOf(1.0, named.id, named.name),)
    for term in terms:
        called.setdefault(term.id, term.name)
    return {term.id: _exact(term.coefficient) for term in terms}


def _exact(coefficient: float) -> Fraction:
    """The fraction that a person meant: 1/10 and not the double next to it."""
    near = Fraction(coefficient).limit_denominator(1_000_000)
    return near if float(near) == coefficient else Fraction(coefficient)


def _found(repo: Repository, recipe: Recipe, written: str, name: expressions.Name) -> Named:
    try:
        return vector_at(name.text, recipe, repo.refs(), repo.objects, repo.log)
    except UsageError as error:
        hint = expressions.meant(name.text, [entry.name for entry in recipe.vectors]) or error.hint
        raise ExpressionError(error.message, hint, written, name.at) from None
