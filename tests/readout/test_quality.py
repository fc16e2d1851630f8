"""AUC, its interval, clusters and verdicts, by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.readout.quality import LayerQuality, auc, clusters, cosines, interval, remark, verdict

few = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(few, few)
def test_auc_is_the_share_of_pairs_in_order(positive: list[int], negative: list[int]) -> None:
    ours, theirs = np.array(positive, float), np.array(negative, float)
    won = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert auc(ours, theirs) == pytest.approx(np.mean(won))
    assert auc(theirs, ours) == pytest.approx(1 - np.mean(won))
    assert auc(ours * 7 + 2, theirs * 7 + 2) == auc(ours, theirs)


@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_the_interval_holds_the_auc_and_stays_within_bounds(value: float, positive: int, negative: int) -> None:
    low, high = interval(value, positive, negative)
    assert 0 <= low <= value <= high <= 1
    assert interval(1 - value, negative, positive) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_the_interval_of_one_text_a_side_is_wilsons() -> None:
    # V(θ) = θ(1 − θ) for m = n = 1: (1 − θ)² = z²θ(1 − θ), so θ = 1/(1 + z²)
    assert interval(1.0, 1, 1) == pytest.approx((1 / (1 + 1.959964**2), 1.0), abs=1e-5)


def test_the_interval_covers_what_it_should() -> None:
    """Two normals a standard deviation apart have an AUC of Φ(1/√2) = 0.7602; 95 % of intervals should hold it."""
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        low, high = interval(auc(chance.standard_normal(20) + 1, chance.standard_normal(15)), 20, 15)
        held += low <= 0.7602 <= high
    assert 930 <= held <= 975


def test_concepts_that_point_the_same_way_are_listed_together() -> None:
    rows = np.array([[1, 0, 0], [0.8, 0.6, 0], [-1, 0, 0], [0, 0, 1], [0.0, 1, 0]], np.float32)
    found = clusters(["joy", "warmth", "cold", "fear", "calm"], cosines({3: rows, 4: rows}))
    # joy and warmth 0.8, joy and cold −1, cold and warmth −0.8; warmth and calm 0.6 is too little
    assert [(one.concepts, round(one.cosine, 2)) for one in found] == [(("joy", "warmth", "cold"), -1.0)]


def test_clusters_are_tied_by_way_of_others() -> None:
    angles = np.radians([0, 40, 80, 170])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    (found,) = clusters(["a", "b", "c", "d"], cosines({0: rows}))
    assert found.concepts == ("a", "b", "c", "d")  # a–b, b–c by cos 40° = 0.77, a–d by cos 170° = −0.98


def quality(value: float, low: float, control_high: float, higher: bool = True, control: float = 0.5) -> LayerQuality:
    return LayerQuality(3, 1.0, value, low, 0.99, control, control_high, higher)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (quality(0.95, 0.8, 0.7), None),
        (quality(1.0, 0.8, 1.0), None),
        (quality(0.65, 0.55, 0.6), "barely separates positives from negatives"),
        (quality(0.8, 0.45, 0.6), "may be chance"),
        (quality(0.9, 0.8, 0.92), "random directions do as well"),
        (quality(0.3, 0.1, 0.6, higher=False), "project no higher"),
        (None, "too few texts"),
        (LayerQuality(3, 1.0, None, None, None, None, None, True), "too few texts"),
    ],
)
def test_what_is_not_worth_using_is_said(found: LayerQuality | None, words: str | None) -> None:
    said = verdict(found, 8, 9)
    assert said is None if words is None else words in (said or "")


def test_sides_that_any_direction_tells_apart_are_remarked_on() -> None:
    assert remark(quality(0.99, 0.9, 0.98, control=0.6)) is None
    assert "any direction" in (remark(quality(0.99, 0.9, 0.98, control=0.95)) or "")
