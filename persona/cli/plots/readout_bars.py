"""Show numbers by concept and layer: signed bars in a terminal, a heat map in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from persona.cli.plots.picture import drawn

BAR = 30
"""Largest width of a bar in columns, both directions together."""

_PARTS = " ▏▎▍▌▋▊▉█"


def width(console: Console, taken: int) -> int:
    """Width available for a bar beside ``taken`` columns: 0 if output is piped or there is no room."""
    room = min(BAR, console.width - taken) if console.is_terminal else 0
    return room if room >= 7 else 0


def bar(value: float, most: float, wide: int) -> Text:
    """Draw a bar from the middle, to the right if ``value`` is positive.

    Args:
        value: The number to draw; nothing is drawn for NaN.
        most: The number that fills half of the width.
        wide: Width in columns.
    """
    half = (wide - 1) // 2
    length = 0.0 if most == 0 or value != value else min(1.0, abs(value) / most) * half
    if value >= 0:
        whole, part = divmod(round(length * 8), 8)
        drawn = "█" * whole + (_PARTS[part] if part else "")
        return Text(" " * half + "│" + drawn.ljust(half), style="green")
    return Text(("█" * round(length)).rjust(half) + "│" + " " * half, style="red")


def number(value: float, digits: int = 2) -> str:
    """Format a number with its sign; what rounds to 0 gets a plus."""
    return "–" if value != value else f"{round(value, digits) + 0.0:+.{digits}f}"


def picture(
    values: Sequence[Sequence[float]], concepts: Sequence[str], layers: Sequence[int], title: str, suffix: str
) -> bytes:
    """Plot a heat map with a row for each concept and a column for each layer.

    Args:
        values: Numbers, [concepts, layers].
        concepts: Names of the rows.
        layers: Numbers of the columns.
        title: Title of the plot.
        suffix: ``.png`` or ``.svg``.
    """
    return drawn(lambda: _figure(values, concepts, layers, title), suffix)


def _figure(values: Sequence[Sequence[float]], concepts: Sequence[str], layers: Sequence[int], title: str) -> Any:
    import numpy as np
    from matplotlib.figure import Figure

    table = np.array(values, float)
    most = float(np.nanmax(np.abs(table), initial=1e-9, where=np.isfinite(table)))
    wide = 0.45 * len(layers) + 0.08 * max(map(len, concepts)) + 1.6
    figure = Figure((max(4.0, wide), min(60.0, 0.22 * len(concepts) + 1.2)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(table, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axis.set_facecolor("0.9")
    axis.set_title(title, fontsize=9, parse_math=False)
    axis.set_yticks(range(len(concepts)), concepts, fontsize=7.5, parse_math=False)
    axis.set_xticks(range(len(layers)), [str(layer) for layer in layers], fontsize=7.5)
    axis.set_xlabel("layer", fontsize=8)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    figure.colorbar(image, ax=axis, format="{x:+.2g}").outline.set_visible(False)
    return figure
