"""Ratios, their intervals, and differences of pairs."""

from __future__ import annotations

import math
import random

import pytest

from persona.evaluate.statistics import RESAMPLES, difference, ratio
from persona.history.evaluations import Figure


def figure(totals: list[float], counts: list[float], name: str = "loss") -> Figure:
    value = sum(totals) / sum(counts)
    return Figure("loss", name, "lower", "nats", value, None, None, tuple(totals), tuple(counts))


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    assert ratio([2.0, 9.0], [1.0, 3.0]).value == 11 / 4  # the mean of 2 and 3 would be 2.5


def test_an_interval_of_equal_examples_is_a_point() -> None:
    found = ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (found.low, found.high) == (2.0, 2.0)


def test_there_is_none_of_one_example_or_of_what_is_no_number() -> None:
    assert (ratio([2.0], [1.0]).low, ratio([2.0], [1.0]).high) == (None, None)
    found = ratio([2.0, float("nan")], [1.0, 1.0])
    assert (found.low, found.high) == (None, None)


def test_what_has_no_exact_sum_is_what_floats_make_of_it() -> None:
    infinite = float("inf")
    assert math.isnan(ratio([infinite, -infinite], [1.0, 1.0]).value)
    assert ratio([1e308, 1e308], [1.0, 1.0]).value == infinite
    assert ratio([1.0, -infinite], [1.0, 1.0]).value == -infinite


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    chance, hits = random.Random(0), 0
    for trial in range(200):
        values = [chance.gauss(3, 1) for _ in range(40)]
        found = ratio(values, [1.0] * 40, seed=trial)
        hits += found.low < 3 < found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_it_is_the_same_for_the_same_seed_and_other_for_another() -> None:
    values = [random.Random(n).random() for n in range(30)]
    assert ratio(values, [1.0] * 30, 1) == ratio(values, [1.0] * 30, 1)
    assert ratio(values, [1.0] * 30, 1) != ratio(values, [1.0] * 30, 2)


def test_pairs_see_a_difference_that_intervals_of_their_own_hide() -> None:
    chance = random.Random(3)
    before = [chance.gauss(5, 2) for _ in range(50)]
    after = [value + 0.1 + chance.gauss(0, 0.05) for value in before]
    ones = [1.0] * 50
    alone = [ratio(values, ones) for values in (before, after)]
    assert alone[0].high > alone[1].low
    found = difference(figure(after, ones), figure(before, ones))
    assert found is not None
    assert found.value == pytest.approx(0.1, abs=0.03)
    assert found.low > 0
    assert found.excludes_zero
    assert not difference(figure(before, ones), figure(before, ones)).excludes_zero


def test_what_is_not_of_the_same_examples_is_no_pair() -> None:
    assert difference(figure([1.0, 2.0], [1.0, 1.0]), figure([1.0], [1.0])) is None
    assert difference(figure([1.0], [1.0]), figure([1.0], [1.0], "kl")) is None


def test_many_examples_are_drawn_a_few_at_a_time() -> None:
    many = [float(n % 7) for n in range(5000)]
    found = ratio(many, [1.0] * 5000)
    assert RESAMPLES * 5000 > 1 << 20
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("passed", "number", "low", "high"),
    [(15, 148, 0.0624, 0.1605), (81, 263, 0.2553, 0.3662), (1, 29, 0.0061, 0.1718), (0, 20, 0, 0.1611)],
)
def test_a_share_has_wilsons_interval_as_newcombe_printed_it(passed: int, number: int, low: float, high: float) -> None:
    found = ratio([1.0] * passed + [0.0] * (number - passed), [1.0] * number)
    assert found.low is not None
    assert found.high is not None
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_four_of_four_is_no_certainty() -> None:
    found = ratio([1.0] * 4, [1.0] * 4)
    assert (found.low, found.high) == (pytest.approx(4 / (4 + 1.959964**2)), 1.0)  # Wilson at p = 1: n / (n + z²)


def outcomes(both: int, new: int, old: int, neither: int) -> tuple[Figure, Figure]:
    after = [1.0] * both + [1.0] * new + [0.0] * old + [0.0] * neither
    before = [1.0] * both + [0.0] * new + [1.0] * old + [0.0] * neither
    return figure(after, [1.0] * len(after)), figure(before, [1.0] * len(before))


def test_two_shares_of_the_same_examples_differ_as_newcombe_printed_it() -> None:
    found = difference(*outcomes(36, 12, 2, 0))
    assert found is not None
    assert (round(found.low or 0, 4), round(found.high or 0, 4)) == (0.0569, 0.3404)
    same = difference(*outcomes(4, 0, 0, 0))
    assert same is not None
    assert same.low == -(same.high or 0)
    assert not same.excludes_zero
    turned = difference(*outcomes(0, 4, 0, 0))
    assert turned is not None
    assert turned.excludes_zero
