"""A task vector as tensors: τ = W_finetuned − W_base, computed on access."""

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
    """A mapping from tensor names to τ in fp32, in the tensor's shape.

    Each tensor is computed, and its stored bytes verified, on access. Rows and tensors that the base does not have are
    returned whole; those of a derived vector as a build would have them.
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
            raise UsageError(f"{name}: {error}", "Task vectors exist only for float tensors.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def vector(repo: Repository, name: str) -> TaskVector:
    """Return a task vector, without its alpha applied.

    Args:
        name: Name of a vector in `persona.toml`, or `NAME@REV`.

    Raises:
        UsageError: There is no such vector. Accessing a tensor that is not float raises it too.
    """
    return TaskVector(repo, vector_at(name, worktree_recipe(repo), repo.refs(), repo.objects, repo.log).id)
