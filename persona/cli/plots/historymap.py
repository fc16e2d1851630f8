"""Plot the measures of commits, in the order of the table, oldest on the left by default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from persona.cli.plots.picture import drawn
from persona.cli.render import short

if TYPE_CHECKING:
    from persona.verbs.table import TableResult


def draw(done: TableResult, suffix: str) -> bytes:
    """Plot a panel for each measure; ``suffix`` is ``.png`` or ``.svg``."""
    return drawn(lambda: _panels(done), suffix)


def _panels(done: TableResult) -> Any:
    """Each measure over the commits, from the last row to the first; commits that were not measured leave a gap."""
    from matplotlib.figure import Figure

    rows = list(reversed(done.rows))
    figure = Figure((max(4.0, 1.5 + 0.35 * len(rows)), 1 + 1.7 * len(done.measures)), layout="constrained")
    axes = figure.subplots(len(done.measures), 1, sharex=True, squeeze=False)[:, 0]
    for axis, column in zip(axes, done.measures, strict=True):
        found = [row.figure(column.name) for row in rows]
        axis.plot(range(len(rows)), [math.nan if one is None else one.value for one in found], marker="o", markersize=3)
        better = f", {column.better} is better" if column.better else ""
        axis.set_title(f"{column.name}{better}", fontsize=9, loc="left", parse_math=False)
        axis.set_ylabel(column.unit, fontsize=8, parse_math=False)
    labels = [row.names[0] if row.names else short(row.commit) for row in rows]
    axes[-1].set_xticks(range(len(rows)), labels, rotation=90, fontsize=7, parse_math=False)
    axes[-1].set_xlabel("commit", fontsize=9)
    return figure
