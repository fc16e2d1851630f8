"""Which commits, vectors and readouts suffer when something is lost.

A commit suffers when its own recipe, text, base or vectors need what is lost; not when an ancestor's do. A vector
suffers when its own tensors are lost, or a tensor of its base that it changes: its τ is a difference to that one. A
baked one suffers with the recipe that it was made of, and not with what that recipe names: its tensors are its own. A
derived one has none of its own, and suffers with any of its terms. A readout suffers when its own directions are lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from persona.ids import BaseId, CommitId, ObjectId, RecipeId, VectorId
from persona.maintenance.catalog import Catalog
from persona.maintenance.report import AffectedCommit
from persona.recipe.model import Recipe
from persona.store.nouns import Base, Vector
from persona.store.objects import ObjectStore


@dataclass
class Affected:
    """The reachable part of a history, turned round."""

    objects: ObjectStore
    catalog: Catalog
    reached: set[ObjectId]
    _changes: dict[ObjectId, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def users(self) -> Mapping[str, set[ObjectId]]:
        """Reachable objects by what they need."""
        found: dict[str, set[ObjectId]] = {}
        for name in self.reached:
            known = self.catalog.known[name]
            if known.kind != "operation":
                for needed in known.edges.ids:
                    found.setdefault(needed, set()).add(name)
        return found

    def commits(self, lost: str) -> tuple[AffectedCommit, ...]:
        """Commits that suffer, newest first."""
        seen, queue = {lost}, [lost]
        found: set[ObjectId] = set()
        while queue:
            needed = queue.pop()
            for user in self.users.get(needed, ()):
                if needed != lost and self._is_parentage(needed, user):
                    continue
                if self.catalog.known[user].kind == "commit":
                    found.add(user)
                elif user not in seen:
                    seen.add(user)
                    queue.append(user)
        known = self.catalog.known
        return tuple(AffectedCommit(CommitId(name), known[name].subject) for name in self._order if name in found)

    def _is_parentage(self, needed: str, user: ObjectId) -> bool:
        known = self.catalog.known
        return needed in known and (known[ObjectId(needed)].kind, known[user].kind) == ("recipe", "vector")

    def vectors(self, lost: str, also: Iterable[str] = ()) -> tuple[str, ...]:
        """Names, in recipes, of vectors and readouts that suffer; ``also`` are ids that are lost along with it."""
        hit = {lost, *also}
        for user in self._near(lost):
            kind = self.catalog.known[user].kind
            if kind == "vector" or (kind == "readout" and lost in self.catalog.known[user].edges.tensors):
                hit.add(user)
            if self.catalog.known[user].kind == "base":
                hit |= self._changers(user, lost)
        hit |= self._sums_of(hit)
        return tuple(sorted({name for name, vector in self._entries if vector in hit}))

    @cached_property
    def _order(self) -> list[ObjectId]:
        commits = [name for name in self.reached if self.catalog.known[name].kind == "commit"]
        newest_first = sorted(commits, key=lambda name: (self.catalog.known[name].time, name), reverse=True)
        return self.catalog.children_first(newest_first)

    def _near(self, lost: str) -> set[ObjectId]:
        return self.users.get(lost, set())

    def _sums_of(self, vectors: Iterable[str]) -> set[str]:
        """Derived vectors that have any of these for a term."""
        users = {user for name in vectors for user in self.users.get(name, set())}
        return {user for user in users if self.catalog.known[user].kind == "vector"}

    def _changers(self, base: ObjectId, tensor: str) -> set[str]:
        """Vectors of ``base`` that change the tensor, by any of the names that the base has it under."""
        specs = Base.get(self.objects, BaseId(base)).tensors
        names = {name for name, spec in specs.items() if spec.id == tensor}
        vectors = {user for user in self._near(base) if self.catalog.known[user].kind == "vector"}
        own = {v: Vector.get(self.objects, VectorId(v)) for v in vectors}
        return {v for v, vector in own.items() if not names.isdisjoint({*vector.tensors, *vector.low_rank})}

    @cached_property
    def _entries(self) -> set[tuple[str, str]]:
        """Every name that a reachable recipe gives a vector or a readout."""
        recipes = (name for name in self.reached if self.catalog.known[name].kind == "recipe")
        read = (Recipe.get(self.objects, RecipeId(name)) for name in recipes)
        return {pair for recipe in read for pair in recipe.names.items()}
