"""Merge methods: one module each, found by being in this folder. ``parts`` holds what they share.

A method gives the merged delta δ of one tensor from the τᵢ of the vectors that touch it; the engine makes of it
W = W_base + λδ, rounded once. Its module has

    PARAMETERS      what ``[merge]`` may say beside ``method`` and ``scale`` (see ``parts/parameters.py``)
    reference(base, deltas, shares, parameters)
                    δ in plain torch, fp32, whole tensors: the formula as the paper has it, and the tests' oracle

and one way to compute the same block by block:

    FAMILY          a sparsifier and a combiner by name (``parts/family.py``), which have compiled loops
    coefficients(gram, shares, parameters)
                    weights of whole tensors from their lengths and angles (``parts/gram.py``)
    prepare(work), combine(work, piece, state)
                    its own passes over the blocks of a tensor, then one block at a time
    matrix(deltas, shares, parameters)
                    δ of a whole matrix from [rows, columns] arrays; tensors of another rank get the mean of αᵢτᵢ

and where it needs them

    EVERY           True if a vector that leaves a tensor alone counts there with τ = 0
    WEIGHTED        True if it weighs entries: the Fᵢ of a vector, a number ≥ 0 for each entry of its τᵢ, then come as a
                    second tensor. ``reference`` has one more argument, ``weights``, the list of Fᵢ; a piece has them in
                    ``weights``; a share has the size of all of a vector's in ``size``. Where a vector is alone at a
                    tensor, or where one of several has no F there, the list is empty
    VECTORS         how many it takes: (least, most)
    check(parameters), check_alphas(alphas)
                    a sentence that says what is wrong with values that are each in their range, or None

The docstring gives name, formula and source; ``persona methods NAME`` shows it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from persona.errors import UsageError
from persona.methods.parts.parameters import Parameter, Value, settings

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.share import Share

__all__ = ["Method", "complaint", "load", "names", "settings", "vectors_taken"]


class Method(Protocol):
    """What every method module has."""

    PARAMETERS: Mapping[str, Parameter]

    def reference(
        self, base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]
    ) -> Tensor:
        """δ of one tensor from τᵢ, all fp32 and of one shape."""


@cache
def names() -> tuple[str, ...]:
    """All methods, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))


ALIASES = {"task_arithmetic": "linear"}
"""Other names that people know a method by."""


def load(name: str) -> Method:
    """One method's module; an error inside it is raised as it is. UsageError if there is none of that name."""
    place = f"{__name__}.{ALIASES.get(name, name)}"
    try:
        module: Any = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name != place:
            raise
        hint = "It came with another version of persona, or is a module of somebody's own. See 'persona methods'."
        raise UsageError(f"unknown method '{name}'", hint) from None
    return module  # type: ignore[no-any-return]


def counts_every(method: Method) -> bool:
    """Whether a vector that leaves a tensor alone counts there."""
    return bool(getattr(method, "EVERY", False))


def weighs(method: Method) -> bool:
    """Whether it weighs entries by a second tensor of each vector."""
    return bool(getattr(method, "WEIGHTED", False))


def takes_matrices(method: Method) -> bool:
    """Whether it needs whole matrices at once."""
    return hasattr(method, "matrix")


def vectors_taken(method: Method) -> tuple[int, int | None]:
    """The least and the most vectors it merges; None for any number."""
    return getattr(method, "VECTORS", (1, None))


def complaint(method: Method, parameters: Mapping[str, Value]) -> str | None:
    """What is wrong with the parameters taken together."""
    check = getattr(method, "check", None)
    return check(parameters) if check is not None else None


def alphas_complaint(method: Method, alphas: Sequence[float]) -> str | None:
    """What is wrong with the alphas that meet at one tensor."""
    check = getattr(method, "check_alphas", None)
    return check(alphas) if check is not None else None
