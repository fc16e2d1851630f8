"""Format values for people: sizes, counts, times, recipe changes, tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from persona.recipe.changes import RecipeChange

STYLES = {"added": "green", "removed": "red", "alpha": "yellow", "retrained": "yellow", "renamed": "yellow"}
STYLES |= {f"readout {kind}": STYLES[kind] for kind in ("added", "removed", "retrained")}


def size(nbytes: float) -> str:
    """Format a number of bytes in powers of 1000."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        nbytes /= 1000
        if nbytes < 999.5 or unit == "TB":
            return f"{nbytes:.1f} {unit}" if nbytes < 99.95 else f"{nbytes:.0f} {unit}"
    raise AssertionError


def count(number: int, thing: str) -> str:
    """Format a count with its noun: `3 tensors`, `1 tensor`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def short(name: str) -> str:
    """Abbreviate a commit's id for running text."""
    return name[:7]


def when(time: str) -> str:
    """Format an ISO time as git does."""
    return datetime.fromisoformat(time).strftime("%a %b %d %H:%M:%S %Y %z")


def changed(
    console: Console, changes: Iterable[RecipeChange], indent: str = " ", *, without: Collection[str] = ()
) -> None:
    """Print recipe changes, one per line, except those of the names in `without`."""
    for change in changes:
        if change.name not in without:
            console.print(f"{indent}{escape(change.text)}", style=STYLES.get(change.kind, ""))


def styled(change: RecipeChange) -> str:
    """Return a recipe change as markup."""
    style = STYLES.get(change.kind, "")
    return f"[{style}]{escape(change.text)}[/]" if style else escape(change.text)


def notes(console: Console, texts: Iterable[str]) -> None:
    """Print notes about what is above them, one per line."""
    for text in texts:
        console.print(f"   {escape(text)}")


def table(*headings: str, right: Iterable[str] = (), whole: Iterable[str] = ()) -> Table:
    """Make a borderless table that fits 80 columns.

    Args:
        headings: Headings of the columns.
        right: Columns that are right-aligned.
        whole: Columns whose cells are never broken: where there is too little room, the others are.
    """
    new = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        new.add_column(heading, justify=justify, overflow="fold", no_wrap=heading in whole)
    return new


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines of markup in batches: most of rich's cost is per call, not per line."""
    remaining = iter(lines)
    while batch := list(islice(remaining, 64)):
        console.print("\n".join(batch))
