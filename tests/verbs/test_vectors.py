"""``vectors`` lists the vectors of a recipe."""

from __future__ import annotations

import pytest

import persona
from persona.errors import UsageError
from tests.models import TinyModels, load, same_bits


def test_they_are_listed_in_the_order_of_the_recipe(parted: persona.Repository, models: TinyModels) -> None:
    first, second = persona.vectors(parted)
    assert (first.name, first.alpha, first.form, first.rank) == ("listening", 0.5, "dense", None)
    assert (second.name, second.alpha, second.node, second.only) == ("calm", 1.0, None, ())
    assert first.id == parted.recipe(parted.head()).vectors[0].id
    base, tuned = load(models.base()), load(models.run(1))
    assert first.tensors == sum(not same_bits(base[name], tuned[name]) for name in base)
    assert persona.vectors(parted, "HEAD~1") == [first]
    assert persona.vectors(parted, "HEAD~2") == []


def test_edits_count_and_a_revision_has_none(added: persona.Repository) -> None:
    added.recipe_path.write_text(added.recipe_path.read_text().replace("alpha = 1.0", "alpha = 0.25"))
    assert [one.alpha for one in persona.vectors(added)] == [0.25]
    assert [one.alpha for one in persona.vectors(added, "HEAD")] == [1.0]


def test_a_revision_that_is_not_there(added: persona.Repository) -> None:
    with pytest.raises(UsageError, match="no revision 'nowhere'") as caught:
        persona.vectors(added, "nowhere")
    assert caught.value.hint == "Known: HEAD, main."
