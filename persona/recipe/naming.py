"""Find vectors by name or id: ``listening``, ``listening@main~3``, ``listening@{yesterday}``, ``3f2a9c41d07b``.

A name means the vector in the current recipe; with ``@`` and a revision, the vector in that commit. Anything that is
not a name in the recipe may be the beginning of a vector's id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from persona.errors import UsageError, did_you_mean
from persona.history import refs as refs_
from persona.history.commits import Commit
from persona.history.operations import OperationLog
from persona.history.refs import MIN_PREFIX
from persona.history.revisions import resolve as commit_at
from persona.ids import CommitId, VectorId
from persona.recipe.model import Entry, Recipe
from persona.store.objects import ObjectStore

_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Named:
    """A vector that was found.

    Attributes:
        name: Its name in the recipe, or its short id if it has none.
        entry: Its entry in the recipe, if it has one.
        recipe: The recipe that it was found in.
        commit: The commit of that recipe; None for the current one.
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
    """Find the vector that `text` names.

    Args:
        standing: The current recipe, resolved.
        log: Needed for revisions such as ``@{yesterday}``.

    Raises:
        UsageError: `text` does not name a vector.
    """
    name, rev = split(text)
    if rev is None:
        return _current(name, standing, objects)
    if rev == "":
        raise UsageError(f"'{text}' has no revision after the @", f"Write it like '{name}@HEAD~1', or remove the @.")
    commit = commit_at(rev, refs, objects, log)
    recipe = Recipe.get(objects, Commit.get(objects, commit).recipe)
    entry = recipe.entry(name)
    if entry is None:
        raise _unknown(name, recipe, f"in the recipe of '{rev}'")
    return Named(name, VectorId(entry.id), entry, recipe, commit)


def split(text: str) -> tuple[str, str | None]:
    """Split into name and revision; a revision ``@{…}`` keeps its @."""
    name, at, rev = text.partition("@")
    return name, (f"@{rev}" if rev.startswith("{") else rev) if at else None


def names_a_vector(text: str, refs: Mapping[str, str]) -> bool:
    """Return whether `text` names a vector at a revision; ``main@{2}`` is a revision if there is a branch main."""
    name, rev = split(text)
    is_ref = name in ("", refs_.HEAD) or any(prefix + name in refs for prefix in (refs_.BRANCHES, refs_.TAGS))
    return rev is not None and not (is_ref and rev.startswith("@{")) and bool(name)


def by_id(text: str, objects: ObjectStore) -> VectorId | None:
    """Find the vector whose id begins with `text`; None if there is none.

    Raises:
        UsageError: several ids begin with it.
    """
    if not _HEX.fullmatch(text) or not MIN_PREFIX <= len(text) <= 64:
        return None
    matches = [VectorId(name) for name in objects.matching(text) if objects.kind(name) == "vector"]
    if len(matches) > 1:
        names = ", ".join(name.short for name in matches)
        raise UsageError(f"'{text}' is ambiguous: {len(matches)} vectors match: {names}", "Type more of the id.")
    return matches[0] if matches else None


def _current(name: str, recipe: Recipe, objects: ObjectStore) -> Named:
    entry = recipe.entry(name)
    if entry is not None:
        return Named(name, VectorId(entry.id), entry, recipe)
    vector = by_id(name, objects)
    if vector is None:
        raise _unknown(name, recipe, "in the recipe")
    entry = next((entry for entry in recipe.vectors if entry.id == vector), None)
    return Named(entry.name if entry else vector.short, vector, entry, recipe if entry else None)


def _unknown(name: str, recipe: Recipe, where: str) -> UsageError:
    known = [entry.name for entry in recipe.vectors]
    return UsageError(f"no vector '{name}' {where}", did_you_mean(name, known) or "The recipe has no vectors.")
