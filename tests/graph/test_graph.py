"""The table of the seeds, lived through: nodes that specify, vectors that implement, and what becomes stale when.

| node | vector |
| pattern-listening-as-avoidance | listening |
| rushing-pattern | not_rushing |
| pattern-wrapping-up-reflex | not_wrapping_up |
| core-personality, its section voice | voice |
| core-personality, its section boundaries | boundaries |
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.graph.coverage import State
from persona.graph.nodes import Graph, GraphOrigin, Node
from persona.graph.pins import pinned
from persona.ids import NodeId
from persona.recipe.model import Entry, Recipe
from persona.verbs.graph.show import ShownGraph, ShownNode
from persona.verbs.show import ShownVector
from tests.models import TinyModels

FOLDER = Path(__file__).parents[2] / "examples" / "graph"
TABLE = {
    "listening": "pattern-listening-as-avoidance",
    "not_rushing": "rushing-pattern",
    "not_wrapping_up": "pattern-wrapping-up-reflex",
    "voice": "core-personality#voice",
    "boundaries": "core-personality#boundaries",
}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The graph of the example, to be edited."""
    return Path(shutil.copytree(FOLDER, tmp_path / "notes"))


@pytest.fixture
def whole(models: TinyModels, repo: persona.Repository, notes: Path) -> persona.Repository:
    """A repository with the graph and the five vectors."""
    persona.graph_import(repo, notes)
    for seed, (name, node) in enumerate(TABLE.items(), 1):
        persona.commit(repo, models.run(seed), name=name, node=node)
    return repo


def edit(notes: Path, node: str, old: str, new: str) -> None:
    path = notes / f"{node}.md"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def states(repo: persona.Repository, rev: str | None = None) -> dict[str, str]:
    return {link.vector: str(link.state) for link in persona.graph_status(repo, rev).links}


def test_the_table_of_the_seeds(whole: persona.Repository) -> None:
    now = persona.graph_status(whole)
    assert {link.vector: link.reference for link in now.links} == TABLE
    assert {link.state for link in now.links} == {State.CURRENT}
    assert (now.nodes, now.uncovered, now.loose, now.stale) == (4, (), (), ())
    assert now.next == "persona build -o OUT"


