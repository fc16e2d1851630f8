"""Units of projections and steering strengths.

    raw    units of the residual stream: a direction has length 1
    std    spreads of a concept at a layer: the standard deviation of projections of texts without the concept
    norm   original lengths of the direction: 1 is the distance between the means of texts without and with the concept

A projection p is (p − center) / spread in `std`, and steering by α in `std` moves it by exactly α.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.errors import CheckpointError, UsageError, did_you_mean
from persona.readout.model import Readout
from persona.readout.select import select

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

UNITS = ("std", "norm", "raw")
_FIELDS = {"std": "spreads", "norm": "norms"}


def sizes(readout: Readout, units: str) -> Mapping[int, Float32]:
    """Size of one unit of each concept in the residual stream, fp32 [concepts] by layer.

    Raises:
        UsageError: the unit is unknown, or the manifest does not have its sizes.
        CheckpointError: the manifest's sizes are malformed.
    """
    import numpy as np

    checked_units(units)
    if units == "raw":
        return {layer: np.ones(len(readout.concepts), np.float32) for layer in readout.layers}
    return _table(readout, _FIELDS[units], positive=True)


def centers(readout: Readout) -> Mapping[int, Float32]:
    """Mean projection of texts without each concept, fp32 [concepts] by layer."""
    return _table(readout, "centers", positive=False)


def checked_units(units: str) -> None:
    """Raise UsageError if the unit is unknown."""
    if units not in UNITS:
        raise UsageError(f"unknown units '{units}'", did_you_mean(units, UNITS))


def _table(readout: Readout, name: str, *, positive: bool) -> Mapping[int, Float32]:
    """A field [concepts][layers] of the manifest, by layer."""
    import numpy as np

    field = readout.about.get(name)
    if field is None:
        raise UsageError(f"the readout's manifest has no '{name}'", 'Use units="raw", or train it again with persona.')
    try:
        table = np.array(field, np.float32)
    except (TypeError, ValueError):
        table = np.empty(0, np.float32)
    wanted = (len(readout.concepts), len(readout.layers))
    if table.shape != wanted or not np.all(np.isfinite(table)) or (positive and not np.all(table > 0)):
        what = "positive numbers" if positive else "numbers"
        raise CheckpointError(
            f"'{name}' in the readout's manifest is not a table of {wanted[0]} × {wanted[1]} {what} (concepts × layers)",
            "Fix its manifest.json, or train the readout again.",
        )
    return {layer: table[:, column] for column, layer in enumerate(readout.layers)}


def chosen(readout: Readout, concepts: Sequence[str] | None, layers: Sequence[int] | None) -> Readout:
    """Select concepts and layers of a readout; None keeps all.

    Raises:
        UsageError: a selection is empty, or the readout does not have a concept or layer.
    """
    if (concepts is not None and not concepts) or (layers is not None and not layers):
        raise UsageError("no concepts or no layers selected", "Name at least one of each, or pass None for all.")
    return select(readout, concepts or (), layers or ())
