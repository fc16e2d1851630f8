"""Lanes: a line leaves each commit for each of its parents, and arrives at it."""

from __future__ import annotations

import pytest

from persona.ui.lanes import rows

HISTORIES = {
    "a line": [("c", ("b",)), ("b", ("a",)), ("a", ())],
    "a merge": [("m", ("b", "c")), ("c", ("a",)), ("b", ("a",)), ("a", ())],
    "two tips": [("x", ("a",)), ("y", ("a",)), ("a", ())],
    "a cross": [("m", ("a", "b")), ("n", ("b", "a")), ("b", ("r",)), ("a", ("r",)), ("r", ())],
    "three parents": [("m", ("a", "b", "c")), ("c", ()), ("b", ("a",)), ("a", ())],
    "two roots": [("b", ()), ("a", ())],
    "cut off": [("m", ("b", "gone")), ("b", ("gone",))],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_lines_lead_from_commits_to_their_parents(name: str) -> None:
    """Follow every line down the rows: what arrives at a commit is exactly what its children sent."""
    history = HISTORIES[name]
    drawn = list(rows(history))
    for at, (_, parents) in enumerate(history):
        arrived = set()
        first = drawn[at]
        sent = {line.x2 for line in first.lines if (line.x1, line.y1) == (first.x, first.y)}
        assert len(sent) == len(parents)
        for x in sent:
            for (commit, _), row in zip(history[at + 1 :], drawn[at + 1 :], strict=True):
                [line] = [line for line in row.lines if (line.x1, line.y1) == (x, 0)]
                if line.y2 != "100%":
                    assert line.x2 == row.x
                    arrived.add(commit)
                    break
                assert line.x2 == x
            else:
                arrived.add("gone")
        assert arrived == {*parents}
        assert all(0 < x < first.width for line in first.lines for x in (line.x1, line.x2))
