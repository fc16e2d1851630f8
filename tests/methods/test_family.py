"""The family's steps on a few entries, worked by hand: what is kept, by what it is divided, which sign is elected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from persona.methods.parts import family
from persona.methods.parts.family import Thinned
from persona.methods.parts.kinds import Family
from persona.methods.parts.order import magnitudes
from persona.methods.parts.share import ALL, Cut, Edge, Share
from persona.methods.parts.work import Piece, Work

DRAWN = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
"""SplitMix64 from seed 0: 0.883, 0.431, 0.026, 0.970 of 2⁶⁴."""


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def size(value: float) -> int:
    """Bits of a magnitude."""
    return int(magnitudes(f32(value))[0])


def of(
    *taus: np.ndarray, shares: Sequence[Share], parameters: Mapping | None = None, shape: tuple = (), block: int = 2
):
    """A tensor in blocks."""

    def tau(number: int) -> Iterator[np.ndarray]:
        for at in range(0, taus[number].size, block):
            yield taus[number][at : at + block].copy()

    return Work("w", shape or taus[0].shape, tuple(shares), parameters or {}, tau, lambda: iter(()))


def share(alpha: float = 1.0, key: int = 0, cut: Cut | None = None, **parameters: float | str) -> Share:
    return Share(alpha, key, parameters, cut)


def test_a_cut_keeps_what_lies_between_its_edges() -> None:
    tau = [1, -2, 3, -4, 5, 0]
    low, high = Edge(size(2)), Edge(size(4))
    assert family.sparse(f32(*tau), share(), Thinned(Cut(low)), 0, 6).tolist() == [0, 0, 3, -4, 5, 0]
    assert family.sparse(f32(*tau), share(), Thinned(Cut(low, high)), 0, 6).tolist() == [0, 0, 3, -4, 0, 0]
    # With key 1, the draws of places 0 to 3 are 0.618, 0.236, 0.854, 0.472 of 2⁶⁴; half of those that are equal stay.
    half = Edge(size(2), 1 << 63)
    equal = (2, -2, 2, -2)
    assert family.sparse(f32(*equal), share(key=1), Thinned(Cut(half)), 0, 4).tolist() == [0, -2, 0, -2]
    assert family.sparse(f32(*equal), share(key=0), Thinned(Cut(half)), 1, 4).tolist() == [0, -2, 0, -2]
    assert family.sparse(f32(*equal), share(key=1), Thinned(Cut(Edge(ALL), half)), 0, 4).tolist() == [2, 0, 2, 0]
    assert family.sparse(f32(*equal), share(key=0), Thinned(Cut(Edge(ALL), half)), 1, 4).tolist() == [2, 0, 2, 0]


def test_nothing_is_thinned_unless_it_is_said() -> None:
    assert Thinned() == Thinned(None, 1.0, False, 1.0)
    assert family.sparse(f32(1, -2), share(), Thinned(), 0, 2).tolist() == [1, -2]


def test_some_are_kept_at_random_and_divided() -> None:
    assert family.sparse(f32(1, 2, 3, 4), share(), Thinned(keep=0.5), 0, 4).tolist() == [0, 2, 3, 0]
    assert family.sparse(f32(2, 3, 4), share(), Thinned(keep=0.5, divide=0.25), 1, 3).tolist() == [8, 12, 0]
    assert family.sparse(f32(2, 3, 4), share(key=5), Thinned(keep=1.0, divide=0.5), 1, 3).tolist() == [4, 6, 8]
    # What is kept by a cut and by chance: the first for its size, the last for its draw are not.
    both = Thinned(Cut(Edge(size(1))), 0.5, divide=2.0)
    assert family.sparse(f32(1, 2, 3), share(), both, 1, 3).tolist() == [0, 1, 0]


def test_some_are_kept_by_their_rank_in_a_row() -> None:
    ranked = Thinned(ranked=True, divide=None)
    given = {"density": 0.5, "epsilon": 0.4}
    # Chances 0.9, 0.1 in the first row and 0.1, 0.9 in the second, against 0.883, 0.431, 0.026, 0.970.
    found = family.sparse(f32(2, 1, 1, 2), share(**given), ranked, 0, 2)
    assert found.tolist() == [float(f32(2)[0] / f32(0.9)[0]), 0, float(f32(1)[0] / np.float32(0.1)), 0]
    assert found.dtype == np.float32
    many = np.array([[2 + place / 64, 1] for place in range(64)], np.float32).reshape(-1)
    kept = family.sparse(many.copy(), share(**given), ranked, 0, 2)[::2]
    assert np.array_equal(kept[kept != 0], (many[::2] / np.float32(0.9))[kept != 0]), "by what is rounded to fp32"
    divided = Thinned(ranked=True, divide=0.5)
    assert family.sparse(f32(2, 1, 1, 2), share(**given), divided, 0, 2).tolist() == [4, 0, 2, 0]
    assert family.sparse(f32(1, 1, 2), share(**given), divided, 1, 3).tolist() == [0, 2, 0], "0.1, 0.5 and 0.9"
    same = Thinned(ranked=True, divide=1.0)
    assert family.sparse(f32(1, 1, 2), share(**given), same, 1, 3).tolist() == [0, 1, 0]
    # Rows of one entry have the density as their chance; a draw that is equal to it is not kept.
    just = (DRAWN[1] >> 11) / (1 << 53)
    for density, kept in ((just, [0, 0, 3, 0]), (np.nextafter(just, 1), [0, 2, 3, 0])):
        assert family.sparse(f32(1, 2, 3, 4), share(density=density, epsilon=0.1), same, 0, 1).tolist() == kept


def test_vectors_are_added_in_order() -> None:
    assert family.total([f32(1, 2)]).tolist() == [1, 2]
    assert family.total([f32(1, 2), f32(10, 20), f32(100, 200)]).tolist() == [111, 222]
    one, tiny = f32(1), f32(2**-24)
    assert family.total([one.copy(), tiny, tiny]).tolist() == [1], "each sum is rounded"
    assert family.total([tiny.copy(), tiny, one]).tolist() == [1 + 2**-23]


def test_weights_in_the_mean() -> None:
    assert [family.weight(share(-2.5), how) for how in ("count", "weights", "none")] == [1.0, 2.5, 0.0]


def elected(values: list[np.ndarray], weights: list[float], parts: list[np.ndarray] | None = None) -> list[float]:
    found = family.elect(values, values if parts is None else parts, weights)
    assert found.dtype == np.float32
    return [float(one) for one in found]


def test_the_sign_with_more_mass_is_elected() -> None:
    v1, v2, v3 = f32(6, -5, 4, 0, 0, 1), f32(0, 5, 6, -4, 0, -3), f32(-4, 3, 0, -5, 0, 1)
    # P + N = [6 - 4, 8 - 5, 10, -9, 0, 2 - 3]
    assert elected([v1, v2, v3], [1, 1, 1]) == [6, 4, 5, -4.5, 0, -3]
    assert elected([v1, v2, v3], [0, 0, 0]) == [6, 8, 10, -9, 0, -3]
    assert elected([v1, v2, v3], [2, 1, 3]) == [3, 2, float(np.float32(10) / np.float32(3)), -9 / 4, 0, -3]
    assert elected([v1, v2, v3], [0, 0, 2])[1:4] == [4, np.inf, -4.5], "what has weight 0 adds up and does not count"
    assert elected([f32(2, -3)], [1]) == [2, -3]
    assert elected([f32(0.5, -0.5), f32(-0.25, 0.25)], [1, 1]) == [0.5, -0.5], "and be it a little"


def test_who_is_as_strong_as_the_others_is_not_elected() -> None:
    assert elected([f32(1, -2, 0), f32(-1, 2, -0.0)], [1, 1]) == [0, 0, 0]
    assert elected([f32(1), f32(-1)], [0, 0]) == [0]


def test_a_nan_gets_into_the_result() -> None:
    for values in ([f32(np.nan), f32(-9)], [f32(-9), f32(np.nan)]):
        assert np.isnan(elected(values, [1, 1])[0])


def test_other_values_may_elect_than_are_added_up() -> None:
    # The signs are + - +; the parts of those who have it are [10, 30], [-2 · 20] and [50].
    votes, parts = [f32(3, 1, 4), f32(2, -2, -1)], [f32(10, 20, 50), f32(30, -40, 7)]
    assert elected(votes, [1, 1], parts) == [20, -40, 50]
    assert elected(votes, [0, 0], parts) == [40, -40, 50]
    assert elected([f32(1), f32(-1)], [1, 1], [f32(5), f32(7)]) == [0]


def test_a_block_is_combined() -> None:
    shares = [share(2.0, density=0.5), share(-0.5, density=0.5)]
    work = of(f32(1, 2), f32(4, 8), shares=shares, parameters={"normalize": "weights"})
    plain = [Thinned(), Thinned(Cut(Edge(size(4))))]

    def piece() -> Piece:
        return Piece(0, f32(0, 0), [f32(1, 2), f32(4, 8)])

    assert family.combine(Family("nothing", "sum"), work, piece(), plain).tolist() == [2, 0]
    assert family.combine(Family("nothing", "elect"), work, piece(), plain).tolist() == [1, 0]
    one = of(f32(1, 2), f32(4, 8), shares=shares, parameters={"normalize": "count"})
    assert family.combine(Family("nothing", "elect"), one, piece(), plain).tolist() == [2, 0]
    # The third and fourth of a tensor: 0.026 is below ½, 0.970 is not.
    later = Piece(2, f32(0, 0), [f32(1, 2), f32(4, 8)])
    assert family.combine(Family("random", "sum"), work, later, [Thinned(keep=0.5)] * 2).tolist() == [0, 0]
    later = Piece(2, f32(0, 0), [f32(1, 2), f32(2, 8)])
    assert family.combine(Family("random", "sum"), work, later, [Thinned(keep=0.5)] * 2).tolist() == [1, 0]
    rows = of(f32(1, 2, 2, 1), shares=[share(density=0.5, epsilon=0.4)], shape=(2, 2))
    ranked = [Thinned(ranked=True)]
    piece_of_rows = Piece(0, f32(0, 0, 0, 0), [f32(2, 1, 1, 2)])
    assert family.combine(Family("ranked", "sum"), rows, piece_of_rows, ranked).tolist() == [2, 0, 1, 0]


def test_as_many_of_each_are_expected() -> None:
    work = of(f32(1), f32(2), shares=[share(), share()], parameters={"normalize": "count"})
    for deltas, how in (([f32(1)], [Thinned()] * 2), ([f32(1), f32(2)], [Thinned()])):
        with pytest.raises(ValueError, match="zip"):
            family.combine(Family("nothing", "sum"), work, Piece(0, f32(0), deltas), how)
    with pytest.raises(ValueError, match="zip"):
        family.elect([f32(1)], [f32(1)], [1, 1])


TAU = f32(6, -5, 4, 1, -2, 3)


def prepared(kind: str, one: Share, tau: np.ndarray = TAU, shape: tuple = ()) -> Thinned:
    """What is found out about one vector, beside another."""
    work = of(tau[::-1], tau, shares=[share(density=1.0, gamma=0.0, epsilon=0.0, rescale="none"), one], shape=shape)
    return family.prepare(Family(kind, "sum"), work)[1]


def test_what_a_trim_needs_to_know() -> None:
    given = Cut(Edge(5), Edge(6, 7))
    assert prepared("nothing", share(density=0.5)) == Thinned()
    assert prepared("trim", share(density=0.5)) == Thinned(Cut(Edge(size(4) - 1)))
    assert prepared("trim", share(density=0.5, cut=given)) == Thinned(given), "what was found across the whole vector"
    assert prepared("trim", share(density=1.0, cut=given)) == Thinned(given)
    assert prepared("trim", share(density=1)) == Thinned()
    assert prepared("trim", share(density=0.99)) == Thinned(Cut(Edge(ALL)))
    ones = f32(1, 1, 1, 1)
    keys = (1, 2)
    # Of the draws 0.618, 0.236, 0.854, 0.472 (key 1) the two smallest are below the third, 0.618.
    # Key 2 has 0.236, 0.854, 0.472, 0.090, and the third is 0.472.
    bounds = [0x9E3779B97F4A7C15 * place % (1 << 64) for place in (1, 4)]
    for key, bound in zip(keys, bounds, strict=True):
        assert prepared("trim", share(key=key, density=0.5), ones) == Thinned(Cut(Edge(size(1), bound)))


def test_what_dropping_outliers_needs_to_know() -> None:
    # Six entries: the two largest go, the next three stay.
    assert prepared("outliers", share(density=0.5, gamma=0.35)) == Thinned(Cut(Edge(size(2) - 1), Edge(size(5) - 1)))
    assert prepared("outliers", share(density=0.5, gamma=0.2)) == Thinned(Cut(Edge(size(3) - 1), Edge(size(6) - 1)))
    assert prepared("outliers", share(density=0.5, gamma=0.1)) == Thinned(Cut(Edge(size(4) - 1))), "less than one"
    # There are six: five stay, so that one at most may go.
    assert prepared("outliers", share(density=0.8, gamma=0.9)) == Thinned(Cut(Edge(ALL), Edge(size(6) - 1)))
    assert prepared("outliers", share(density=1.0, gamma=0.9)) == Thinned(Cut(Edge(ALL)))


def test_what_dropping_at_random_needs_to_know() -> None:
    tau = f32(1, 2, -2, 11)  # the second and the third stay: 4 of 16
    for rescale, divide in (("density", 0.5), ("none", 1.0), ("l1", 0.25)):
        assert prepared("random", share(density=0.5, rescale=rescale), tau) == Thinned(keep=0.5, divide=divide)
        assert prepared("random", share(density=1.0, rescale=rescale), tau) == Thinned()
    tau = f32(0, 0.25, -0.25, 0.75)  # less than 1 in all, and less than 1 of it is left
    assert prepared("random", share(density=0.5, rescale="l1"), tau) == Thinned(keep=0.5, divide=0.5 / 1.25)
    assert prepared("random", share(density=0.01, rescale="l1"), tau) == Thinned(keep=0.01, divide=1.0), "nothing left"
    # 0.106, 0.327, 0.174 and 0.772 come next: of 32, 1 + 2 + 4 + 4 + 8 are left, in blocks of two as in one.
    tau = f32(3, 1, 2, 2, 4, 4, 8, 8)
    assert prepared("random", share(density=0.5, rescale="l1"), tau) == Thinned(keep=0.5, divide=19 / 32)
    tau = f32(np.nan, 1, 2, 3)
    assert prepared("random", share(density=0.01, rescale="l1"), tau) == Thinned(keep=0.01, divide=1.0)


def test_what_dropping_by_rank_needs_to_know() -> None:
    given = {"density": 0.5, "epsilon": 0.4}
    tau = f32(2, 1, -1, 4)  # rows of two: 0.9, 0.1, 0.1, 0.9 against 0.883, 0.431, 0.026, 0.970; 2 and -1 stay
    for rescale, divide in (("density", None), ("none", 1.0), ("l1", 3 / 8)):
        found = prepared("ranked", share(rescale=rescale, **given), tau, (2, 2))
        assert found == Thinned(ranked=True, divide=divide)
        assert prepared("ranked", share(rescale=rescale, density=1, epsilon=0), tau, (2, 2)) == Thinned()
