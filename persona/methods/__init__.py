"""Merge methods: one module each, found by being in this folder.

A method module has ``PARAMETERS`` (what ``[merge]`` may say beside ``method`` and ``scale``) and
``combine(base, deltas, alphas, scale, parameters)`` over fp32 blocks. Its docstring gives formula and source.

It may also have ``fused(kernels, base, terms, alphas, scale, parameters, total, out)``: the same numbers, rounded,
without fp32 copies of what comes in. The engine prefers it where kernels are compiled.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona.kernels import Float32, Kernels, Weights

_NOT_METHODS = frozenset({"lowrank"})
"""Arithmetic in this folder that methods share."""


@dataclass(frozen=True)
class Parameter:
    """What a method can be told: a number within a range."""

    default: float
    low: float
    high: float
    summary: str

    def checked(self, value: Any) -> float:
        """``value`` if it fits; ValueError says why not."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is not between {self.low} and {self.high}")
        return float(value)


class Method(Protocol):
    """The surface of a method module."""

    PARAMETERS: Mapping[str, Parameter]

    def combine(
        self, base: Any, deltas: list[Any], alphas: list[float], scale: float, parameters: Mapping[str, Any]
    ) -> Any:
        """W from W_base and the τᵢ, in fp32."""


class Term(NamedTuple):
    """A block of one vector: its weights in the form of the base's, or its τ in fp32."""

    values: Weights
    is_delta: bool


class Fused(Protocol):
    """What a method may offer beside ``combine``.

    ``base``, the weights among ``terms`` and ``out`` have one form, BF16 bits or fp32. Each term is used up when
    the next one is taken. ``total`` is fp32 scratch space. A NaN in ``out`` is the positive quiet one.
    """

    def __call__(
        self,
        kernels: Kernels,
        base: Weights,
        terms: Iterable[Term],
        alphas: list[float],
        scale: float,
        parameters: Mapping[str, Any],
        total: Float32,
        out: Weights,
    ) -> None:
        """W of one block into ``out``, from at least one term."""


@cache
def names() -> tuple[str, ...]:
    """All methods, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_METHODS))


def load(name: str) -> Method:
    """One method's module; an error inside it is raised as it is."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return module  # type: ignore[no-any-return]


def fused(method: Method) -> Fused | None:
    """The fused form of a method, if it has one."""
    return getattr(method, "fused", None)
