"""A task vector as tensors: τ = W_finetuned − W_base, derived when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from persona.building.streams import tau
from persona.errors import UsageError
from persona.ids import VectorId
from persona.recipe.naming import vector_at
from persona.repository import Repository
from persona.workspace.record import worktree_recipe

if TYPE_CHECKING:
    import torch


class TaskVector(Mapping[str, "torch.Tensor"]):
    """Name → τ in fp32, in the tensor's shape; each is computed, and verified, when it is taken.

    Rows and tensors that the base has not are given whole; of a sum, as a build would carry them.
    """

    def __init__(self, repo: Repository, vector: VectorId) -> None:
        self._repo = repo
        self._vector = repo.vector(vector)
        self._base = repo.base(self._vector.base)
        known = {*self._base.tensors, *self._base.tied}
        self._names = {n: None for n in self._vector.names if n in known or self._vector.brings(n)}

    def __getitem__(self, name: str) -> torch.Tensor:
        import torch

        if name not in self._names:
            raise KeyError(name)
        source, base = self._vector.source(*self._base.names_of(name)), self._base.spec(name)
        assert source is not None
        try:
            return torch.from_numpy(tau(self._repo.tensors, source, base))
        except ValueError as error:
            raise UsageError(f"{name}: {error}", "Only float tensors have a difference.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def vector(repo: Repository, name: str) -> TaskVector:
    """The vector called ``name`` in the recipe as it stands, or ``NAME@REV`` in another (alpha not applied)."""
    return TaskVector(repo, vector_at(name, worktree_recipe(repo), repo.refs(), repo.objects, repo.log).id)
