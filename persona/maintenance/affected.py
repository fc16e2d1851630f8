"""Which commits, vectors and readouts are affected when something is lost.

A commit is affected when its own recipe, text, base or vectors need what is lost; not when only an ancestor's do. A
vector is affected when one of its own tensors is lost, or a tensor of its base that it changes, since its τ is a
difference to that one. A baked vector needs the recipe that it was made from, but has its own tensors and so does not
need that recipe's vectors. A derived vector has no tensors, and is affected with any of its terms. A readout is
affected when its own directions are lost.
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
    """The reachable objects, indexed by what they need."""

    objects: ObjectStore
    catalog: Catalog
    reached: set[ObjectId]
    _changes: dict[ObjectId, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def users(self) -> Mapping[str, set[ObjectId]]:
        """Map each id to the reachable objects that need it."""
        users: dict[str, set[ObjectId]] = {}
        for name in self.reached:
            entry = self.catalog.known[name]
            if entry.kind != "operation":
                for needed in entry.references.ids:
                    users.setdefault(needed, set()).add(name)
        return users

    def commits(self, lost: str) -> tuple[AffectedCommit, ...]:
        """Return the affected commits, newest first."""
        seen, queue = {lost}, [lost]
        affected: set[ObjectId] = set()
        while queue:
            needed = queue.pop()
            for user in self.users.get(needed, ()):
                if needed != lost and self._is_origin(needed, user):
                    continue
                if self.catalog.known[user].kind == "commit":
                    affected.add(user)
                elif user not in seen:
                    seen.add(user)
                    queue.append(user)
        known = self.catalog.known
        return tuple(AffectedCommit(CommitId(name), known[name].subject) for name in self._order if name in affected)

    def _is_origin(self, needed: str, user: ObjectId) -> bool:
        """Whether ``needed`` is the recipe that the vector ``user`` was baked from."""
        known = self.catalog.known
        return needed in known and (known[ObjectId(needed)].kind, known[user].kind) == ("recipe", "vector")

    def vectors(self, lost: str, also: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the names of affected vectors and readouts in recipes; ``also`` are ids lost together with ``lost``."""
        affected = {lost, *also}
        for user in self._users_of(lost):
            entry = self.catalog.known[user]
            if entry.kind == "vector" or (entry.kind == "readout" and lost in entry.references.tensors):
                affected.add(user)
            if entry.kind == "base":
                affected |= self._changers(user, lost)
        affected |= self._sums_of(affected)
        return tuple(sorted({name for name, vector in self._entries if vector in affected}))

    @cached_property
    def _order(self) -> list[ObjectId]:
        commits = [name for name in self.reached if self.catalog.known[name].kind == "commit"]
        newest_first = sorted(commits, key=lambda name: (self.catalog.known[name].time, name), reverse=True)
        return self.catalog.children_first(newest_first)

    def _users_of(self, lost: str) -> set[ObjectId]:
        return self.users.get(lost, set())

    def _sums_of(self, vectors: Iterable[str]) -> set[str]:
        """Return the derived vectors that have any of these as a term."""
        users = {user for name in vectors for user in self._users_of(name)}
        return {user for user in users if self.catalog.known[user].kind == "vector"}

    def _changers(self, base: ObjectId, tensor: str) -> set[str]:
        """Return the vectors on ``base`` that change the tensor, under any of its names in the base."""
        specs = Base.get(self.objects, BaseId(base)).tensors
        names = {name for name, spec in specs.items() if spec.id == tensor}
        vectors = {user for user in self._users_of(base) if self.catalog.known[user].kind == "vector"}
        own = {v: Vector.get(self.objects, VectorId(v)) for v in vectors}
        return {v for v, vector in own.items() if not names.isdisjoint({*vector.tensors, *vector.low_rank})}

    @cached_property
    def _entries(self) -> set[tuple[str, str]]:
        """Every name that a reachable recipe gives to a vector or readout, with its id."""
        recipes = (name for name in self.reached if self.catalog.known[name].kind == "recipe")
        return {pair for name in recipes for pair in Recipe.get(self.objects, RecipeId(name)).names.items()}
