"""``graph import`` records a graph once, and says what became stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import persona
from persona.errors import Refusal
from persona.graph.coverage import State
from persona.store.graphs import Node
from persona.verbs.graph.show import ShownNode
from persona.verbs.show import ShownVector
from tests.graph.example import edit, states


def test_importing_the_same_again_makes_nothing(whole: persona.Repository, notes: Path, tmp_path: Path) -> None:
    head, operations = whole.head(), whole.log.head()
    moved = shutil.copytree(notes, tmp_path / "elsewhere")
    for place in (notes, moved):
        done = persona.graph_import(whole, place)
        assert (done.recorded, done.changes, done.nodes) == (None, (), 4)
    assert (whole.head(), whole.log.head()) == (head, operations)


def test_editing_boundaries_does_not_make_voice_stale(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "core-personality", "No is a whole sentence", "No is enough")
    done = persona.graph_import(whole, notes)
    assert done.recorded is not None
    assert done.recorded.message == "graph: 4 nodes (1 changed)"
    assert done.stale == ("boundaries",)
    assert {name for name, state in states(whole).items() if state == State.STALE} == {"boundaries"}
    assert persona.status(whole).stale == ("boundaries",)
    assert persona.graph_status(whole).next == "persona commit RUN --as boundaries"


def test_scores_line_endings_and_links_make_nothing_stale(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "core-personality", "clarity:9", "clarity:3")
    path = notes / "rushing-pattern.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    edit(notes, "pattern-wrapping-up-reflex", "tags: [pattern]", "tags: [pattern]\nlinks: [core-personality]")
    done = persona.graph_import(whole, notes)
    assert [(one.kind, one.name) for one in done.changes] == [("scored", "core-personality")]
    assert done.recorded is not None
    assert done.recorded.message == "graph: 4 nodes (1 with new scores, other links)"
    assert set(states(whole).values()) == {State.CURRENT}


def test_a_node_that_is_deleted_leaves_the_graph(whole: persona.Repository, notes: Path) -> None:
    (notes / "rushing-pattern.md").unlink()
    done = persona.graph_import(whole, notes)
    assert [(one.kind, one.name) for one in done.changes] == [("removed", "rushing-pattern")]
    assert states(whole)["not_rushing"] == State.MISSING
    assert persona.graph_status(whole).next == "persona graph link NODE not_rushing"
    shown = persona.show(whole, "not_rushing")
    assert isinstance(shown, ShownVector)
    assert shown.link is not None
    assert (shown.link.state, shown.link.now) == (State.MISSING, None)
    assert shown.link.pin is not None
    assert "Slow is allowed" in Node.get(whole.objects, shown.link.pin).text, "what it implements is still known"


def test_a_node_that_is_missing_may_be_kept(whole: persona.Repository, notes: Path) -> None:
    (notes / "rushing-pattern.md").unlink()
    edit(notes, "core-personality", "Dry humour", "Humour")
    done = persona.graph_import(whole, notes, keep_missing=True)
    assert (done.nodes, done.kept, done.stale) == (4, ("rushing-pattern",), ("voice",))
    shown = persona.graph_show(whole, "rushing-pattern")
    assert isinstance(shown, ShownNode)
    assert shown.links == ("pattern-listening-as-avoidance",)


def test_edits_are_not_recorded_by_surprise(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    whole.recipe_path.write_text(whole.head_text() + "# mine\n")
    for change in (
        lambda: persona.graph_import(whole, notes),
        lambda: persona.graph_link(whole, "rushing-pattern", "voice"),
        lambda: persona.graph_unlink(whole, "voice"),
    ):
        with pytest.raises(Refusal, match="uncommitted edits"):
            change()
