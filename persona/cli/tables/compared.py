"""Two models, or two vectors, beside each other: as a table, or in a few lines like git's ``--stat``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona.cli.render import count, table
from persona.cli.tables.weights import angle, percent, whole_numbers

if TYPE_CHECKING:
    from persona.building.compare import ChangedKind, Comparison, ComparisonFigures, TensorKind

BAR = 24
"""Characters of the longest bar."""

FEW = 8
"""Tensors that are named; of more with the same change, how many they are."""


def inventory(console: Console, found: Comparison) -> None:
    """Tensors that are there on one side alone, or of another shape or format."""
    counted = Counter(_how(one) for one in found.recast)
    named: set[str] = set()
    for one in found.recast:
        how = _how(one)
        if counted[how] <= FEW or one.before is None or one.after is None or one.before.shape != one.after.shape:
            console.print(f" {escape(_named(one, how))}", style=_style(one))
        elif how not in named:
            named.add(how)
            console.print(f" {count(counted[how], 'tensor')}: {how}", style="yellow")


def _how(one: ChangedKind) -> str:
    before, after = one.before, one.after
    if before is None or after is None:
        return _kind(after or before)
    parts = (str(list(before.shape)), before.dtype), (str(list(after.shape)), after.dtype)
    return ", ".join(f"{old} → {new}" for old, new in zip(*parts, strict=True) if old != new)


def _kind(kind: TensorKind | None) -> str:
    return f"{kind.dtype} {list(kind.shape)}" if kind else ""


def _named(one: ChangedKind, how: str) -> str:
    if one.before is not None and one.after is not None:
        return f"{one.name}: {how}"
    return f"{'+' if one.before is None else '-'} {one.name}  {how}"


def _style(one: ChangedKind) -> str:
    return "green" if one.before is None else "red" if one.after is None else "yellow"


def stat(console: Console, found: Comparison, what: str) -> None:
    """A line for each layer or tensor that differs, with a bar of how much, and what they come to."""
    known = [row.relative for row in found.rows if row.relative is not None]
    longest = max(known, default=0.0)
    width = max((len(row.name) for row in found.rows), default=0)
    room = max(6, min(BAR, console.width - width - 12))
    for row in found.rows:
        said = f" {row.name:<{width}}  {percent(row.relative, 2):>7} "
        console.print(Text(said).append_text(_bar(row, longest, room)), soft_wrap=True)
    console.print(escape(total(found, what)), soft_wrap=True)


def _bar(row: ComparisonFigures, longest: float, room: int) -> Text:
    """As long as the change; its ``+`` are the share of changed entries that grew in size, ``-`` that shrank."""
    share = 1.0 if row.relative is None or not longest else row.relative / longest
    length, moved = max(1, round(room * share)), row.grew + row.shrank
    plus = round(length * row.grew / moved) if moved else length
    return Text.assemble(("+" * plus, "green"), ("-" * (length - plus), "red"))


def total(found: Comparison, what: str) -> str:
    """How many tensors differ, and how far."""
    whole = found.whole
    said = f" {how_many(found)}"
    if whole.changed:
        said += f", ‖Δ‖/‖{what}‖ {percent(whole.relative, 2)}"
        said += f", cos {angle(whole.cosine)}" if whole.cosine is not None else ""
    return said


def how_many(found: Comparison) -> str:
    """Tensors that differ, of all."""
    whole = found.whole
    same = "" if whole.changed else ": the same to the bit"
    return f"{whole.changed} of {count(whole.tensors, 'tensor')} differ{'s' if whole.changed == 1 else ''}{same}"


def rows(console: Console, found: Comparison, what: str) -> None:
    """A row for the whole, and one for each layer or tensor that differs."""
    heads = (f"‖Δ‖/‖{what}‖", "max |Δ|", "entries", "cos", "opposed")
    made = whole_numbers(table(found.by, *heads, right=heads))
    for row in (found.whole, *found.rows):
        shared = row.differing / row.entries if row.entries else None
        largest = "–" if row.largest is None else f"{row.largest:.2g}"
        made.add_row(
            escape("whole" if row is found.whole else row.name),
            percent(row.relative, 2), largest, percent(shared), angle(row.cosine), percent(row.opposed),
        )  # fmt: skip
    console.print(made)
