"""The parameters that merge methods declare, and the ones that several methods share."""

from __future__ import annotations

from collections.abc import Mapping

from persona.settings import Choice, Number, Whole

__all__ = ["Choice", "Number", "Parameter", "Value", "Whole", "settings"]

Value = float | int | str | bool
"""The value of a parameter."""

Parameter = Number | Whole | Choice


def settings(declared: Mapping[str, Parameter], *given: Mapping[str, Value]) -> dict[str, Value]:
    """Return a value for every declared parameter: from the last of `given` that has it, else its default."""
    merged: dict[str, Value] = {name: parameter.default for name, parameter in declared.items()}
    for values in given:
        merged.update({name: value for name, value in values.items() if name in declared})
    return merged


# Shared by several methods, so that they mean the same everywhere.

DENSITY = Number(0.2, 0, 1, "Share of a vector's entries to keep.", beyond=True, per_vector=True)
KEEP = Number(0.5, 0, 1, "Share of a vector's entries to keep, chosen at random.", beyond=True, per_vector=True)
SEED = Whole(0, 0, (1 << 63) - 1, "Random seed; the same seed gives the same bytes on every machine.")
TRIM = Choice(
    "tensor", ("tensor", "model"), "Where to rank entries: in each tensor by itself, or across the whole vector."
)
NORMALIZE = Choice(
    "count",
    ("count", "weights", "none"),
    "Divisor of the sum of agreeing vectors: their number, the sum of their |alpha|, or none.",
)
RESCALE = Choice(
    "density",
    ("density", "l1", "none"),
    "How kept entries are rescaled: divided by the share of entries kept, by the share of the L1 norm kept, or not.",
)
EPSILON = Number(
    0.1, 0, 0.5, "Half-width of the range of keep probabilities: density - epsilon to density + epsilon.",
    per_vector=True,
)  # fmt: skip
GAMMA = Number(0.01, 0, 1, "Share of a vector's largest entries to drop as outliers.", per_vector=True)
