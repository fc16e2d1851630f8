"""``redo`` makes again what was undone. Any sequence of both: test_undo.py."""

from __future__ import annotations

import pytest

import persona
from persona.errors import Refusal


def test_a_new_change_ends_redo(added: persona.Repository) -> None:
    persona.alpha(added, {"a": 0.5})
    persona.undo(added)
    persona.alpha(added, {"a": 0.25})
    with pytest.raises(Refusal, match="nothing to redo"):
        persona.redo(added)


def test_what_was_undone_last_is_made_again_first(added: persona.Repository) -> None:
    persona.alpha(added, {"a": 0.5}, command="alpha a=0.5")
    persona.undo(added)
    persona.undo(added)
    assert persona.redo(added).command == "commit runs/a"
    assert persona.redo(added).command == "alpha a=0.5"
    assert [entry.alpha for entry in added.recipe(added.head()).vectors] == [0.5]
