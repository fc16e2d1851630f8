"""What every aggregator must do, whatever it is; one that is dropped into the folder is tried, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from persona.errors import UsageError
from persona.readout import aggregators
from persona.readout.aggregators import NoDirection, Sample, aggregate, components, pairing

NAMES = aggregators.names()
HIDDEN = 24
NEAR = 0.8
"""Cosine with the truth: noise is the same in all axes, of which "whitened" must give up some."""


def sample(positive: int = 30, negative: int = 30, *, gap: float = 6.0, paired: bool = False, seed: int = 0) -> Sample:
    """Noise on both sides, and a direction (the first axis) added to positives; around an offset."""
    chance = np.random.default_rng(seed)
    noise = chance.standard_normal((positive + negative, HIDDEN)) + chance.standard_normal(HIDDEN)
    noise[:positive, 0] += gap
    rows = noise.astype(np.float32)
    pairs = tuple((row, row) for row in range(min(positive, negative))) if paired else ()
    return Sample(rows[:positive], rows[positive:], pairs)


def changed(one: Sample, change: Any) -> Sample:
    """Both sides after the same change."""
    return replace(one, positive=change(one.positive), negative=change(one.negative))


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_the_folder_is_the_list() -> None:
    assert {"logistic", "mean", "pca", "whitened"} <= set(NAMES)
    with pytest.raises(UsageError, match="unknown aggregator 'maen'") as caught:
        aggregators.load("maen")
    assert caught.value.hint == "Did you mean 'mean'?"


def test_one_that_cannot_be_imported_is_loud(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    monkeypatch.setattr(aggregators, "__path__", [*aggregators.__path__, str(tmp_path)])
    assert "broken" in aggregators.names()
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        aggregators.load("broken")


def test_one_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregators.load("logistic"), "NEEDS", {"no_such_module": "no-such-package"})
    with pytest.raises(UsageError, match="'logistic' needs no-such-package") as caught:
        aggregators.check_ready("logistic")
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    first = (aggregators.load(name).__doc__ or "").splitlines()[0]
    assert first.startswith(f"{name}: ")
    assert first.endswith(").")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("paired", [False, True])
def test_it_has_length_one_and_finds_what_was_added(name: str, paired: bool) -> None:
    one = sample(paired=paired)
    vector, norm = aggregate(name, one)
    assert (vector.dtype, vector.shape) == (np.float64, (HIDDEN,))
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert norm > 0
    assert vector[0] > NEAR
    assert (one.positive[:] @ vector).mean() > (one.negative[:] @ vector).mean()


@pytest.mark.parametrize("name", NAMES)
def test_positives_project_higher_when_the_sides_change_places(name: str) -> None:
    one = sample()
    there, _ = aggregate(name, one)
    back, _ = aggregate(name, replace(one, positive=one.negative, negative=one.positive))
    assert (one.negative[:] @ back).mean() > (one.positive[:] @ back).mean()
    assert cosine(there, back) < -NEAR


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", [(40, 11), (11, 40), (1, 12), (12, 1), (2, 1), (300, 40)])
def test_sides_need_not_be_equal(name: str, counts: tuple[int, int]) -> None:
    vector, _ = aggregate(name, sample(*counts, gap=12.0))
    assert vector[0] > (NEAR if min(counts) > 1 else 0.7)


@pytest.mark.parametrize("name", NAMES)
def test_one_text_of_each_side_is_enough(name: str) -> None:
    one = sample(1, 1)
    vector, _ = aggregate(name, one)
    assert cosine(vector, (one.positive[0] - one.negative[0])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_pairs_does_not_matter(name: str) -> None:
    one = sample(paired=True)
    order = np.random.default_rng(1).permutation(len(one.positive))
    vector, norm = aggregate(name, one)
    mixed, its_norm = aggregate(name, changed(one, lambda rows: rows[order]))
    assert cosine(vector, mixed) == pytest.approx(1, abs=1e-6)
    assert norm == pytest.approx(its_norm, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("paired", [False, True])
def test_a_common_offset_changes_nothing(name: str, paired: bool) -> None:
    one = sample(paired=paired)
    offset = np.random.default_rng(2).standard_normal(HIDDEN).astype(np.float32) * 20
    moved, _ = aggregate(name, changed(one, lambda rows: rows + offset))
    assert cosine(aggregate(name, one)[0], moved) > 1 - 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_scale_changes_the_norm_alone(name: str, scale: float) -> None:
    if not getattr(aggregators.load(name), "SCALES", True):
        pytest.skip("its penalty has a scale of its own, as its page says")
    one = sample()
    vector, norm = aggregate(name, one)
    larger, its_norm = aggregate(name, changed(one, lambda rows: rows * np.float32(scale)))
    assert cosine(vector, larger) == pytest.approx(1, abs=1e-6)
    assert its_norm == pytest.approx(norm * scale, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    one = sample(20, 33)
    assert np.array_equal(aggregate(name, one)[0], aggregate(name, one)[0])
    assert cosine(aggregate(name, one)[0], aggregate(name, replace(one, seed=9))[0]) > 0.9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("paired", [False, True])
def test_sides_that_are_the_same_have_no_direction(name: str, paired: bool) -> None:
    rows = np.ones((6, HIDDEN), np.float32)
    pairs = tuple((row, row) for row in range(6)) if paired else ()
    with pytest.raises(NoDirection):
        aggregate(name, Sample(rows, rows, pairs))


@pytest.mark.parametrize("name", NAMES)
def test_rounding_is_no_direction(name: str) -> None:
    """The same text in another batch has other last bits: a model's sums depend on the shapes that it is given."""
    rows = np.random.default_rng(0).standard_normal((8, HIDDEN)).astype(np.float32)
    others = np.nextafter(rows, np.float32(np.inf))
    assert (rows != others).all()
    with pytest.raises(NoDirection, match="both sides have the same activations"):
        aggregate(name, Sample(rows, others))
    nearly = rows.copy()
    nearly[:, 0] += 1e-3
    assert abs(aggregate(name, Sample(nearly, rows, tuple((row, row) for row in range(8))))[0][0]) > NEAR


