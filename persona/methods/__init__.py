"""Merge methods: one module each, found by being in this folder.

A method module has ``PARAMETERS`` (what ``[merge]`` may say beside ``method`` and ``scale``) and
``combine(base, deltas, alphas, scale, parameters)`` over fp32 blocks. Its docstring gives formula and source.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

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


@cache
def names() -> tuple[str, ...]:
    """All methods, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_METHODS))


def load(name: str) -> Method:
    """One method's module; an error inside it is raised as it is."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return module  # type: ignore[no-any-return]
