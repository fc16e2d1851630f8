"""``alpha`` sets how strongly vectors act, and commits that."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import PersonaError, Refusal, UsageError
from persona.ids import CommitId


@pytest.mark.parametrize("dangles", [False, True])
def test_nothing_is_written_through_a_link(
    repo: persona.Repository, tmp_path: Path, history: dict[str, CommitId], dangles: bool
) -> None:
    """In somebody else's repository it could lead to any file."""
    real = tmp_path / "real.toml"
    repo.recipe_path.rename(real)
    repo.recipe_path.symlink_to(tmp_path / "none" if dangles else real)
    before = real.read_bytes(), repo.log.head()
    for change in (lambda: persona.alpha(repo, {"a": 0.125}), lambda: persona.checkout(repo, history["a"])):
        with pytest.raises((Refusal, UsageError)):
            change()
    with pytest.raises(Refusal, match="is a link"):
        persona.restore(repo, source=history["a"])
    assert (real.read_bytes(), repo.log.head()) == before
    assert not (tmp_path / "none").exists()


def test_alphas_are_set_in_one_commit(parted: persona.Repository) -> None:
    done = persona.alpha(parted, {"listening": 0.75, "calm": -1.0})
    assert done.message == "listening α 0.5 → 0.75; calm α 1 → -1"
    assert done.commit == parted.head()
    assert {entry.name: entry.alpha for entry in parted.recipe(done.commit).vectors} == {
        "listening": 0.75,
        "calm": -1.0,
    }


def test_the_scale_is_set_with_them_and_alone(added: persona.Repository) -> None:
    assert persona.alpha(added, {"a": 0.5}, scale=0.9).message == "a α 1 → 0.5; scale 1 → 0.9"
    recipe = added.recipe(added.head())
    assert (recipe.scale, recipe.vectors[0].alpha, recipe.method) == (0.9, 0.5, "linear")
    assert persona.alpha(added, {}, scale=1.0).message == "scale 0.9 → 1"
    assert added.recipe(added.head()).scale == 1.0
    with pytest.raises(Refusal, match="already has this scale"):
        persona.alpha(added, {}, scale=1.0)
    with pytest.raises(UsageError, match="scale nan is not a finite number"):
        persona.alpha(added, {}, scale=float("nan"))


@pytest.mark.parametrize(
    ("values", "kind", "said", "hint"),
    [
        ({"ab": 2.0}, UsageError, "no vector 'ab' in the recipe", "Did you mean 'a'?"),
        ({"a": float("nan")}, UsageError, "alpha nan of 'a' is not a finite number", "Use a number such as 0.8."),
        ({"a": 1.0}, Refusal, "nothing to change: the recipe already has these alphas", "See 'persona vectors'."),
    ],
)
def test_a_wrong_alpha_changes_nothing(
    added: persona.Repository, values: dict[str, float], kind: type[PersonaError], said: str, hint: str
) -> None:
    before = added.refs(), added.recipe_text()
    with pytest.raises(kind, match=said) as caught:
        persona.alpha(added, values)
    assert caught.value.hint == hint
    assert (added.refs(), added.recipe_text()) == before
