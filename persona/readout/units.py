"""In what a projection or a strength is counted.

    raw    of the residual stream itself: a direction has length 1
    std    of the spread of a concept at a layer: how far projections of texts without it lie apart (one standard deviation)
    norm   of the difference of means that a direction was made of: 1 is from the average text without to that with it

A projection p in ``std`` is (p − center) / spread, and a push of α in ``std`` moves it by exactly α.
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


def has_spreads(readout: Readout) -> bool:
    """Whether projections can be given in ``std``."""
    return all(readout.about.get(name) is not None for name in ("centers", "spreads"))


def sizes(readout: Readout, units: str) -> Mapping[int, Float32]:
    """By layer, how much of the residual stream one unit of each concept is: fp32 [concepts]."""
    import numpy as np

    checked_units(units)
    if units == "raw":
        return {layer: np.ones(len(readout.concepts), np.float32) for layer in readout.layers}
    return _table(readout, _FIELDS[units], positive=True)


def centers(readout: Readout) -> Mapping[int, Float32]:
    """By layer, the mean projection of texts without a concept: fp32 [concepts]."""
    return _table(readout, "centers", positive=False)


def checked_units(units: str) -> None:
    """Raise unless there is such a unit."""
    if units not in UNITS:
        raise UsageError(f"unknown units '{units}'", did_you_mean(units, UNITS))


def _table(readout: Readout, name: str, *, positive: bool) -> Mapping[int, Float32]:
    """A field [concepts][layers] of the manifest, by layer."""
    import numpy as np

    said = readout.about.get(name)
    if said is None:
        raise UsageError(f"the readout says nothing of its {name}", 'Use units="raw", or train it again with persona.')
    try:
        found = np.array(said, np.float32)
    except (TypeError, ValueError):
        found = np.empty(0, np.float32)
    wanted = (len(readout.concepts), len(readout.layers))
    if found.shape != wanted or not np.all(np.isfinite(found)) or (positive and not np.all(found > 0)):
        what = "positive numbers" if positive else "numbers"
        raise CheckpointError(
            f"the readout's {name} are no {wanted[0]} × {wanted[1]} {what}: a row for each concept, a column for each layer",
            "Mend its manifest.json, or train it again.",
        )
    return {layer: found[:, column] for column, layer in enumerate(readout.layers)}


def chosen(readout: Readout, concepts: Sequence[str] | None, layers: Sequence[int] | None) -> Readout:
    """The same readout with some of its concepts and layers, each an error with a suggestion if it is not there."""
    if (concepts is not None and not concepts) or (layers is not None and not layers):
        raise UsageError("no concept or no layer is left", "Name at least one of each.")
    return select(readout, concepts or (), layers or ())
