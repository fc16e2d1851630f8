"""``status``: the branch, edits, and the next step. An unfinished merge: test_merge.py; stale vectors: test_graph_status.py."""

from __future__ import annotations

import persona
from tests.models import TinyModels


def test_a_clean_repository_says_what_comes_next(repo: persona.Repository, models: TinyModels) -> None:
    now = persona.status(repo)
    assert (now.branch, now.commit, now.edited, now.changes) == ("main", repo.head(), False, ())
    assert now.next == "persona commit RUN --as NAME"
    persona.commit(repo, models.run(1), name="a")
    now = persona.status(repo)
    assert (now.subject, now.next) == ("add a", "persona build -o OUT")
    assert now.recipe == repo.recipe(repo.head())
    assert (now.problem, now.outside, now.self_contained, now.merging, now.stale) == (None, (), True, (), ())


def test_edits_are_changes(added: persona.Repository) -> None:
    added.recipe_path.write_text(added.recipe_path.read_text().replace("alpha = 1.0", "alpha = 0.25"))
    now = persona.status(added)
    assert now.edited
    assert [change.text for change in now.changes] == ["a α 1 → 0.25"]
    assert now.recipe.vectors[0].alpha == 0.25
    assert now.next.startswith("persona commit")


def test_a_recipe_that_cannot_be_read_is_a_problem_and_no_error(added: persona.Repository) -> None:
    added.recipe_path.write_text(added.recipe_path.read_text().replace("alpha = 1.0", 'alpha = "much"'))
    now = persona.status(added)
    assert now.problem is not None
    assert now.problem.startswith("persona.toml:")
    assert "vectors.a.alpha" in now.problem
    assert (now.edited, now.changes, now.next) == (True, (), "fix line 10 of persona.toml")
    assert now.recipe == added.recipe(added.head())
