"""``graph link`` pins a vector to the text of its node."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.graph.coverage import State
from tests.graph.example import edit, states
from tests.models import TinyModels


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


def test_a_section_that_is_renamed_is_gone(whole: persona.Repository, notes: Path) -> None:
    edit(notes, "core-personality", "## Voice", "## Tone")
    persona.graph_import(whole, notes)
    assert states(whole)["voice"] == State.NO_SECTION
    assert persona.graph_diff(whole).nodes[0].kind == "removed"
    persona.graph_link(whole, "core-personality#tone", "voice")
    assert set(states(whole).values()) == {State.CURRENT}


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
