"""Plot the interference report: a row for each layer or tensor, a column for each pair of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persona.cli.plots.picture import drawn
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.building.interference import Interference, InterferenceRow, PairFigures

_ROW, _COLUMN, _NARROW = 0.2, 0.5, 0.2
"""Height of a cell in inches, and its width with and without a number."""

_LABEL = 0.15
"""Smallest distance between labels, in inches."""

_TALLEST = 60.0
_LEAST = 0.1
"""Smallest range of the colours around 0.5, the share of opposed signs that unrelated vectors have."""

_FEW = 500
"""Largest number of cells in a panel for which numbers are written."""


def draw(report: Interference, suffix: str) -> bytes:
    """Plot a report.

    Args:
        report: What ``persona interference`` found.
        suffix: ``.png`` or ``.svg``.

    Raises:
        UsageError: the report has no pair of vectors.
    """
    if not report.whole.pairs:
        raise UsageError(
            "there is nothing to plot: the recipe has fewer than two active vectors",
            "Remove --plot to print the numbers of one vector.",
        )
    return drawn(lambda: _figure(report), suffix)


def _figure(report: Interference) -> Any:
    from matplotlib.figure import Figure

    rows = (report.whole, *report.rows)
    pairs = [(pair.one, pair.other) for pair in report.whole.pairs]
    names = ["whole model", *(row.name for row in report.rows)]
    height = min(_TALLEST, _ROW * len(rows) + 0.07 * max(len(f"{one} · {other}") for one, other in pairs) + 1.7)
    column = _COLUMN if len(rows) * len(pairs) <= _FEW else _NARROW
    width = 3 * max(1.5, column * len(pairs) + 0.4) + 0.075 * max(map(len, names)) + 1.8
    figure = Figure((width, height), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    cosines = _values(rows, pairs, lambda pair: pair.cosine)
    before = _values(rows, pairs, lambda pair: pair.opposed)
    after = _values(rows, pairs, lambda pair: pair.opposed_trimmed)
    most = max(0.1, _largest(cosines))
    angles = _panel(axes[0], cosines, "cosine", "RdBu", (-most, most), "{:+.2f}")
    odds = max(_LEAST, _largest(before - 0.5), _largest(after - 0.5))
    band = (0.5 - odds, 0.5 + odds)  # 0.5 is white, as a cosine of 0 is
    _panel(axes[1], before, "opposed signs", "RdBu_r", band, "{:.0%}")
    shares = _panel(axes[2], after, "opposed, trimmed", "RdBu_r", band, "{:.0%}")
    _labels(axes, names, pairs, height)
    for image, panels, form in ((angles, axes[:1], "{x:+.2f}"), (shares, axes[1:], "{x:.0%}")):
        bar = figure.colorbar(image, ax=panels, aspect=40, pad=0.02, format=form)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5, length=2)
    figure.supxlabel("grey: no common weights; unrelated vectors oppose half of their signs", fontsize=8)
    return figure


def _values(rows: tuple[InterferenceRow, ...], pairs: list[tuple[str, str]], of: Any) -> Any:
    """A number for each row and pair: [rows, pairs], NaN if a row does not have the pair."""
    import numpy as np

    values = np.full((len(rows), len(pairs)), np.nan)
    for number, row in enumerate(rows):
        there: dict[tuple[str, str], PairFigures] = {(pair.one, pair.other): pair for pair in row.pairs}
        for column, pair in enumerate(pairs):
            value = of(there[pair]) if pair in there else None
            values[number, column] = np.nan if value is None else value
    return values


def _largest(values: Any) -> float:
    import numpy as np

    return float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values)))


def _panel(axis: Any, values: Any, title: str, colours: str, band: tuple[float, float], form: str) -> Any:
    low, high = band
    image = axis.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    axis.set_facecolor("0.9")
    axis.set_title(title, fontsize=10)
    axis.axhline(0.5, color="white", linewidth=3)
    for side in axis.spines.values():
        side.set_visible(False)
    if values.size <= _FEW:
        _numbers(axis, values, image, form)
    return image


def _numbers(axis: Any, values: Any, image: Any, form: str) -> None:
    for (row, column), value in _each(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
        text = form.format(round(value, 2) + 0.0)
        axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if dark else "0.15")


def _each(values: Any) -> Any:
    import numpy as np

    return [(at, value) for at, value in np.ndenumerate(values) if np.isfinite(value)]


def _labels(axes: Any, names: list[str], pairs: list[tuple[str, str]], height: float) -> None:
    step = max(1, round(_LABEL * len(names) / height + 0.5) if len(names) * _LABEL > height else 1)
    shown = range(0, len(names), step)
    axes[0].set_yticks(shown, [names[k] for k in shown], fontsize=7.5, parse_math=False)
    for axis in axes:
        axis.tick_params(length=0)
        axis.set_xticks(
            range(len(pairs)), [f"{one} · {other}" for one, other in pairs], rotation=90, fontsize=8, parse_math=False
        )
