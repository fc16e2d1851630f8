"""The comparison of two models or two vectors: as a table, or as bars like `git diff --stat`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona.cli.render import count, table
from persona.cli.tables.weights import angle, percent, unwrapped_numbers

if TYPE_CHECKING:
    from persona.building.compare import ChangedKind, Comparison, ComparisonFigures, TensorKind

BAR = 24
"""Characters of the longest bar."""

FEW = 8
"""Tensors up to which all with the same change are named; more are only counted."""


def inventory(console: Console, comparison: Comparison) -> None:
    """Print the tensors that only one side has, or that differ in shape or dtype."""
    counted = Counter(_change(tensor) for tensor in comparison.recast)
    printed: set[str] = set()
    for tensor in comparison.recast:
        change = _change(tensor)
        before, after = tensor.before, tensor.after
        if counted[change] <= FEW or before is None or after is None or before.shape != after.shape:
            console.print(f" {escape(_named(tensor, change))}", style=_style(tensor))
        elif change not in printed:
            printed.add(change)
            console.print(f" {count(counted[change], 'tensor')}: {change}", style="yellow")


def _change(tensor: ChangedKind) -> str:
    before, after = tensor.before, tensor.after
    if before is None or after is None:
        return _kind(after or before)
    parts = (str(list(before.shape)), before.dtype), (str(list(after.shape)), after.dtype)
    return ", ".join(f"{old} → {new}" for old, new in zip(*parts, strict=True) if old != new)


def _kind(kind: TensorKind | None) -> str:
    return f"{kind.dtype} {list(kind.shape)}" if kind else ""


def _named(tensor: ChangedKind, change: str) -> str:
    if tensor.before is not None and tensor.after is not None:
        return f"{tensor.name}: {change}"
    return f"{'+' if tensor.before is None else '-'} {tensor.name}  {change}"


def _style(tensor: ChangedKind) -> str:
    return "green" if tensor.before is None else "red" if tensor.after is None else "yellow"


def stat(console: Console, comparison: Comparison, what: str) -> None:
    """Print a line with a bar for each changed layer or tensor, and a summary.

    Args:
        what: Symbol of what is compared: `W` for models, `τ` for vectors.
    """
    known = [row.relative for row in comparison.rows if row.relative is not None]
    longest = max(known, default=0.0)
    width = max((len(row.name) for row in comparison.rows), default=0)
    room = max(6, min(BAR, console.width - width - 12))
    for row in comparison.rows:
        label = f" {row.name:<{width}}  {percent(row.relative, 2):>7} "
        console.print(Text(label).append_text(_bar(row, longest, room)), soft_wrap=True)
    console.print(escape(total(comparison, what)), soft_wrap=True)


def _bar(row: ComparisonFigures, longest: float, room: int) -> Text:
    """A bar as long as the change; `+` and `-` are the shares of entries whose magnitude grew or shrank."""
    share = 1.0 if row.relative is None or not longest else row.relative / longest
    length, moved = max(1, round(room * share)), row.grew + row.shrank
    plus = round(length * row.grew / moved) if moved else length
    return Text.assemble(("+" * plus, "green"), ("-" * (length - plus), "red"))


def total(comparison: Comparison, what: str) -> str:
    """Summarize how many tensors differ, and by how much."""
    whole = comparison.whole
    text = f" {how_many(comparison)}"
    if whole.changed:
        text += f", ‖Δ‖/‖{what}‖ {percent(whole.relative, 2)}"
        text += f", cos {angle(whole.cosine)}" if whole.cosine is not None else ""
    return text


def how_many(comparison: Comparison) -> str:
    """Say how many tensors differ."""
    whole = comparison.whole
    same = "" if whole.changed else ": identical"
    return f"{whole.changed} of {count(whole.tensors, 'tensor')} differ{'s' if whole.changed == 1 else ''}{same}"


def rows(console: Console, comparison: Comparison, what: str) -> None:
    """Print a table: a row for the whole model, and one for each changed layer or tensor."""
    heads = (f"‖Δ‖/‖{what}‖", "max |Δ|", "entries", "cos", "opposed")
    lines = unwrapped_numbers(table(comparison.by, *heads, right=heads))
    for row in (comparison.whole, *comparison.rows):
        shared = row.differing / row.entries if row.entries else None
        largest = "–" if row.largest is None else f"{row.largest:.2g}"
        lines.add_row(
            escape("whole" if row is comparison.whole else row.name),
            percent(row.relative, 2), largest, percent(shared), angle(row.cosine), percent(row.opposed),
        )  # fmt: skip
    console.print(lines)
