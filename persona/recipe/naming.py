"""Vectors by what people call them: ``listening``, ``listening@main~3``, ``listening@{yesterday}``, ``3f2a9c41d07b``.

A name alone is the recipe's as it stands; with ``@`` and a revision, that of the commit it means; and what is no name of
the recipe may be the beginning of a vector's id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from persona.errors import UsageError, did_you_mean
from persona.history import refs as refs_
from persona.history.commits import Commit
from persona.history.operations import OperationLog
from persona.history.revisions import MIN_PREFIX
from persona.history.revisions import resolve as commit_at
from persona.ids import CommitId, VectorId
from persona.recipe.model import Entry, Recipe
from persona.store.objects import ObjectStore

_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Named:
    """A vector that a text means; ``entry`` is a recipe's, ``commit`` whose recipe, None for the one that stands.

    ``name`` is what the recipe calls it; a vector that only its id names has no entry, and the short id for a name.
    """

    name: str
    id: VectorId
    entry: Entry | None = None
    recipe: Recipe | None = None
    commit: CommitId | None = None


def vector_at(
    text: str,
    standing: Recipe,
    refs: Mapping[str, str],
    objects: ObjectStore,
    log: OperationLog | None = None,
) -> Named:
    """The vector that ``text`` means; ``standing`` is the recipe as it stands, resolved, ``log`` is for ``@{…}``."""
    name, rev = split(text)
    if rev is None:
        return _standing(name, standing, objects)
    if rev == "":
        raise UsageError(
            f"'{text}' has no revision behind the @", f"Write it like '{name}@HEAD~1', or leave the @ out."
        )
    commit = commit_at(rev, refs, objects, log)
    recipe = Recipe.get(objects, Commit.get(objects, commit).recipe)
    entry = recipe.entry(name)
    if entry is None:
        raise _unknown(name, recipe, f"in the recipe of '{rev}'")
    return Named(name, VectorId(entry.id), entry, recipe, commit)


def split(text: str) -> tuple[str, str | None]:
    """Name and revision; ``@{…}`` is a revision with its @."""
    name, at, rev = text.partition("@")
    return name, (f"@{rev}" if rev.startswith("{") else rev) if at else None


def names_a_vector(text: str, refs: Mapping[str, str]) -> bool:
    """Whether a text that may mean either is a vector at a revision: ``main@{2}`` is the branch's, if there is one."""
    name, rev = split(text)
    is_ref = name in ("", refs_.HEAD) or any(prefix + name in refs for prefix in (refs_.BRANCHES, refs_.TAGS))
    return rev is not None and not (is_ref and rev.startswith("@{")) and bool(name)


def by_id(text: str, objects: ObjectStore) -> VectorId | None:
    """The vector whose id begins with ``text``; None if there is none."""
    if not _HEX.fullmatch(text) or not MIN_PREFIX <= len(text) <= 64:
        return None
    found = [VectorId(name) for name in objects.matching(text) if objects.kind(name) == "vector"]
    if len(found) > 1:
        names = ", ".join(name.short for name in found)
        raise UsageError(f"'{text}' begins the ids of {len(found)} vectors: {names}", "Type more of it.")
    return found[0] if found else None


def _standing(name: str, recipe: Recipe, objects: ObjectStore) -> Named:
    entry = recipe.entry(name)
    if entry is not None:
        return Named(name, VectorId(entry.id), entry, recipe)
    found = by_id(name, objects)
    if found is None:
        raise _unknown(name, recipe, "in the recipe")
    entry = next((one for one in recipe.vectors if one.id == found), None)
    return Named(entry.name if entry else found.short, found, entry, recipe if entry else None)


def _unknown(name: str, recipe: Recipe, where: str) -> UsageError:
    known = [entry.name for entry in recipe.vectors]
    return UsageError(f"no vector '{name}' {where}", did_you_mean(name, known) or "It has no vectors.")
