"""Merge methods: one module each, found by being in this folder. ``parts`` holds what they share.

A method computes the merged delta δ of one tensor from the τᵢ of the vectors that change it; the engine then computes
W = W_base + λδ, rounded once. Its module has

    PARAMETERS      keys of ``[merge]`` besides ``method`` and ``scale`` (see ``persona/settings.py``)
    reference(base, deltas, shares, parameters)
                    δ in plain torch, fp32, of whole tensors: the formula as in the paper; tests compare against it

and one way to compute the same block by block:

    FAMILY          a sparsifier and a combiner by name (``parts/family.py``), which have compiled loops
    coefficients(gram, shares, parameters)
                    weights of whole tensors, from their lengths and angles (``parts/gram.py``)
    prepare(work), combine(work, piece, state)
                    passes of its own over the blocks of a tensor, then one block at a time
    matrix(deltas, shares, parameters, shape)
                    δ of a whole matrix from [rows, columns] arrays; other tensors get the mean of αᵢτᵢ. It must not
                    depend on the bases: where every vector is a product of thin factors, the arrays are the cores of
                    the τᵢ (``parts/core.py``), which are smaller than the tensor's ``shape``

and optionally

    EVERY           True if a vector that does not change a tensor counts there with τ = 0
    WEIGHTED        True if it weighs entries: the Fᵢ of a vector, a number ≥ 0 for each entry of its τᵢ, then come as a
                    second tensor. ``reference`` takes one more argument, ``weights``, the list of Fᵢ; a piece has
                    them in ``weights``; a share has the size of all of a vector's F in ``size``. The list is empty
                    where a vector is alone at a tensor, or where one of several has no F
    ADDS            True if a method over matrices gives other tensors the sum of αᵢτᵢ instead of the mean
    VECTORS         how many vectors it takes: (least, most)
    check(parameters), check_alphas(alphas)
                    what is wrong with values that are each in their range, in one sentence, or None

The docstring gives name, formula and source; ``persona methods NAME`` prints it.
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
    """A method's module."""

    PARAMETERS: Mapping[str, Parameter]

    def reference(
        self, base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]
    ) -> Tensor:
        """Compute δ of one tensor.

        Args:
            base: W_base, fp32.
            deltas: The τᵢ, fp32 and of the shape of `base`.
            shares: Alpha and parameters of each vector.
            parameters: A value for every parameter of the method.
        """


@cache
def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))


ALIASES = {"task_arithmetic": "linear"}
"""Other names of methods."""


def load(name: str) -> Method:
    """Import a method's module; errors inside it pass through.

    Raises:
        UsageError: there is no such method.
    """
    place = f"{__name__}.{ALIASES.get(name, name)}"
    module: Any = None
    if name.isidentifier():  # a recipe may be somebody else's
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name != place:
                raise
    if not hasattr(module, "PARAMETERS"):
        hint = "It may come from another version of persona, or from a module of your own. See 'persona methods'."
        raise UsageError(f"unknown method '{name}'", hint)
    return module  # type: ignore[no-any-return]


def counts_every(method: Method) -> bool:
    """Return whether a vector that does not change a tensor counts there."""
    return bool(getattr(method, "EVERY", False))


def weighs(method: Method) -> bool:
    """Return whether the method weighs entries by a second tensor of each vector."""
    return bool(getattr(method, "WEIGHTED", False))


def takes_matrices(method: Method) -> bool:
    """Return whether the method needs whole matrices at once."""
    return hasattr(method, "matrix")


def adds_rest(method: Method) -> bool:
    """Return whether a method over matrices gives other tensors the sum of αᵢτᵢ instead of the mean."""
    return bool(getattr(method, "ADDS", False))


def vectors_taken(method: Method) -> tuple[int, int | None]:
    """Return the least and the most vectors it merges; None means any number."""
    return getattr(method, "VECTORS", (1, None))


def complaint(method: Method, parameters: Mapping[str, Value]) -> str | None:
    """Return what is wrong with the combination of parameters, if anything."""
    check = getattr(method, "check", None)
    return check(parameters) if check is not None else None


def alphas_complaint(method: Method, alphas: Sequence[float]) -> str | None:
    """Return what is wrong with the alphas at one tensor, if anything."""
    check = getattr(method, "check_alphas", None)
    return check(alphas) if check is not None else None
