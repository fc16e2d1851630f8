"""The digests of a history's builds, worked out of recipes' texts, are those of the recipes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona.errors import Damaged
from persona.ids import RecipeId
from persona.recipe import builds
from persona.recipe.builds import BuildDigests, build_digest
from persona.recipe.model import ENTRY_BEGINS, NAME, Entry, ReadoutEntry, Recipe
from persona.store.objects import ObjectStore

IDS = st.sampled_from([digit * 64 for digit in "abc"])
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(['"vectors":[', f"}},{ENTRY_BEGINS}", '],"version":1}', '\\","alpha":0}', "\u2028\n"]),
)
NAMES = st.from_regex(NAME, fullmatch=True)
NUMBERS = st.one_of(st.just(0.0), st.just(-0.0), st.floats(allow_nan=False, allow_infinity=False))
ALPHAS = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, min_size=1, max_size=3).map(tuple),
    st.lists(st.tuples(TEXTS, NUMBERS), min_size=1, max_size=2).map(tuple),
)
VALUES = st.one_of(NUMBERS, st.integers(), st.booleans(), TEXTS)
PARAMETERS = st.dictionaries(st.one_of(TEXTS, st.just("alpha")), VALUES, max_size=2)
PATTERNS = st.lists(TEXTS, max_size=2).map(tuple)
ENTRIES = st.builds(
    Entry,
    name=NAMES,
    id=IDS,
    alpha=ALPHAS,
    node=st.none() | TEXTS,
    only=PATTERNS,
    excepted=PATTERNS,
    parameters=PARAMETERS,
    fisher=st.none() | IDS,
    specification=st.none() | IDS,
)
RECIPES = st.builds(
    Recipe,
    base=IDS,
    base_name=TEXTS,
    vectors=st.lists(ENTRIES, max_size=4).map(tuple),
    method=st.sampled_from(["linear", "ties", "iso_c", "fisher"]),
    scale=NUMBERS,
    parameters=PARAMETERS,
    readouts=st.lists(st.builds(ReadoutEntry, name=NAMES, id=IDS), max_size=2).map(tuple),
).filter(lambda recipe: len(recipe.names) == len(recipe.vectors) + len(recipe.readouts))


@given(st.lists(RECIPES, min_size=1, max_size=4))
@settings(deadline=None)
def test_each_is_that_of_the_recipe(recipes: list[Recipe]) -> None:
    """Entries are shared among the recipes under other methods, too."""
    others = [replace(one, method=method) for one in recipes for method in ("linear", "fisher")]
    with tempfile.TemporaryDirectory() as folder:
        objects = ObjectStore(Path(folder))
        digests = BuildDigests(objects)
        for recipe in (*recipes, *others):
            assert digests.of(recipe.put(objects)) == build_digest(recipe)
            assert digests.of(recipe.put(objects), "float32") == build_digest(recipe, "float32")


A = Entry("a", "a" * 64, 0.5)
RECIPE = Recipe("0" * 64, "base", (A, replace(A, name="b", alpha=0.25)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"0.25", b"0.75"),
        lambda data: data.replace(b'"version":1', b'"version":2'),
        lambda data: data[:-1],
        lambda data: b"",
    ],
    ids=["another alpha", "another version", "cut", "empty"],
)
def test_a_damaged_recipe_is_said_to_be_one(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    objects = ObjectStore(tmp_path)
    name = RECIPE.put(objects)
    objects.path(name).write_bytes(damage(objects.path(name).read_bytes()))
    with pytest.raises(Damaged, match="is damaged"):
        BuildDigests(objects).of(name)


def test_what_a_newer_persona_wrote_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ObjectStore(tmp_path)
    fields = RECIPE.encode() | {"zeal": [{"alpha": 1.0}]}
    monkeypatch.setattr("persona.store.objects.VERSION", 2)
    name = RecipeId(objects.put("recipe", fields))
    monkeypatch.undo()
    with pytest.raises(Damaged, match="newer version of persona"):
        BuildDigests(objects).of(name)


def test_another_object_is_no_recipe(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    name = objects.put("text", {"text": '"kind":"recipe"'})
    with pytest.raises(Damaged, match="expected a recipe"):
        BuildDigests(objects).of(RecipeId(name))


def test_what_was_measured_under_an_earlier_rule_of_iso_c_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mean is over the rank now; what other methods built is known as before."""
    entries = (Entry("v", "b" * 64, 1.0),)
    recipes = {name: Recipe("a" * 64, "base", entries, method=name) for name in ("linear", "tsv_m", "iso_c")}
    now = {name: build_digest(recipe) for name, recipe in recipes.items()}
    monkeypatch.setattr(builds, "_RULES", {})
    assert [name for name, recipe in recipes.items() if build_digest(recipe) != now[name]] == ["iso_c"]
