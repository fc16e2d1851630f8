"""The interference report as tables that survive 80 columns."""

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
"""Vectors up to which pairs are a matrix; of more, the pairs that are most at odds are listed."""

NOTHING = "–"


def weights(console: Console, report: Interference, before: str, after: str, *, layers: bool = True) -> None:
    """The whole first, then (``layers``) a row for each layer or tensor."""
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
        console.print("No vector acts in it, so there is nothing to compare.")
    if whole.pairs:
        _pairs(console, report)
    if report.rows and layers:
        console.print()
        console.print(_rows(report))


def percent(value: float | None, digits: int = 1) -> str:
    """A share."""
    return NOTHING if value is None else f"{value:.{digits}%}"


def angle(value: float | None) -> str:
    """A cosine, with its sign; what rounds to 0 has a plus."""
    return NOTHING if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _changes(console: Console, whole: InterferenceRow, before: str) -> None:
    if whole.change is None:
        return
    moved = f"{percent(whole.change.norm, 2)} of ‖W‖, cosine with before {angle(whole.change.cosine)}"
    console.print(f"Change since {escape(before)}: {moved}")
    for one in whole.retrained:
        console.print(
            f" {escape(one.name)} retrained: {percent(one.norm)} of ‖τ‖, cosine with before {angle(one.cosine)}",
            style="yellow",
        )


def _trim(report: Interference) -> str:
    said = " ".join(f"{density:g}" for density in dict.fromkeys(report.densities))
    if report.assumed:
        return f"density {said}, as ties would: {report.method} itself does not trim"
    if " " not in said:
        return f"density {said}"
    return "density " + ", ".join(
        f"{escape(name)} {density:g}" for name, density in zip(report.vectors, report.densities, strict=True)
    )


def _vectors(whole: InterferenceRow) -> Table:
    heads = ("‖τ‖/‖W‖", "mass survives", "entries survive")
    made = whole_numbers(table("#", "vector", *heads, right=("#", *heads)))
    for number, one in enumerate(whole.vectors, 1):
        made.add_row(
            str(number), escape(one.name), percent(one.norm, 2), percent(one.survives), percent(one.survives_entries)
        )
    return made


def _pairs(console: Console, report: Interference) -> None:
    whole = report.whole
    console.print()
    if len(whole.vectors) > MATRIX:
        console.print(_worst(whole))
    else:
        console.print("cosine")
        console.print(_matrix(whole, lambda pair: (angle(pair.cosine), "")))
        console.print("\nopposed signs; above the diagonal after the trim")
        console.print(_matrix(whole, lambda pair: (percent(pair.opposed), percent(pair.opposed_trimmed))))
    if len(whole.vectors) > 2:
        console.print(
            f"\nof any two or more: {percent(whole.opposed)}, after the trim {percent(whole.opposed_trimmed)}"
        )


def _matrix(whole: InterferenceRow, shown: Shown) -> Table:
    """What is shown of a pair goes below the diagonal and above it."""
    names = [one.name for one in whole.vectors]
    cells = {(pair.other, pair.one): shown(pair)[0] for pair in whole.pairs}
    cells |= {(pair.one, pair.other): shown(pair)[1] for pair in whole.pairs}
    heads = [str(number) for number in range(1, len(names) + 1)]
    made = table("#", "vector", *heads, right=("#", *heads))
    whole_numbers(made).show_header = False
    made.add_row("", "", *heads, style="bold")
    for number, name in enumerate(names, 1):
        made.add_row(str(number), escape(name), *(cells.get((name, other), "·") for other in names))
    return made


def whole_numbers(made: Table) -> Table:
    """The same table; where there is no room, names are folded and numbers are not."""
    for column in made.columns:
        column.no_wrap = column.justify == "right"
    return made


def _worst(whole: InterferenceRow) -> Table:
    heads = ("cosine", "opposed", "trimmed")
    made = whole_numbers(table("the most opposed pairs", *heads, right=heads))
    for pair in sorted(whole.pairs, key=lambda pair: -(pair.opposed_trimmed or 0))[:12]:
        name = f"{escape(pair.one)} · {escape(pair.other)}"
        made.add_row(name, angle(pair.cosine), percent(pair.opposed), percent(pair.opposed_trimmed))
    return made


def _rows(report: Interference) -> Table:
    whole = report.whole
    columns = (_CHANGE if whole.change else {}) | (_AGREEMENT if whole.pairs else _ALONE if whole.vectors else {})
    made = whole_numbers(table(report.by, *columns, right=columns))
    for row in report.rows:
        made.add_row(escape(row.name), *(cell(row) for cell in columns.values()))
    return made


def _range(row: InterferenceRow) -> str:
    found = [pair.cosine for pair in row.pairs if pair.cosine is not None]
    if not found:
        return NOTHING
    low, high = angle(min(found)), angle(max(found))
    return low if low == high else f"{low} … {high}"


def _norms(row: InterferenceRow) -> str:
    return percent(max((one.norm or 0.0 for one in row.vectors), default=None), 2)


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
