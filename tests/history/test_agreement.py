"""A commit whose text says one thing and whose recipe another: nothing shows the one and builds the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.errors import Damaged
from persona.history.commits import Commit, put_text
from persona.ids import CommitId
from persona.recipe.agreement import disagreement
from persona.recipe.choices import Choices
from persona.recipe.model import Recipe
from tests.models import TinyModels
from tests.verbs.test_fsck import fsck

TEXT = """\
[base]
name = "tiny"
id = "aaaa"

[merge]
method = "task_arithmetic"
scale = 0.5
normalize = "none"

[config]
rope.theta = 100.0

[vectors.a]
id = "bbbbbb"
alpha = {"*.mlp.*" = 0.5, "*" = 1}
node = "calm"
only = ["model.*"]

[vectors.b]
id = "cccc"
alpha = [0, 1.0]

[readouts.warmth]
id = "dddd"
"""
NAME = CommitId("e" * 64)


def resolved() -> Recipe:
    """What the text means."""
    from persona.recipe.parse import parse

    recipe = parse(TEXT.replace('normalize = "none"\n', ""))
    whole = {"aaaa": "a" * 64, "bbbbbb": "b" * 64, "cccc": "c" * 64, "dddd": "d" * 64}
    vectors = tuple(replace(entry, id=whole[entry.id]) for entry in recipe.vectors)
    readouts = [replace(entry, id=whole[entry.id]) for entry in recipe.readouts]
    return replace(recipe, base=whole[recipe.base], vectors=vectors).with_readouts(readouts)


def test_text_and_recipe_agree() -> None:
    text = TEXT.replace('normalize = "none"\n', "")
    assert disagreement(NAME, text, Recipe.decode(resolved().encode())) is None
    assert disagreement(NAME, "# a comment\n" + text, replace(resolved(), method="task_arithmetic")) is None


def entry(number: int, **changes: Any) -> Callable[[Recipe], Recipe]:
    def changed(recipe: Recipe) -> Recipe:
        vectors = list(recipe.vectors)
        vectors[number] = replace(vectors[number], **changes)
        return replace(recipe, vectors=tuple(vectors))

    return changed


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (entry(1, alpha=5.0), r"the alpha of b is \(0.0, 1.0\) in its text and 5.0 in its recipe"),
        (entry(0, alpha=(("*", 1.0), ("*.mlp.*", 0.5))), "the alpha of a"),
        (entry(0, id="f" * 64), "the id of a is bbbbbb in its text and ffff"),
        (entry(0, node=None), "the node of a is calm in its text and not set in its recipe"),
        (entry(0, only=()), "'only' of a"),
        (entry(0, excepted=("*",)), "'except' of a"),
        (entry(0, parameters={"density": 0.1}), "density of a is not set in its text and 0.1 in its recipe"),
        (entry(0, fisher="f" * 64), "the Fisher diagonal of a"),
        (entry(0, name="c"), "the list of vectors"),
        (lambda r: replace(r, vectors=r.vectors[:1]), "the list of vectors"),
        (lambda r: replace(r, vectors=r.vectors[::-1]), "the list of vectors"),
        (lambda r: replace(r, base="f" * 64), "the base is aaaa"),
        (lambda r: replace(r, base_name="other"), "the base's name is tiny"),
        (lambda r: replace(r, method="ties"), "the method is linear in its text and ties in its recipe"),
        (lambda r: replace(r, scale=2.0), "the scale is 0.5"),
        (lambda r: replace(r, parameters={"normalize": "sum"}), "normalize is not set"),
        (lambda r: replace(r, choices=replace(r.choices, files={"tokenizer": "a"})), "files.tokenizer is not set"),
        (lambda r: replace(r, choices=Choices()), "config.rope.theta is 100.0 in its text and not set"),
        (lambda r: r.with_readouts(()), "the list of readouts"),
        (lambda r: r.with_readouts([replace(r.readouts[0], id="f" * 64)]), "the id of warmth"),
    ],
)
def test_every_difference_is_found(change: Callable[[Recipe], Recipe], what: str) -> None:
    found = disagreement(NAME, TEXT.replace('normalize = "none"\n', ""), change(resolved()))
    assert found is not None
    with pytest.raises(Damaged, match=what):
        raise found


def test_a_text_that_is_no_recipe() -> None:
    found = disagreement(NAME, "alpha = [", resolved())
    assert found is not None
    assert found.message.startswith(f"commit {NAME.short} cannot be compared with its text: ")


def test_no_command_believes_such_a_commit(repo: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    """The text says 1 and the recipe 5."""
    persona.commit(repo, models.run(1), name="a")
    good, before = repo.head(), repo.commit(repo.head())
    forged_recipe = entry(0, alpha=5.0)(repo.recipe(good)).put(repo.objects)
    head = Commit(forged_recipe, before.text, (good,), "me", before.time, "forged").put(repo.objects)
    with repo.transaction("forge") as change:
        change.set_ref("refs/heads/other", head)
    commands: list[Callable[[persona.Repository], object]] = [
        lambda repo: persona.show(repo, "other"),
        lambda repo: persona.diff(repo, "main", "other"),
        lambda repo: persona.checkout(repo, "other"),
        lambda repo: persona.build(repo, tmp_path / "out", "other"),
        lambda repo: persona.merge(repo, ["other"]),
        lambda repo: persona.restore(repo, source="other"),
        lambda repo: persona.vectors(repo, "other"),
    ]
    for command in commands:
        with pytest.raises(
            Damaged, match=f"commit {head.short} is not a valid commit: the alpha of a is 1.0 in its text"
        ):
            command(persona.open(repo.root))
    assert repo.head() == good
    assert not (tmp_path / "out").exists()
    assert [entry.commit for entry in persona.log(repo, "other")][:2] == [head, good]
    assert any("the alpha of a is 1.0 in its text and 5.0 in its recipe" in line for line in fsck(repo).problems)


def test_what_is_lost_contradicts_nothing(repo: persona.Repository, models: TinyModels, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="a")
    before = repo.commit(repo.head())
    repo.objects.path(before.text).unlink()
    persona.build(persona.open(repo.root), tmp_path / "out", "HEAD")
    put_text(repo.objects, "")  # any other text
    with pytest.raises(Damaged, match=r"text .* is missing"):
        persona.show(persona.open(repo.root), "HEAD")
