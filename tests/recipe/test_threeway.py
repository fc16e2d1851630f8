"""Three-way merging of recipes: a test for each row of the table in the guide, and what holds of any three recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import UsageError
from persona.recipe.changes import changes
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.threeway import MergeConflict, MergedRecipe, merge
from tests.amount import fuzzed

BASE = "ba5e" * 16
A, B, C, D = (digit * 64 for digit in "abcd")


def recipe(*vectors: Entry, method: str = "linear", scale: float = 1.0, **parameters: float | str) -> Recipe:
    return Recipe(BASE, "base", vectors, method, scale, parameters)


def one(**changed: object) -> Recipe:
    return recipe(replace(Entry("v", A, 1.0), **changed))  # type: ignore[arg-type]


def seeded(seed: int) -> Recipe:
    return recipe(method="dare_ties", seed=seed)


def measured(**ids: str) -> Recipe:
    return recipe().with_readouts(ReadoutEntry(name, id) for name, id in ids.items())


NOTHING = recipe()

ROWS: dict[str, tuple[Recipe, Recipe, Recipe, Recipe]] = {
    "nobody changed it": (one(), one(), one(), one()),
    "we added it": (NOTHING, one(), NOTHING, one()),
    "they added it": (NOTHING, NOTHING, one(), one()),
    "both added the same": (NOTHING, one(), one(), one()),
    "we took it out": (one(), NOTHING, one(), NOTHING),
    "they took it out": (one(), one(), NOTHING, NOTHING),
    "both took it out": (one(), NOTHING, NOTHING, NOTHING),
    "we changed its alpha": (one(), one(alpha=0.5), one(), one(alpha=0.5)),
    "they changed its alpha": (one(), one(), one(alpha=0.5), one(alpha=0.5)),
    "both changed it alike": (one(), one(alpha=0.5), one(alpha=0.5), one(alpha=0.5)),
    "we retrained it, they changed its alpha": (one(), one(id=B), one(alpha=0.5), one(id=B, alpha=0.5)),
    "they linked a node, we limited it": (
        one(), one(only=("*mlp*",)), one(node="n"), one(only=("*mlp*",), node="n")
    ),
    "they excepted tensors": (one(), one(alpha=0.5), one(excepted=("*q*",)), one(alpha=0.5, excepted=("*q*",))),
    "they estimated its diagonal": (one(), one(alpha=0.5), one(fisher=C), one(alpha=0.5, fisher=C)),
    "we retrained it, they estimated the diagonal of the one before": (one(), one(id=B), one(fisher=C), one(id=B)),
    "they retrained it and estimated, we had estimated": (
        one(fisher=C), one(fisher=C, alpha=0.5), one(id=B, fisher=D), one(id=B, alpha=0.5, fisher=D)
    ),
    "they retrained it, which took its diagonal out": (one(fisher=C), one(fisher=C), one(id=B), one(id=B)),
    "both retrained it alike, one estimated": (one(fisher=C), one(id=B), one(id=B, fisher=D), one(id=B, fisher=D)),
    "they took the node away": (one(node="n"), one(node="n"), one(), one()),
    "alphas along the depth": (one(), one(), one(alpha=(0.2, 1.0)), one(alpha=(0.2, 1.0))),
    "they chose a method": (
        NOTHING, recipe(scale=0.5), recipe(method="ties", density=0.3), recipe(method="ties", scale=0.5, density=0.3)
    ),
    "both have the method, each another parameter": (
        recipe(method="dare_ties", density=0.5), recipe(method="dare_ties", density=0.4),
        recipe(method="dare_ties", density=0.5, seed=1), recipe(method="dare_ties", density=0.4, seed=1),
    ),
    "each added a readout": (measured(), measured(r=A), measured(q=B), measured(r=A, q=B)),
    "they trained a readout again": (measured(r=A), measured(r=A, q=B), measured(r=C), measured(r=C, q=B)),
    "they took a readout out": (measured(r=A), measured(r=A, q=B), measured(), measured(q=B)),
    "their method leaves our parameter behind": (
        recipe(method="ties", density=0.2), recipe(method="ties", density=0.3), recipe(), recipe()
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_what_does_not_clash(row: str) -> None:
    before, ours, theirs, wanted = ROWS[row]
    done = merge([before], ours, theirs)
    assert (done.recipe, done.clashes) == (wanted, ())


CLASHES: dict[str, tuple[Recipe, Recipe, Recipe, str]] = {
    "both changed the alpha": (one(), one(alpha=0.5), one(alpha=0.25), "vectors.v.alpha"),
    "both retrained it": (one(), one(id=B), one(id=C), "vectors.v.id"),
    "both added another under one name": (NOTHING, one(id=B), one(id=C), "vectors.v.id"),
    "we took it out, they changed it": (one(), NOTHING, one(alpha=0.5), "vectors.v"),
    "they took it out, we changed it": (one(), one(alpha=0.5), NOTHING, "vectors.v"),
    "both linked another node": (one(), one(node="n"), one(node="m"), "vectors.v.node"),
    "both trained a readout again": (measured(r=A), measured(r=B), measured(r=C), "readouts.r.id"),
    "both added another readout under one name": (measured(), measured(r=B), measured(r=C), "readouts.r.id"),
    "we took a readout out, they trained it again": (measured(r=A), measured(), measured(r=B), "readouts.r"),
    "both changed the scale": (recipe(), recipe(scale=0.5), recipe(scale=0.25), "merge.scale"),
    "both changed the method": (recipe(), recipe(method="ties"), recipe(method="sce"), "merge.method"),
    "both changed a parameter": (
        recipe(method="ties", density=0.2), recipe(method="ties", density=0.3), recipe(method="ties", density=0.4),
        "merge.density",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", CLASHES)
def test_what_clashes(row: str) -> None:
    before, ours, theirs, where = CLASHES[row]
    done = merge([before], ours, theirs)
    assert [clash.where for clash in done.clashes] == [where]
    assert merge([before], ours, theirs, "ours").recipe == ours
    assert merge([before], ours, theirs, "theirs").recipe == theirs


def test_new_vectors_come_last_in_their_order() -> None:
    ours, theirs = recipe(Entry("x", A), Entry("y", B)), recipe(Entry("z", C), Entry("w", D), Entry("x", A))
    done = merge([recipe(Entry("x", A))], ours, theirs)
    assert [entry.name for entry in done.recipe.vectors] == ["x", "y", "z", "w"]


def test_different_bases_cannot_be_merged() -> None:
    with pytest.raises(UsageError) as caught:
        merge([NOTHING], NOTHING, replace(NOTHING, base="0" * 64, base_name="other"))
    assert (caught.value.message, caught.value.hint) == (
        "the two sides have different bases: base (ba5eba5eba5e) and other (000000000000)",
        "Vectors belong to one base: histories of different bases cannot be merged.",
    )


def test_the_base_may_be_renamed() -> None:
    here, there = replace(NOTHING, base_name="here"), replace(NOTHING, base_name="there")
    assert merge([NOTHING], here, NOTHING).recipe == here
    assert merge([NOTHING], NOTHING, there).recipe == there
    done = merge([NOTHING], here, there)
    assert done == MergedRecipe(here, (MergeConflict(("base", "name"), "base", "here", "there"),))
    assert done.clashes[0].text == "base.name: ours here, theirs there"
    assert merge([NOTHING], here, there, "theirs").recipe == there
    (clash,) = merge([here, there], here, NOTHING).clashes
    assert clash == MergeConflict(("base", "name"), None, "here", "base"), "the merge bases have two names"


TEXTS: list[tuple[Recipe, Recipe, Recipe, str]] = [
    (one(), NOTHING, one(alpha=0.5), "vectors.v: we removed it, they changed it"),
    (one(), one(alpha=0.5), NOTHING, "vectors.v: they removed it, we changed it"),
    (measured(r=A), measured(), measured(r=B), "readouts.r: we removed it, they changed it"),
    (one(), one(id=B), one(id=C), "vectors.v.id: retrained on both sides"),
    (NOTHING, one(id=B), one(id=C), "vectors.v.id: added on both sides"),
    (measured(r=A), measured(r=B), measured(r=C), "readouts.r.id: retrained on both sides"),
    (one(), one(fisher=C), one(fisher=D), f"vectors.v.fisher: ours {C[:12]}, theirs {D[:12]}"),
    (one(fisher=A), one(fisher=C), one(), f"vectors.v.fisher: ours {C[:12]}, theirs unset"),
    (one(), one(alpha=0.5), one(alpha=(0.2, 1.0)), "vectors.v.alpha: ours 0.5, theirs 0.2 … 1"),
    (one(), one(alpha=(("*mlp*", 0.5),)), one(alpha=2.0), "vectors.v.alpha: ours *mlp* 0.5, theirs 2"),
    (one(only=("a",)), one(only=("b", "c")), one(), "vectors.v.only: ours b, c, theirs unset"),
    (one(), one(excepted=("b",)), one(excepted=("b", "c")), "vectors.v.except: ours b, theirs b, c"),
    (one(node="n"), one(), one(node="m"), "vectors.v.node: ours unset, theirs m"),
    (recipe(), recipe(scale=0.5), recipe(scale=2.0), "merge.scale: ours 0.5, theirs 2"),
    (recipe(), recipe(method="ties"), recipe(method="sce"), "merge.method: ours ties, theirs sce"),
    (seeded(0), seeded(1), seeded(2), "merge.seed: ours 1, theirs 2"),
]


def test_a_clash_in_words() -> None:
    for before, ours, theirs, text in TEXTS:
        (clash,) = merge([before], ours, theirs).clashes
        assert clash.text == text
        assert clash.text.startswith(f"{clash.where}: ")
        assert clash.is_whole == ("removed" in text)


def test_a_clash_has_the_values_of_all_three() -> None:
    (clash,) = merge([one(node="x")], one(node="n"), one()).clashes
    assert clash == MergeConflict(("vectors", "v", "node"), "x", "n", None)
    (clash,) = merge([measured(r=A)], measured(), measured(r=B)).clashes
    assert clash == MergeConflict(("readouts", "r"), {"id": A}, None, {"id": B})
    (clash,) = merge([one()], one(alpha=0.5), NOTHING).clashes
    assert clash == MergeConflict(("vectors", "v"), {"id": A, "alpha": 1.0}, {"id": A, "alpha": 0.5}, None)


def test_our_side_of_every_clash_is_kept() -> None:
    ours = one(id=B, alpha=0.5, node="n").with_readouts([ReadoutEntry("r", B)])
    theirs = one(id=C, alpha=0.25, node="m").with_readouts([ReadoutEntry("r", C)])
    done = merge([NOTHING], ours, theirs)
    assert done.recipe == ours
    wanted = ["vectors.v.id", "vectors.v.alpha", "vectors.v.node", "readouts.r.id"]
    assert [clash.where for clash in done.clashes] == wanted
    assert merge([NOTHING], ours, theirs, "ours") == MergedRecipe(ours)
    assert merge([NOTHING], ours, theirs, "theirs") == MergedRecipe(theirs)


def test_a_diagonal_goes_with_the_vector_that_is_kept() -> None:
    for ours, theirs in ((one(id=B, fisher=D), one(id=C)), (one(id=B), one(id=C, fisher=D))):
        for prefer, kept in ((None, ours), ("ours", ours), ("theirs", theirs)):
            assert merge([one()], ours, theirs, prefer).recipe == kept


def test_diagonals_of_a_vector_that_both_retrained_alike() -> None:
    """The one before belongs to another vector, so it is not the value before."""
    (clash,) = merge([one(fisher=A)], one(id=B, fisher=C), one(id=B, fisher=D)).clashes
    assert clash == MergeConflict(("vectors", "v", "fisher"), None, C, D)


def test_parameters_of_a_vector_stay_where_the_method_has_them() -> None:
    def dense(method: str, density: float) -> Recipe:
        return recipe(Entry("v", A, 1.0, parameters={"density": density}), method=method)

    before = dense("ties", 0.5)
    assert merge([before], before, dense("ties", 0.3)).recipe == dense("ties", 0.3)
    assert merge([before], dense("dare_ties", 0.5), dense("ties", 0.3)).recipe == dense("dare_ties", 0.3)
    assert merge([before], before, dense("linear", 0.3)).recipe == one()


def test_a_method_that_clashes_brings_its_own_parameters() -> None:
    ours, theirs = recipe(method="ties", density=0.3, trim="model"), recipe(method="dare_ties", scale=0.5, seed=1)
    done = merge([NOTHING], ours, theirs)
    assert [clash.where for clash in done.clashes] == ["merge.method"]
    assert done.recipe == replace(ours, scale=0.5)
    assert merge([NOTHING], ours, theirs, "theirs").recipe == theirs


def test_histories_without_a_common_beginning() -> None:
    done = merge([], recipe(Entry("x", A)), recipe(Entry("y", B)))
    assert [entry.name for entry in done.recipe.vectors] == ["x", "y"]
    assert not done.clashes


def test_criss_cross() -> None:
    """Two merge bases that agree on a slot are one; on a slot where they clash every difference is a clash."""
    bases = [one(alpha=0.5, node="n"), one(alpha=0.25, node="n")]
    done = merge(bases, one(alpha=0.5, node="n"), one(alpha=0.25, node="m"))
    assert [clash.where for clash in done.clashes] == ["vectors.v.alpha"]
    assert done.clashes[0].before is None
    assert done.recipe.vectors[0].node == "m"
    assert not merge(bases, one(alpha=0.75, node="n"), one(alpha=0.75, node="n")).clashes


def test_criss_cross_about_a_whole_vector() -> None:
    """The merge bases have different vectors under one name: removing it clashes with keeping either."""
    bases = [one(id=A), one(id=B), one(id=A, node="n")]
    for ours, theirs in ((one(id=A), NOTHING), (NOTHING, one(id=B))):
        (clash,) = merge(bases, ours, theirs).clashes
        assert (clash.where, clash.before) == ("vectors.v", None)
    assert not merge(bases[:1], one(id=A), NOTHING).clashes


def test_criss_cross_about_a_setting() -> None:
    bases = [recipe(method="ties", density=0.2), recipe(method="ties", density=0.4)]
    done = merge(bases, bases[0], recipe(method="ties", density=0.6))
    assert done.clashes == (MergeConflict(("merge", "density"), None, 0.2, 0.6),)


entries = st.builds(
    Entry,
    name=st.sampled_from("uvw"),
    id=st.sampled_from([A, B, C]),
    alpha=st.sampled_from([0.5, 1.0, (0.1, 1.0)]),
    node=st.sampled_from([None, "n", "m"]),
    only=st.sampled_from([(), ("*mlp*",)]),
)
readouts = st.builds(ReadoutEntry, name=st.sampled_from("pqr"), id=st.sampled_from([A, B, C]))
recipes = st.builds(
    lambda vectors, method, scale, readouts: Recipe(BASE, "base", tuple(vectors), method, scale, {}).with_readouts(
        readouts
    ),
    st.lists(entries, max_size=3, unique_by=lambda entry: entry.name),
    st.sampled_from(["linear", "ties"]),
    st.sampled_from([1.0, 0.5]),
    st.lists(readouts, max_size=3, unique_by=lambda entry: entry.name),
)


def unordered(one: Recipe) -> Recipe:
    return replace(one, vectors=tuple(sorted(one.vectors, key=lambda entry: entry.name)))


@fuzzed(500)
@given(recipes, recipes, recipes)
def test_sides_may_be_swapped(before: Recipe, ours: Recipe, theirs: Recipe) -> None:
    """The outcome is the same but for the order of vectors; clashes are the same with their sides exchanged."""
    here, there = merge([before], ours, theirs), merge([before], theirs, ours)
    assert sorted(repr((c.path, c.ours, c.theirs)) for c in here.clashes) == sorted(
        repr((c.path, c.theirs, c.ours)) for c in there.clashes
    )
    if not here.clashes:
        assert unordered(here.recipe) == unordered(there.recipe)
    settled = merge([before], ours, theirs, "ours"), merge([before], theirs, ours, "theirs")
    assert unordered(settled[0].recipe) == unordered(settled[1].recipe)


@given(recipes, recipes)
def test_merging_what_did_not_change_changes_nothing(before: Recipe, ours: Recipe) -> None:
    for done in (merge([before], ours, before), merge([before], ours, ours)):
        assert not done.clashes
        assert done.recipe == ours
    forward = merge([before], before, ours)
    assert not forward.clashes
    assert [c for c in changes(ours, unordered(forward.recipe)) if c.kind != "moved"] == []
