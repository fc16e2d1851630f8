"""``sweep`` measures alphas, and writes the best only when told."""

from __future__ import annotations

import pytest

import persona
from persona.errors import UsageError
from persona.verbs.sweep import grid
from persona.workspace.record import worktree_recipe
from tests.verbs.conftest import BAD

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


def test_a_sweep_offers_the_best_and_writes_it_only_when_told(tuned: persona.Repository) -> None:
    before = tuned.recipe_bytes()
    found = persona.sweep(tuned, BAD, [0.4, -0.2, 0.0, 0.8])
    assert [stop.value for stop in found.stops] == [-0.2, 0.0, 0.4, 0.8]
    values = [stop.reached[0].value for stop in found.stops]
    assert values[3] > values[2] > values[1]
    assert found.best == found.stops[values.index(min(values))].value <= 0
    assert (found.clear, found.written, found.measure) == (True, False, "answers")
    assert tuned.recipe_bytes() == before
    blamed = persona.blame(tuned, suite="calm").verdicts[0].vectors[0]
    assert values[1] == blamed.without  # one build, one result
    found = persona.sweep(tuned, BAD, [0.4, -0.2, 0.0, 0.8], write=True)
    assert (found.written, found.measured) == (True, 0)
    assert worktree_recipe(tuned).entry(BAD).alpha == found.best
    assert tuned.is_edited()
    persona.restore(tuned)
    assert tuned.recipe_bytes() == before


def test_a_sweep_goes_by_the_number_that_is_asked_for(tuned: persona.Repository) -> None:
    found = persona.sweep(tuned, "one", [0.0, 1.0], by="divergence top1")
    assert (found.measure, found.name, found.better, found.best) == ("divergence", "top1", "higher", 0.0)
    assert persona.sweep(tuned, "one", [0.0, 1.0], by="degeneration length").best is None
    with pytest.raises(UsageError, match="no measure 'divergense'") as caught:
        persona.sweep(tuned, "one", [0.0], by="divergense")
    assert "divergence" in caught.value.hint


def test_grids() -> None:
    assert grid("-1:1:5") == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert grid("0:1:11")[3] == 0.3
    assert grid("0.2,-1") == (0.2, -1.0)
    for text in ("", "a:b:c", "1:2", "0:1:1", "0:1:100000", "1;2"):
        with pytest.raises(UsageError):
            grid(text)


def test_wrong_uses_are_named(tuned: persona.Repository) -> None:
    for call, said in (
        (lambda: persona.sweep(tuned, "on", [0.0]), "no vector 'on'"),
        (lambda: persona.sweep(tuned, "one", [float("nan")]), "not a finite number"),
        (lambda: persona.sweep(tuned, "one", []), "no alphas"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
