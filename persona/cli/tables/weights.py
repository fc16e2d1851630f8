"""The interference report as tables that fit 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from persona.cli.render import count, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona.building.interference import Interference, InterferenceRow, PairFigures

    Shown = Callable[[PairFigures], tuple[str, str]]
    Cell = Callable[[InterferenceRow], str]

MATRIX = 8
"""Vectors up to which pairs are shown as a matrix; with more, only the most opposed pairs are listed."""

WORST = 12
"""Pairs in that list."""

NOTHING = "–"


def weights(console: Console, report: Interference, before: str, after: str, *, layers: bool = True) -> None:
    """Print the report.

    Args:
        before: Name of the older recipe, if the report compares two.
        after: Name of the recipe.
        layers: Also print a row for each layer or tensor.
    """
    whole = report.whole
    console.print(
        f"\n[bold]Weights of {escape(after)}[/]: {count(len(report.vectors), 'vector')}, {report.method}, "
        f"{count(whole.tensors, 'tensor')}, {count(whole.entries, 'weight')}"
    )
    _changes(console, whole, before)
    if whole.vectors:
        console.print(f"Trimmed to {_trim(report)}\n")
        console.print(_vectors(whole))
    else:
        console.print("Nothing to compare: no vector has a nonzero alpha.")
    if whole.pairs:
        _pairs(console, report)
    if report.rows and layers:
        console.print()
        console.print(_rows(report))


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share as a percentage."""
    return NOTHING if value is None else f"{value:.{digits}%}"


def angle(value: float | None) -> str:
    """Format a cosine with its sign; zero gets a plus."""
    return NOTHING if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _changes(console: Console, whole: InterferenceRow, before: str) -> None:
    if whole.change is None:
        return
    moved = f"{percent(whole.change.norm, 2)} of ‖W‖, cosine with the old change {angle(whole.change.cosine)}"
    console.print(f"Change since {escape(before)}: {moved}")
    for vector in whole.retrained:
        moved = f"{percent(vector.norm)} of ‖τ‖, cosine with the old vector {angle(vector.cosine)}"
        console.print(f" {escape(vector.name)} retrained: {moved}", style="yellow")


def _trim(report: Interference) -> str:
    distinct = [f"{density:g}" for density in dict.fromkeys(report.densities)]
    if report.assumed:
        return f"density {' '.join(distinct)}, as ties would: {report.method} itself does not trim"
    if len(distinct) <= 1:
        return f"density {' '.join(distinct)}"
    return "density " + ", ".join(
        f"{escape(name)} {density:g}" for name, density in zip(report.vectors, report.densities, strict=True)
    )


def _vectors(whole: InterferenceRow) -> Table:
    heads = ("‖τ‖/‖W‖", "mass survives", "entries survive")
    rows = unwrapped_numbers(table("#", "vector", *heads, right=("#", *heads)))
    for number, vector in enumerate(whole.vectors, 1):
        shares = percent(vector.norm, 2), percent(vector.survives), percent(vector.survives_entries)
        rows.add_row(str(number), escape(vector.name), *shares)
    return rows


def _pairs(console: Console, report: Interference) -> None:
    whole = report.whole
    console.print()
    if len(whole.vectors) > MATRIX:
        console.print(_worst(whole))
    else:
        console.print("cosine")
        console.print(_matrix(whole, lambda pair: (angle(pair.cosine), "")))
        console.print("\nopposed signs; above the diagonal, after trimming")
        console.print(_matrix(whole, lambda pair: (percent(pair.opposed), percent(pair.opposed_trimmed))))
    if len(whole.vectors) > 2:
        console.print(
            f"\nin any two or more: {percent(whole.opposed)}, after trimming {percent(whole.opposed_trimmed)}"
        )


def _matrix(whole: InterferenceRow, shown: Shown) -> Table:
    """A matrix of pairs; `shown` returns a pair's cells below and above the diagonal."""
    names = [vector.name for vector in whole.vectors]
    cells = {(pair.other, pair.one): shown(pair)[0] for pair in whole.pairs}
    cells |= {(pair.one, pair.other): shown(pair)[1] for pair in whole.pairs}
    heads = [str(number) for number in range(1, len(names) + 1)]
    rows = unwrapped_numbers(table("#", "vector", *heads, right=("#", *heads)))
    rows.show_header = False
    rows.add_row("", "", *heads, style="bold")
    for number, name in enumerate(names, 1):
        rows.add_row(str(number), escape(name), *(cells.get((name, other), "·") for other in names))
    return rows


def unwrapped_numbers(rows: Table) -> Table:
    """Keep numbers on one line where space is short; names still wrap. Returns `rows`."""
    for column in rows.columns:
        column.no_wrap = column.justify == "right"
    return rows


def _worst(whole: InterferenceRow) -> Table:
    heads = ("cosine", "opposed", "trimmed")
    rows = unwrapped_numbers(table("the most opposed pairs", *heads, right=heads))
    for pair in sorted(whole.pairs, key=lambda pair: -(pair.opposed_trimmed or 0))[:WORST]:
        name = f"{escape(pair.one)} · {escape(pair.other)}"
        rows.add_row(name, angle(pair.cosine), percent(pair.opposed), percent(pair.opposed_trimmed))
    return rows


def _rows(report: Interference) -> Table:
    whole = report.whole
    columns = (_CHANGE if whole.change else {}) | (_AGREEMENT if whole.pairs else _ALONE if whole.vectors else {})
    rows = unwrapped_numbers(table(report.by, *columns, right=columns))
    for row in report.rows:
        rows.add_row(escape(row.name), *(cell(row) for cell in columns.values()))
    return rows


def _range(row: InterferenceRow) -> str:
    cosines = [pair.cosine for pair in row.pairs if pair.cosine is not None]
    if not cosines:
        return NOTHING
    low, high = angle(min(cosines)), angle(max(cosines))
    return low if low == high else f"{low} … {high}"


def _norms(row: InterferenceRow) -> str:
    return percent(max((vector.norm or 0.0 for vector in row.vectors), default=None), 2)


def _moved(row: InterferenceRow) -> str:
    return percent(row.change.norm if row.change else None, 2)


def _turned(row: InterferenceRow) -> str:
    return angle(row.change.cosine if row.change else None)


_CHANGE: dict[str, Cell] = {"change": _moved, "cos": _turned}
_ALONE: dict[str, Cell] = {"‖τ‖/‖W‖": _norms}
_AGREEMENT: dict[str, Cell] = {
    "cos of pairs": _range,
    "opposed": lambda row: percent(row.opposed),
    "trimmed": lambda row: percent(row.opposed_trimmed),
    "survives": lambda row: percent(row.survives),
}
