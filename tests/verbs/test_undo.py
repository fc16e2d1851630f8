"""Undo and redo, and the log that both leave behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import persona
from persona.errors import Refusal


def state(repo: persona.Repository) -> tuple[dict[str, str], str | None]:
    return repo.refs(), repo.recipe_text()


CHANGES: dict[str, Callable[[persona.Repository], object]] = {
    "alpha": lambda repo: persona.alpha(repo, {"a": 0.25}),
    "negate": lambda repo: persona.negate(repo, "a"),
    "rm": lambda repo: persona.rm(repo, ["a"]),
    "detach": lambda repo: persona.checkout(repo, "HEAD~1"),
    "branch": lambda repo: persona.checkout(repo, "HEAD", branch="side"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_undo_takes_any_change_back_and_redo_makes_it_again(added: persona.Repository, name: str) -> None:
    before = state(added)
    CHANGES[name](added)
    after = state(added)
    persona.undo(added)
    assert state(added) == before
    assert not added.is_edited()
    persona.redo(added)
    assert state(added) == after
    assert not added.is_edited()


def test_undo_goes_back_to_the_beginning_and_no_further(added: persona.Repository) -> None:
    done = persona.undo(added)
    assert done.command == "commit runs/a"
    assert persona.log(added)[0].subject.startswith("base ")
    with pytest.raises(Refusal, match="nothing to undo"):
        persona.undo(added)


def test_edits_are_protected(added: persona.Repository) -> None:
    added.recipe_path.write_text(added.recipe_path.read_text() + "# mine\n")
    for verb in (persona.undo, persona.redo):
        with pytest.raises(Refusal, match="has uncommitted edits"):
            verb(added)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["alpha", "negate", "branch", "undo", "redo"]), max_size=8))
def test_any_sequence_is_a_walk_along_a_line(added: persona.Repository, steps: list[str]) -> None:
    """Against a model: a list of states and a position in it."""
    line, at = [state(added)], 0
    for number, step in enumerate(steps):
        if step == "undo":
            if at:
                persona.undo(added)
                at -= 1
        elif step == "redo":
            if at + 1 < len(line):
                persona.redo(added)
                at += 1
        else:
            if step == "alpha":
                persona.alpha(added, {"a": len(persona.op_log(added)) + 0.5})
            elif step == "negate":
                persona.negate(added, "a")
            else:
                persona.checkout(added, "HEAD", branch=f"b{len(persona.op_log(added))}-{number}")
            line, at = [*line[: at + 1], state(added)], at + 1
        assert state(added) == line[at]
