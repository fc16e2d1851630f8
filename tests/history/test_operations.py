"""Every change is one operation, and nobody's edit is lost. What crashes do is in ``tests/faults``."""

from __future__ import annotations

from itertools import pairwise

import pytest

import persona
from persona.errors import Refusal
from persona.history import refs as refs_
from tests.models import TinyModels


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    persona.commit(repo, models.run(1), name="a")
    return repo


def test_every_change_is_one_operation(models: TinyModels, work: persona.Repository) -> None:
    persona.negate(work, "a", alpha=0.5, command="negate a --alpha 0.5")
    persona.checkout(work, "HEAD~1", command="checkout HEAD~1")
    operations = [operation for _, operation in work.log.walk()]
    assert [operation.command for operation in operations] == [
        "checkout HEAD~1",
        "negate a --alpha 0.5",
        "commit",
        "init",
    ]
    assert set(operations[1].refs) == {"refs/heads/main"}
    assert set(operations[0].refs) == {refs_.HEAD}
    for newer, older in pairwise(operations):
        assert newer.parent is not None
        assert newer.time >= older.time


def test_an_edit_made_while_a_command_runs_is_not_lost(work: persona.Repository) -> None:
    change = work.transaction("slow")
    transaction = change.__enter__()
    transaction.set_recipe_text("theirs")
    work.recipe_path.write_text("mine")
    with pytest.raises(Refusal, match="was edited while this command ran"):
        change.__exit__(None, None, None)
    assert work.recipe_path.read_text() == "mine"
    assert work.log.pending() is None
