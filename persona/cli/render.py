"""How values look: sizes, shares, times, changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from persona.recipe.changes import RecipeChange

STYLES = {"added": "green", "removed": "red", "alpha": "yellow", "retrained": "yellow"}
STYLES |= {f"readout {kind}": STYLES[kind] for kind in ("added", "removed", "retrained")}


def size(nbytes: float) -> str:
    """Bytes as a person reads them, in powers of 1000."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        nbytes /= 1000
        if nbytes < 999.5 or unit == "TB":
            return f"{nbytes:.1f} {unit}" if nbytes < 99.95 else f"{nbytes:.0f} {unit}"
    raise AssertionError


def count(number: int, thing: str) -> str:
    """``3 tensors``, ``1 tensor``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def short(name: str) -> str:
    """The part of a commit's id that people see in running text."""
    return name[:7]


def when(time: str) -> str:
    """A time as git shows it."""
    return datetime.fromisoformat(time).strftime("%a %b %d %H:%M:%S %Y %z")


def changed(console: Console, changes: Iterable[RecipeChange], indent: str = " ") -> None:
    """Changes, a line each."""
    for change in changes:
        console.print(f"{indent}{escape(change.text)}", style=STYLES.get(change.kind, ""))


def table(*headings: str, right: Iterable[str] = ()) -> Table:
    """A plain table that survives 80 columns."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return made


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines of markup, many at a time: rich takes longer to begin than to print."""
    left = iter(lines)
    while some := list(islice(left, 64)):
        console.print("\n".join(some))
