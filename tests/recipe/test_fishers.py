"""A vector's Fisher diagonal in ``persona.toml``: parsed, edited by splicing, rewritten, merged, and a part of what is built
only where it is used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from persona.errors import RecipeError
from persona.recipe.builds import build_digest
from persona.recipe.changes import changes
from persona.recipe.edit import put_vector, set_fisher, set_merge
from persona.recipe.markers import mark
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.recipe.rewrite import rewrite
from persona.recipe.threeway import merge
from persona.store.objects import canonical

A, B, C, D = (digit * 64 for digit in "abcd")
TEXT = f"""\
[base]
name = "tiny"
id = "{A[:12]}"

[vectors.calm]
id = "{B[:12]}"  # the second one
fisher = "cccc"  # by hand
"""


def recipe(**changed: object) -> Recipe:
    return Recipe(A, "tiny", (replace(Entry("calm", B), **changed),))  # type: ignore[arg-type]


def test_it_is_read_and_kept() -> None:
    assert parse(TEXT).vectors == (Entry("calm", B[:12], fisher="cccc"),)
    whole = recipe(fisher=C)
    assert Recipe.decode(whole.encode()) == whole
    assert b"fisher" not in canonical(recipe().encode()), "ids of recipes without one are what they were"


@pytest.mark.parametrize("value", ['""', '"xyz1"', "12", '"abc"'])
def test_what_is_no_id_is_an_error_with_its_line(value: str) -> None:
    with pytest.raises(RecipeError, match=r"persona.toml:7: vectors.calm.fisher"):
        parse(TEXT.replace('"cccc"', value))


def test_it_is_set_where_it_stands_and_everything_else_stays() -> None:
    class Name(str):
        short = D[:12]

    assert set_fisher(TEXT, "calm", Name(D)) == TEXT.replace("cccc", D[:12])  # type: ignore[arg-type]
    without = TEXT.replace('fisher = "cccc"  # by hand\n', "")
    assert set_fisher(without, "calm", Name(D)) == without + f'fisher = "{D[:12]}"\n'  # type: ignore[arg-type]


def test_another_vector_leaves_it_behind_and_the_same_one_keeps_it() -> None:
    same = put_vector(TEXT, Entry("calm", B, 0.5))
    assert 'fisher = "cccc"  # by hand\n' in same
    other = put_vector(TEXT, Entry("calm", D, 0.5))
    assert "fisher" not in other
    assert "# the second one" in other
    entry = Entry("calm", B, fisher=C)
    assert entry.with_vector(B) == entry
    assert entry.with_vector(D) == Entry("calm", D)


def test_a_text_is_rewritten_in_as_few_places_as_that_takes() -> None:
    assert rewrite(TEXT, recipe(fisher=C)) == TEXT
    assert rewrite(TEXT, recipe()) == TEXT.replace('fisher = "cccc"  # by hand\n', "")
    assert rewrite(TEXT, recipe(fisher=D)) == TEXT.replace("cccc", D[:12])
    alone = TEXT[: TEXT.index("[vectors")]
    assert rewrite(alone, recipe(fisher=C), borrow=TEXT).endswith(TEXT[TEXT.index("[vectors") :])
    assert f'fisher = "{C[:12]}"' in set_merge(put_vector(alone, Entry("calm", B, fisher=C)), "fisher", 1.0, {})


def test_two_that_were_estimated_on_both_sides_clash() -> None:
    merged = merge([recipe()], recipe(fisher=C), recipe(fisher=D))
    [clash] = merged.clashes
    assert clash.text == f"vectors.calm.fisher: ours {C[:12]}, theirs {D[:12]}"
    text = mark(TEXT, merged.clashes, "main", "side", TEXT, recipe(fisher=D))
    assert f'=======\nfisher = "{D[:12]}"\n>>>>>>> side' in text
    assert merge([recipe()], recipe(fisher=C), recipe(fisher=D), "theirs").recipe == recipe(fisher=D)


def test_where_both_trained_it_the_diagonal_comes_with_the_vector() -> None:
    ours, theirs = recipe(id=C, fisher=A), recipe(id=D, fisher=B)
    merged = merge([recipe()], ours, theirs)
    assert [clash.path[2] for clash in merged.clashes] == ["id"]
    assert merged.recipe == ours
    assert merge([recipe()], ours, theirs, "theirs").recipe == theirs


def test_it_is_told_when_it_changes() -> None:
    assert [one.text for one in changes(recipe(), recipe(fisher=C))] == [f"calm Fisher diagonal unset → {C[:12]}"]
    assert [one.kind for one in changes(recipe(fisher=C), recipe(id=D))] == ["retrained", "fisher"]


def test_it_is_a_part_of_the_build_only_where_it_weighs() -> None:
    def digest(method: str, fisher: str | None) -> str:
        return build_digest(replace(recipe(fisher=fisher), method=method))

    assert digest("linear", C) == digest("linear", None)
    assert len({digest("fisher", C), digest("fisher", D), digest("fisher", None), digest("linear", C)}) == 4
