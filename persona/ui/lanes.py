"""The commit graph as lines: one small picture for each commit, which join when the commits are listed one below the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STEP, MARGIN, NODE, REACH = 16, 10, 22, 44
"""Pixels between lanes, before the first, and from the top of a row to its commit and to where its lines are in their lanes."""
COLOURS = 6


@dataclass(frozen=True)
class LaneLine:
    """A line from (x1, y1) to (x2, y2); ``y2`` is "100%" for one that leaves the row below."""

    x1: int
    y1: int
    x2: int
    y2: str
    colour: int


@dataclass(frozen=True)
class LaneRow:
    """What is drawn beside one commit. ``x`` is where the commit is, ``width`` that of the picture."""

    x: int
    y: int
    width: int
    colour: int
    lines: tuple[LaneLine, ...]


def rows(history: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[LaneRow]:
    """Draw each commit; ``history`` has them children first, each with its parents.

    A lane leads down to a commit. It keeps its place until that commit, so that no line moves where nothing happens.
    """
    lanes: list[str | None] = []
    for commit, parents in history:
        here = lanes.index(commit) if commit in lanes else _free(lanes)
        joining = [at for at, name in enumerate(lanes) if name == commit]
        passing = [at for at, name in enumerate(lanes) if name is not None and name != commit]
        for at in (*joining, here):
            lanes[at : at + 1] = [None]
        lines = [_line(at, 0, here, str(NODE)) for at in joining]
        lines += [_line(at, 0, at, "100%") for at in passing]
        for number, parent in enumerate(parents):
            known = lanes.index(parent) if parent in lanes else None
            at = known if known is not None else here if number == 0 else _free(lanes, here)
            lanes[at : at + 1] = [parent]
            if at == here:
                lines.append(_line(here, NODE, here, "100%"))
            else:
                lines.append(_line(here, NODE, at, str(REACH), at))
                lines += [] if at in passing else [_line(at, REACH, at, "100%")]
        widest = max([here, *passing, *joining, *(at for at, name in enumerate(lanes) if name is not None)])
        yield LaneRow(_x(here), NODE, _x(widest) + MARGIN, here % COLOURS, tuple(lines))
        while lanes and lanes[-1] is None:
            lanes.pop()


def _free(lanes: list[str | None], other_than: int = -1) -> int:
    """The first lane that leads nowhere; a new one if there is none."""
    for at, name in enumerate(lanes):
        if name is None and at != other_than:
            return at
    lanes.append(None)
    if len(lanes) - 1 == other_than:
        lanes.append(None)
    return len(lanes) - 1


def _x(lane: int) -> int:
    return MARGIN + STEP * lane


def _line(start: int, y1: int, end: int, y2: str, colour: int | None = None) -> LaneLine:
    return LaneLine(_x(start), y1, _x(end), y2, (start if colour is None else colour) % COLOURS)
