"""Select some concepts and layers of a readout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from persona.readout.model import Readout
from persona.readout.sinks import selected

TABLES = ("norms", "centers", "spreads", "auc", "auc_low", "auc_high", "control", "control_high")
"""Manifest fields that are tables [concepts][layers]."""


def select(readout: Readout, concepts: Sequence[str] = (), layers: Sequence[int] = ()) -> Readout:
    """Return a readout with these concepts and layers (by default all), and its manifest reduced to them.

    Raises:
        UsageError: the readout does not have a concept or layer.
    """
    rows = [readout.row(concept) for concept in concepts] or list(range(len(readout.concepts)))
    chosen = tuple(sorted(set(layers))) or readout.layers
    vectors = {layer: readout.at(layer)[rows] for layer in chosen}
    names = tuple(readout.concepts[row] for row in rows)
    places = [readout.layers.index(layer) for layer in chosen]
    about = dict(readout.about)
    shape = (len(readout.concepts), len(readout.layers))
    for key in TABLES:
        if is_table(about.get(key), shape):
            about[key] = [[about[key][row][place] for place in places] for row in rows]
    if isinstance(about.get("best"), list) and len(about["best"]) == len(readout.concepts):
        about["best"] = [about["best"][row] for row in rows]
    if isinstance(about.get("counts"), Mapping):
        about["counts"] = {name: about["counts"][name] for name in names if name in about["counts"]}
    if "sinks" in about:
        about["sinks"] = selected(about["sinks"], len(readout.layers), places)
    return Readout(names, chosen, vectors, about)


def is_table(value: object, shape: tuple[int, int]) -> bool:
    """Whether `value` is a table of numbers or None with this shape; other tools may write anything."""
    return (
        isinstance(value, list)
        and len(value) == shape[0]
        and all(isinstance(row, list) and len(row) == shape[1] for row in value)
        and all(
            cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))
            for row in value
            for cell in row
        )
    )
