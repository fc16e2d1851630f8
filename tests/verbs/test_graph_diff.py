"""``graph diff``: what changed between two graphs, and what stale vectors miss."""

from __future__ import annotations

from pathlib import Path

import persona
from tests.graph.example import edit


def test_the_difference_between_two_revisions(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    edit(notes, "core-personality", "clarity:9", "clarity:1")
    (notes / "new.md").write_text("# New\n\nOne more.")
    persona.graph_import(whole, notes)
    found = persona.graph_diff(whole, "HEAD~1")
    kinds = {one.name: (one.kind, one.stale) for one in found.nodes}
    assert kinds == {
        "core-personality": ("scored", ()), "new": ("added", ()), "rushing-pattern": ("changed", ("not_rushing",))
    }  # fmt: skip
    lines = {one.name: one.patch for one in found.nodes}
    assert [line for line in lines["rushing-pattern"] if line[0] in "+-"] == [
        "-- Slow is allowed. See [[pattern-listening-as-avoidance]].",
        "+- Slow is good. See [[pattern-listening-as-avoidance]].",
    ]
    assert lines["new"][1:] == ("+# New", "+", "+One more.")
    back = persona.graph_diff(whole, "HEAD", "HEAD~1")
    assert {one.name: one.kind for one in back.nodes}["new"] == "removed"
    assert persona.graph_diff(whole, "HEAD", "HEAD").nodes == ()


def test_without_revisions_the_difference_is_what_stale_vectors_miss(whole: persona.Repository, notes: Path) -> None:
    assert persona.graph_diff(whole).nodes == ()
    for number in range(3):
        edit(notes, "core-personality", "Plain words", f"Plain words {number},")
        persona.graph_import(whole, notes)
    (one,) = persona.graph_diff(whole).nodes
    assert (one.name, one.stale) == ("core-personality#voice", ("voice",))
    assert [line for line in one.patch if line[0] == "-"] == [
        "-Plain words, short sentences, a picture now and then. Dry humour, never at someone's cost."
    ]