def test_a_commit_tells_exactly_what_its_vectors_implement(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    persona.graph_import(whole, notes)
    for rev in ("HEAD", "HEAD~1"):
        pin = whole.recipe(persona.log(whole, rev)[0].commit).entry("not_rushing")
        assert pin is not None
        assert pin.specification is not None
        assert "Slow is allowed." in Node.get(whole.objects, pin.specification).text
    assert states(whole)["not_rushing"] == State.STALE
    assert set(states(whole, "HEAD~1").values()) == {State.CURRENT}


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


def test_retraining_implements_the_new_text(whole: persona.Repository, notes: Path, models: TinyModels) -> None:
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    persona.graph_import(whole, notes)
    done = persona.commit(whole, models.run(6), name="not_rushing")
    assert done.recorded is not None
    assert "not_rushing implements another version of rushing-pattern" in [one.text for one in done.recorded.changes]
    assert states(whole)["not_rushing"] == State.CURRENT
    persona.commit(whole, models.run(2), name="not_rushing")  # the old weights again, committed today
    assert states(whole)["not_rushing"] == State.CURRENT


def test_other_changes_leave_the_pin(whole: persona.Repository, notes: Path, models: TinyModels) -> None:
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    persona.graph_import(whole, notes)
    persona.alpha(whole, {"not_rushing": 0.5})
    persona.negate(whole, "not_rushing")
    whole.recipe_path.write_text(whole.head_text().replace("[vectors.not_rushing]", "[vectors.calm]"))
    assert states(whole)["calm"] == State.STALE, "as it stands, before it is committed"
    persona.commit(whole)
    assert states(whole)["calm"] == State.STALE


def test_saying_that_it_still_holds(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    persona.graph_import(whole, notes)
    text = whole.recipe_text()
    done = persona.graph_link(whole, "rushing-pattern", "not_rushing")
    assert done.message == "not_rushing still implements rushing-pattern"
    assert [one.text for one in done.changes] == ["not_rushing implements another version of rushing-pattern"]
    assert whole.recipe_text() == text
    assert states(whole)["not_rushing"] == State.CURRENT
    with pytest.raises(Refusal, match="already implements the current text"):
        persona.graph_link(whole, "rushing-pattern", "not_rushing")
    persona.undo(whole)
    assert states(whole)["not_rushing"] == State.STALE


def test_history_moves_the_graph(whole: persona.Repository, notes: Path) -> None:
    before = persona.graph_show(whole)
    edit(notes, "rushing-pattern", "Slow is allowed.", "Slow is good.")
    persona.graph_import(whole, notes)
    persona.alpha(whole, {"voice": 0.5})
    assert persona.status(whole).stale == ("not_rushing",)
    persona.checkout(whole, "HEAD~2", branch="old")
    after = persona.graph_show(whole)
    assert isinstance(before, ShownGraph)
    assert isinstance(after, ShownGraph)
    assert after.nodes == before.nodes
    assert persona.status(whole).stale == ()
    persona.checkout(whole, "main")
    assert persona.status(whole).stale == ("not_rushing",)
    persona.undo(whole)
    persona.undo(whole)
    persona.undo(whole)
    persona.undo(whole)
    assert persona.status(whole).stale == ()


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


def test_a_section_that_is_renamed_is_gone(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "core-personality", "## Voice", "## Tone")
    persona.graph_import(whole, notes)
    assert states(whole)["voice"] == State.NO_SECTION
    assert persona.graph_diff(whole).nodes[0].kind == "removed"
    persona.graph_link(whole, "core-personality#tone", "voice")
    assert set(states(whole).values()) == {State.CURRENT}


def test_vectors_before_the_graph(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="listening", node="pattern-listening-as-avoidance")
    persona.commit(repo, models.run(2), name="free")
    bare = persona.graph_status(repo)
    assert (bare.source, bare.stale, bare.next) == (None, (), "persona graph import PATH")
    assert persona.status(repo).stale == ()
    with pytest.raises(UsageError, match="has no memory graph"):
        persona.graph_link(repo, "rushing-pattern", "free")
    persona.graph_import(repo, FOLDER)
    now = persona.graph_status(repo)
    assert states(repo) == {"listening": State.UNPINNED}
    assert (now.loose, now.stale) == (("free",), ())
    assert now.uncovered == ("core-personality", "pattern-wrapping-up-reflex", "rushing-pattern")
    assert now.next == "persona graph link pattern-listening-as-avoidance listening"
    assert persona.graph_link(repo, "pattern-listening-as-avoidance", "listening").changes == ()
    assert states(repo) == {"listening": State.CURRENT}
    with pytest.raises(Refusal, match="nothing to commit"):
        persona.commit(repo)


def test_unlink(whole: persona.Repository) -> None:
    text = whole.head_text()
    done = persona.graph_unlink(whole, "voice")
    assert done.message == "voice no longer implements core-personality#voice"
    assert persona.graph_status(whole).loose == ("voice",)
    assert whole.head_text() == text.replace('node = "core-personality#voice"\n', "")
    with pytest.raises(Refusal, match="'voice' has no node"):
        persona.graph_unlink(whole, "voice")
    persona.graph_link(whole, "core-personality#Voice", "voice")
    assert states(whole)["voice"] == State.CURRENT


def test_unknown_names_are_notes_in_a_commit_and_errors_in_a_link(
    models: TinyModels, whole: persona.Repository
) -> None:
    done = persona.commit(whole, models.run(6), name="new", node="rushing-patern")
    assert done.recorded is not None
    assert done.recorded.notes == ("new: no node 'rushing-patern' in the graph. Did you mean 'rushing-pattern'?",)
    assert persona.alpha(whole, {"new": 0.5}).notes == (), "said once"
    for node, vector, said in (
        ("rushing-patern", "new", "no node 'rushing-patern'"),
        ("core-personality#voise", "new", "no section 'voise'"),
        ("rushing-pattern", "newt", "no vector 'newt'"),
    ):
        with pytest.raises(UsageError, match=said) as error:
            persona.graph_link(whole, node, vector)
        assert error.value.hint.startswith("Did you mean")
    with pytest.raises(UsageError, match="no node 'core-persona'"):
        persona.graph_show(whole, "core-persona")


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


def test_show(whole: persona.Repository, notes: Path) -> None:
    graph = persona.graph_show(whole)
    assert isinstance(graph, ShownGraph)
    assert (graph.nodes[0].name, graph.nodes[0].vectors) == ("core-personality", ("voice", "boundaries"))
    node = persona.graph_show(whole, "core-personality#boundaries")
    assert isinstance(node, ShownNode)
    assert node.text.startswith("## Boundaries\n\nNo is")
    assert "Voice" not in node.text
    assert dict(node.tags) == {"core": None, "warmth": 8, "clarity": 9}
    assert node.linked_from == ("pattern-listening-as-avoidance",)
    with pytest.raises(UsageError, match="has no memory graph"):
        persona.graph_show(whole, rev="HEAD~6")


def test_pins_of_a_recipe_with_several_parents() -> None:
    """What a merge needs: the pin of whichever parent has the vector with that node, and the graph's own if one has it."""
    old, new = NodeId("0" * 64), NodeId("1" * 64)

    def recipe(**pins: NodeId | None) -> Recipe:
        return Recipe("b", "", tuple(Entry(n, n, node="x", specification=pin) for n, pin in pins.items()))

    graph = Graph({"x": new}, GraphOrigin("folder", "x"))
    bare = recipe(a=None, b=None, c=None)

    def pins(known: tuple[Recipe, ...], among: Graph | None = graph) -> list[NodeId | None]:
        return [entry.specification for entry in pinned(bare, known, among).vectors]

    assert pins(()) == [new, new, new]
    assert pins((), None) == [None, None, None]
    assert pins((recipe(a=old), recipe(b=old))) == [old, old, new]
    assert pins((recipe(a=old), recipe(a=new))) == pins((recipe(a=new), recipe(a=old))) == [new, new, new]
    assert pins((recipe(a=None), recipe(a=old)))[0] == old
    assert pins((recipe(a=None),))[0] is None, "nobody knows what it was trained for"
    assert pinned(bare, (recipe(a=old),), graph, {"a": new}).vectors[0].specification == new


def test_repositories_without_a_graph_keep_their_ids(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a", node="x")
    fields = repo.objects.get(repo.head(), "commit")
    assert "graph" not in fields
    assert "specification" not in repo.objects.get(fields["recipe"], "recipe")["vectors"][0]
