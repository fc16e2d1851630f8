"""``graph status``: which vectors implement the current text, whatever happens to history."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.graph.coverage import State
from persona.store.graphs import Node
from persona.verbs.graph.show import ShownGraph
from tests.graph.example import FOLDER, TABLE, edit, states
from tests.models import TinyModels


def test_the_table_of_the_seeds(whole: persona.Repository) -> None:
    now = persona.graph_status(whole)
    assert {link.vector: link.reference for link in now.links} == TABLE
    assert {link.state for link in now.links} == {State.CURRENT}
    assert (now.nodes, now.uncovered, now.loose, now.stale) == (4, (), (), ())
    assert now.next == "persona build -o OUT"


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
