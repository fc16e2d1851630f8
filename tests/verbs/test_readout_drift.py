"""``readout drift`` is a paired difference, with intervals that hold what they say.

On trained models: test_readout_score.py, which has trained some.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import persona
from persona.errors import UsageError
from persona.readout.drift import NOTABLE, best_layers, in_words, shifts, t_quantile, t_within
from persona.readout.folder import write_readout
from persona.readout.model import Readout
from tests.readout.made import by_chance
from tests.readout.small import small_model

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 4, 2.776), (0.975, 9, 2.262), (0.975, 30, 2.042), (0.995, 5, 4.032),
     (0.9995, 7, 5.408), (0.975, 100_000, 1.960)],
)  # fmt: skip
def test_quantiles_are_those_of_the_tables(probability: float, freedom: int, value: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(value, abs=6e-4)
    assert t_within(t_quantile(probability, freedom), freedom) == pytest.approx(2 * probability - 1, abs=1e-9)


def test_shifts_by_hand() -> None:
    """a = 0, 2, 4 has the mean 2 and the deviation 2; b − a = 1, 2, 3, that is ½, 1, 3/2 of it: mean 1, deviation ½."""
    one = Readout(("warmth",), (3,), {3: np.eye(1, 4, dtype="f4")})
    a, b = (np.array(values, "f4").reshape(3, 1, 1) for values in ((0, 2, 4), (1, 4, 7)))
    (found,) = shifts(one, a, b)
    half = 4.3027 * 0.5 / math.sqrt(3)
    assert (found.concept, found.layer, found.before, found.after, found.std) == ("warmth", 3, 2, 4, 2)
    assert (found.shift, found.low, found.high) == pytest.approx((1, 1 - half, 1 + half), abs=1e-4)
    assert not found.moved  # the interval has 0 in it
    assert in_words([found], {}) == "The concept did not move by 0.2 standard deviations or more."
    (flat,) = shifts(one, np.zeros((3, 1, 1), "f4"), b)
    assert math.isnan(flat.shift)
    assert not flat.moved


def test_words_and_what_counts_as_moved() -> None:
    rng = np.random.default_rng(0)
    three = Readout(("warmth", "calm", "haste"), (1, 2), {layer: np.eye(3, dtype="f4") for layer in (1, 2)})
    a = rng.standard_normal((200, 3, 2)).astype("f4")
    b = a + 0.01 * rng.standard_normal(a.shape).astype("f4")
    b[:, 0, 1] += 1.5
    b[:, 2, 0] -= 0.5
    b[:, 1, 1] += NOTABLE / 3  # sure, and a trifle
    found = shifts(three, a, b)
    assert [(one.concept, one.layer) for one in found if one.moved] == [("warmth", 2), ("haste", 1)]
    said = in_words(found, {"calm": 2, "haste": 1})
    assert said.startswith("warmth rose by 1.")
    assert "standard deviations at layer 2 (" in said
    assert "haste fell by 0." in said
    assert "at layer 1, its best (" in said
    assert said.endswith("; the other 1 did not move by 0.2 or more.")
    said = in_words(found, {"warmth": 1, "calm": 1, "haste": 1})
    assert said.startswith("haste fell by 0.")
    assert "), warmth moved at layer 2, but not at its best, 1; the other 1" in said
    assert in_words(found[:2], {"warmth": 1}) == "warmth moved at layer 2, but not at its best, 1."


def test_best_layers_are_those_of_the_manifest() -> None:
    def best(said: object) -> dict[str, int]:
        vectors = {layer: np.eye(2, 4, dtype="f4") for layer in (3, 5)}
        return best_layers(Readout(("warmth", "calm"), (3, 5), vectors, {"best": said}))

    assert best([5, None]) == {"warmth": 5}
    assert best([3, 4]) == {"warmth": 3}  # layer 4 was left out of the readout
    assert best([3]) == best("35") == best(None) == {}


def test_intervals_hold_what_they_say() -> None:
    """Over 1,000 pairs of samples, the 95 % interval holds the true shift 95 times of 100, and nearly nothing 'moved'."""
    rng = np.random.default_rng(1)
    many = Readout(tuple(f"c{n}" for n in range(1000)), (0,), {0: np.eye(1000, dtype="f4")})
    a = rng.standard_normal((40, 1000, 1)).astype("f4")
    found = shifts(many, a, a + rng.standard_normal(a.shape).astype("f4"))
    assert 0.93 < np.mean([one.low < 0 < one.high for one in found]) < 0.97
    assert sum(one.moved for one in found) <= 1


TEXTS = ("w1 w2 w3", "w4 w5")


def test_a_model_has_not_moved_from_itself(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    write_readout(tmp_path / "mood", by_chance((0, 1), hidden=64))
    done = persona.readout_drift(None, model, model, TEXTS, tmp_path / "mood")
    assert (done.texts, done.concepts, done.layers) == (2, ("warmth", "coldness"), (0, 1))
    assert [(one.concept, one.layer, one.shift) for one in done.shifts] == [
        (concept, layer, 0.0) for concept in done.concepts for layer in done.layers
    ]
    assert "None of the 2 concepts moved" in done.said


def test_one_text_is_no_sample(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    write_readout(tmp_path / "mood", by_chance((0, 1), hidden=64))
    with pytest.raises(UsageError, match="at least two texts, got 1"):
        persona.readout_drift(None, model, model, TEXTS[:1], tmp_path / "mood")
