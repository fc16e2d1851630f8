"""``log --graph``: draw the history beside its commits, in ASCII.

    *   merge voice
    |\\
    | * add voice
    * | add calm
    |/
    * add listening

Column k is at character 2k. Commits come children first; each column is a line that leads down to its commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Drawn:
    """What is drawn for a commit: rows above it, its own row, what goes beside the rest of its text, and rows below."""

    above: tuple[str, ...]
    row: str
    beside: str
    below: tuple[str, ...]


def draw(history: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[Drawn]:
    """Draw each commit; ``history`` has them children first, each with its parents (those that are shown)."""
    columns: list[str] = []
    for commit, parents in history:
        above = list(_join(columns, commit))
        if commit not in columns:
            columns.append(commit)
        at = columns.index(commit)
        row = " ".join("*" if number == at else "|" for number in range(len(columns)))
        below = list(_fork(columns, at, parents))
        yield Drawn(tuple(above), row, _lines(columns), tuple(below))


def _lines(columns: list[str]) -> str:
    return " ".join("|" for _ in columns)


def _join(columns: list[str], commit: str) -> Iterator[str]:
    """Yield rows that join every line to ``commit`` into the leftmost one, from the right."""
    while columns.count(commit) > 1:
        target, at = [number for number, name in enumerate(columns) if name == commit][-2:]
        columns.pop(at)
        first = True
        for place in range(at, target, -1):  # one step to the left per row, across the lines in between
            yield _row(len(columns), place - 1, "/", shifting=first)
            first = False


def _fork(columns: list[str], at: int, parents: tuple[str, ...]) -> Iterator[str]:
    """Yield rows after a commit: more lines if it has several parents, one fewer if it has none."""
    if not parents:
        columns.pop(at)
        if at < len(columns):
            yield _row(len(columns), at - 1, "/", shifting=True, slash=False)
        return
    columns[at] = parents[0]
    for number, parent in enumerate(parents[1:], 1):
        columns.insert(at + number, parent)
        yield _row(len(columns) - 1, at + number - 1, "\\", shifting=True)


def _row(count: int, left: int, slope: str, *, shifting: bool, slash: bool = True) -> str:
    """Draw ``count`` lines with a slope right of line ``left``; with ``shifting``, all lines right of it slope too."""
    cells = [" "] * (2 * count + 2)
    for column in range(count):
        cells[2 * column] = "|"
    if shifting:
        for column in range(left + 1, count):
            cells[2 * column] = " "
            cells[2 * column + 1] = slope
    if slash:
        cells[2 * left + 1] = slope
    return "".join(cells).rstrip()
