"""Undo and redo, and the log that both leave behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import persona
from persona.errors import Refusal
from tests.models import TinyModels


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    persona.commit(repo, models.run(1), name="a", command="commit runs/a")
    return repo


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
def test_undo_takes_any_change_back_and_redo_makes_it_again(work: persona.Repository, name: str) -> None:
    before = state(work)
    CHANGES[name](work)
    after = state(work)
    persona.undo(work)
    assert state(work) == before
    assert not work.is_edited()
    persona.redo(work)
    assert state(work) == after
    assert not work.is_edited()


def test_undo_goes_back_to_the_beginning_and_no_further(work: persona.Repository) -> None:
    done = persona.undo(work)
    assert done.command == "commit runs/a"
    assert persona.log(work)[0].subject.startswith("base ")
    with pytest.raises(Refusal, match="nothing to undo"):
        persona.undo(work)


def test_a_new_change_ends_redo(work: persona.Repository) -> None:
    persona.alpha(work, {"a": 0.5})
    persona.undo(work)
    persona.alpha(work, {"a": 0.25})
    with pytest.raises(Refusal, match="nothing to redo"):
        persona.redo(work)


def test_edits_are_protected(work: persona.Repository) -> None:
    work.recipe_path.write_text(work.recipe_path.read_text() + "# mine\n")
    for verb in (persona.undo, persona.redo):
        with pytest.raises(Refusal, match="has uncommitted edits"):
            verb(work)


def test_the_log_says_what_is_undone(work: persona.Repository) -> None:
    persona.alpha(work, {"a": 0.5}, command="alpha a=0.5")
    persona.undo(work, command="undo")
    shown = [(one.command, one.undone) for one in persona.op_log(work)]
    assert shown == [("undo", False), ("alpha a=0.5", True), ("commit runs/a", False), ("init", False)]
    persona.redo(work, command="redo")
    assert not any(one.undone for one in persona.op_log(work))
    assert len(persona.op_log(work, limit=2)) == 2


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["alpha", "negate", "branch", "undo", "redo"]), max_size=8))
def test_any_sequence_is_a_walk_along_a_line(work: persona.Repository, steps: list[str]) -> None:
    """Against a model: a list of states and a position in it."""
    line, at = [state(work)], 0
    for number, step in enumerate(steps):
        if step == "undo":
            if at:
                persona.undo(work)
                at -= 1
        elif step == "redo":
            if at + 1 < len(line):
                persona.redo(work)
                at += 1
        else:
            if step == "alpha":
                persona.alpha(work, {"a": len(persona.op_log(work)) + 0.5})
            elif step == "negate":
                persona.negate(work, "a")
            else:
                persona.checkout(work, "HEAD", branch=f"b{len(persona.op_log(work))}-{number}")
            line, at = [*line[: at + 1], state(work)], at + 1
        assert state(work) == line[at]