def test_mean_is_the_difference_of_means() -> None:
    one = Sample(np.array([[1, 2], [3, 6]], np.float32), np.array([[0, 1]], np.float32))
    vector, norm = aggregate("mean", one)
    # (1+3)/2 − 0 = 2 and (2+6)/2 − 1 = 3
    assert norm == pytest.approx(13**0.5)
    assert vector == pytest.approx(np.array([2, 3]) / 13**0.5)


def test_pca_is_uncentred() -> None:
    # δ = (3, 0) and (3, 2): Σδδᵀ = [[18, 6], [6, 4]], whose largest eigenvalue is 11 + √85, along (18 − 4 + 2√85 − 14 …)
    one = Sample(np.array([[3, 0], [3, 2]], np.float32), np.zeros((2, 2), np.float32), ((0, 0), (1, 1)))
    value = 11 + 85**0.5
    vector, norm = aggregate("pca", one)
    assert norm == pytest.approx((value / 2) ** 0.5)
    assert vector[1] / vector[0] == pytest.approx((value - 18) / 6)  # first row of Σδδᵀ v = λv
    # centred, it would be (0, 1)


def test_whitened_leaves_out_what_negatives_vary_in() -> None:
    negative = np.array([[0, 5, 0], [0, -5, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    one = Sample(negative + np.array([1, 4, 2], np.float32), negative)
    # the second axis has 50 of the 52 of the negatives' variance: half of it, and more
    assert aggregate("whitened", one)[0] == pytest.approx(np.array([1, 0, 2]) / 5**0.5)
    assert aggregate("whitened", replace(one, components=0))[0] == pytest.approx(aggregate("mean", one)[0])
    assert aggregate("whitened", replace(one, components=2))[0] == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("count", [5, 60])
def test_components_are_the_same_from_either_matrix(count: int) -> None:
    rows = np.random.default_rng(0).standard_normal((count, 12))
    values, vectors = components(iter([rows[:3], rows[3:]]), count, 12)
    _, singular, right = np.linalg.svd(rows, full_matrices=False)
    assert values == pytest.approx(singular**2)
    assert np.abs(np.sum(vectors * right, axis=1)) == pytest.approx(np.ones(len(singular)))


def test_texts_without_a_partner_get_one_by_chance() -> None:
    one = replace(sample(5, 3), pairs=((0, 2),))
    pairs = pairing(one)
    assert pairs[0] == (0, 2)
    assert sorted(a for a, _ in pairs) == [0, 1, 2, 3, 4]
    assert {b for _, b in pairs} == {0, 1, 2}
    assert pairing(one) == pairs
    assert pairing(sample(4, 4, paired=True)) == [(0, 0), (1, 1), (2, 2), (3, 3)]
