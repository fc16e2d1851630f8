"""The family on a torch device gives the bits of the numpy one; the references' own parts, by hand-worked numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from persona.methods.parts import chance, family, family_torch, oracle, order
from persona.methods.parts.kinds import Family
from persona.methods.parts.share import ALL, Cut, Edge, Share
from persona.methods.parts.work import Piece, Work

DRAWN = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
"""SplitMix64 from seed 0: 0.883, 0.431, 0.026, 0.970 of 2⁶⁴."""
KEYS = (0xFEDCBA9876543210, 7, (1 << 63) + 1)


def by_numpy(
    kind: Family, taus: Sequence[np.ndarray], shares: Sequence[Share], normalize: str, columns: int
) -> np.ndarray:
    size = len(taus[0])
    work = Work(
        "w", (size // columns, columns), tuple(shares), {"normalize": normalize},
        lambda number: iter([taus[number].copy()]), lambda: iter(()),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        thinned = family.prepare(kind, work)
        return family.combine(kind, work, Piece(0, taus[0], [tau.copy() for tau in taus]), thinned)


def by_torch(
    kind: Family, taus: Sequence[np.ndarray], shares: Sequence[Share], normalize: str, columns: int
) -> np.ndarray:
    tensors = [torch.from_numpy(tau.copy()) for tau in taus]
    return family_torch.combine(kind, tensors, shares, {"normalize": normalize}, columns).numpy()


def assert_same(
    kind: Family, taus: Sequence[np.ndarray], shares: Sequence[Share], normalize: str, columns: int
) -> None:
    ours, theirs = (by(kind, taus, shares, normalize, columns) for by in (by_torch, by_numpy))
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)
    assert np.count_nonzero(ours) or not np.count_nonzero(taus)


def coarse(size: int, seed: int) -> list[np.ndarray]:
    """Three τ of few magnitudes, with zeros."""
    drawn = np.random.default_rng(seed).normal(size=(3, size))
    return list((drawn * 3).round().astype(np.float32) * np.float32(0.1))


def shares(**given: float | str) -> list[Share]:
    return [Share(alpha, key, given) for alpha, key in zip((0.7, -1.3, 2.0), KEYS, strict=True)]


SPARSIFIERS = ("nothing", "trim", "outliers", "random", "ranked")


def test_it_is_the_numpy_family_bit_for_bit() -> None:
    normalizers = itertools.cycle(["count", "weights", "none"])
    for sparsify, combine in itertools.product(SPARSIFIERS, ("sum", "elect")):
        rescales = ("density", "l1", "none") if sparsify in ("random", "ranked") else ("none",)
        for rescale, density, columns in itertools.product(rescales, (0.3, 0.5, 1.0), (1, 5, 60)):
            given = shares(density=density, epsilon=0.2 if density < 1 else 0.0, gamma=0.1, rescale=rescale)
            for normalize in (next(normalizers), next(normalizers)):
                assert_same(Family(sparsify, combine), coarse(60, columns), given, normalize, columns)


def test_so_it_is_for_one_vector_and_for_tiny_tensors() -> None:
    for sparsify, size in itertools.product(SPARSIFIERS, (1, 2, 7)):
        tau = np.arange(1, size + 1, dtype=np.float32)
        one = [Share(-0.5, 0, {"density": 0.9, "epsilon": 0.1, "gamma": 0.5, "rescale": "none"})]
        np.testing.assert_array_equal(
            by_torch(Family(sparsify, "elect"), [tau], one, "count", size),
            by_numpy(Family(sparsify, "elect"), [tau], one, "count", size),
        )


def test_outliers_go_in_whatever_number() -> None:
    for density, gamma in ((0.5, 0.0), (0.5, 0.016), (0.5, 0.02), (0.5, 0.25), (0.9, 0.5), (1.0, 0.3)):
        assert_same(Family("outliers", "sum"), coarse(60, 4), shares(density=density, gamma=gamma), "none", 60)


def test_large_tensors_keep_a_share_of_those_at_the_edge() -> None:
    for size in (order.SMALL, order.SMALL + 1):
        for sparsify in ("trim", "outliers"):
            given = shares(density=0.3, gamma=0.02)
            assert_same(Family(sparsify, "elect"), coarse(size, 1), given, "count", size)


def test_a_cut_that_was_found_across_the_whole_vector_is_used() -> None:
    three, five = (int(order.magnitudes(np.array([size], np.float32))[0]) for size in (3, 5))
    tau = np.array([1, -3, 3, 3, -3, 5, 6, 0], np.float32)
    for cut in (
        Cut(Edge(three)), Cut(Edge(three, 1 << 63)), Cut(Edge(three, 3 << 62), Edge(five)), Cut(Edge(ALL), Edge(three)),
        Cut(Edge(ALL), Edge(three, 1 << 62)),
    ):  # fmt: skip
        for key in KEYS:
            one = [Share(1.0, key, {"density": 0.125, "gamma": 0.0}, cut)]
            for sparsify in ("trim", "outliers"):
                found = by_torch(Family(sparsify, "sum"), [tau], one, "none", 8)
                kept = family.sparse(tau.copy(), one[0], family.Thinned(cut), 0, 8)
                np.testing.assert_array_equal(found, kept)
    # A draw that is equal to the bound is not below it: key 0 draws 0 · φ and 1 · φ.
    golden = 0x9E3779B97F4A7C15
    for bound, kept in ((golden, [3, 0]), (golden + 1, [3, 3]), (1, [3, 0])):
        one = [Share(1.0, 0, {}, Cut(Edge(three, bound)))]
        found = by_torch(Family("trim", "sum"), [np.array([3, 3], np.float32)], one, "none", 2)
        assert found.tolist() == kept


def test_distinct_sizes_of_a_large_tensor() -> None:
    tau = np.random.default_rng(0).permutation(order.SMALL + 1).astype(np.float32)
    one = [Share(1.0, 7, {"density": 0.3, "gamma": 0.02})]
    for sparsify in ("trim", "outliers"):
        assert_same(Family(sparsify, "sum"), [tau], one, "none", len(tau))


def test_a_draw_that_is_equal_to_its_chance_is_not_kept() -> None:
    just = (DRAWN[1] >> 11) / (1 << 53)
    rows = torch.ones(4, 1)
    for density, kept in ((just, [0, 0, 1, 0]), (float(np.nextafter(just, 1)), [0, 1, 1, 0])):
        one = Share(1.0, 0, {"density": density, "epsilon": 0.1, "rescale": "none"})
        assert by_torch(Family("ranked", "sum"), [np.ones(4, np.float32)], [one], "none", 1).tolist() == kept
        assert oracle.drop_by_rank(rows, one).flatten().tolist() == kept
    # The first draw of key 0 that a float can be equal to, to its last bit.
    drawn = chance.bits(0, 0, 20_000)
    place = int(np.flatnonzero(drawn & np.uint64(2047) == 0)[0])
    just = int(drawn[place]) / 2.0**64
    for density, kept in ((just, 0), (float(np.nextafter(just, 1)), 1)):
        one = Share(1.0, 0, {"density": density, "rescale": "none"})
        found = by_torch(Family("random", "sum"), [np.ones(place + 1, np.float32)], [one], "none", 1)
        assert found[place] == kept
        assert oracle.keep_at_random(torch.ones(place + 1), one)[place] == kept


def test_nan_and_balance_are_as_they_are_in_numpy() -> None:
    taus = [np.array(tau, np.float32) for tau in ([np.nan, 1, -1, 0, 2], [-1, -1, 1, 0, -3], [2, 0, 0, 0, 0])]
    given = [Share(1.0, key, {}) for key in KEYS]
    for normalize, last in (("count", -3), ("weights", -3), ("none", -3)):
        found = by_torch(Family("nothing", "elect"), taus, given, normalize, 5)
        assert np.isnan(found[0])
        assert found[1:].tolist() == [0, 0, 0, last]


def test_nothing_is_divided_where_nothing_is_kept() -> None:
    tau = np.array([1, 2, 3, 4], np.float32)
    for kind in ("random", "ranked"):
        given = {"density": 0.01, "epsilon": 0.0, "rescale": "l1"}
        found = by_torch(Family(kind, "sum"), [tau], [Share(1.0, 0, given)], "none", 4)
        assert found.tolist() == [0, 0, 0, 0]
    # Less than 1 of it is left: 0.5 of 1.25.
    small = np.array([0, 0.25, -0.25, 0.75], np.float32)
    given = {"density": 0.5, "rescale": "l1"}
    found = by_torch(Family("random", "sum"), [small], [Share(1.0, 0, given)], "none", 4)
    assert found.tolist() == [0, 0.625, -0.625, 0]


def test_as_many_of_each_are_expected() -> None:
    tau = torch.ones(1)
    with pytest.raises(ValueError, match="zip"):
        family_torch.combine(Family("nothing", "sum"), [tau], [Share(1.0), Share(1.0)], {}, 1)
    with pytest.raises(ValueError, match="zip"):
        oracle.elect([tau], [1.0, 1.0])
    with pytest.raises(ValueError, match="zip"):
        oracle.elect([tau], [1.0], [tau, tau])


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_the_references_draws() -> None:
    golden, m64 = 0x9E3779B97F4A7C15, (1 << 64) - 1
    assert [oracle.draw(2, place) for place in (0, 1, 5)] == [count * golden & m64 for count in (2, 3, 7)]
    assert oracle.random_bits(0, 4) == DRAWN
    assert oracle.random_bits(golden, 3) == DRAWN[1:]
    found = oracle.uniform(tensor(1, 2, 3, 4).reshape(2, 2), Share(1.0))
    assert found.dtype == torch.float64
    assert found.tolist() == [[(one >> 11) / (1 << 53) for one in row] for row in (DRAWN[:2], DRAWN[2:])]
    many = oracle.uniform(torch.ones(5000), Share(1.0, 3))  # small ones among them, which a float could tell finer
    assert float(many.min()) < 2**-11
    assert many.tolist() == chance.uniform(3, 0, 5000).tolist()
    half = oracle.keep_at_random(tensor(1, 2, 3, 4).reshape(2, 2), Share(1.0, 0, {"density": 0.5}))
    assert half.tolist() == [[False, True], [True, False]]


def test_the_references_largest() -> None:
    tau = tensor(-2, 5, 2, 0, -2, 2).reshape(2, 3)
    # Of the four that are 2, at 0, 2, 4 and 5; key 1 draws 0.618, 0.854, 0.090 and 0.708 there.
    assert oracle.largest(tau, 6, 1).tolist() == [[True] * 3] * 2
    assert oracle.largest(tau, 7, 1).tolist() == [[True] * 3] * 2
    places = {1: [1], 2: [1, 4], 3: [0, 1, 4], 4: [0, 1, 4, 5], 5: [0, 1, 2, 4, 5]}
    for k, wanted in places.items():
        assert torch.nonzero(oracle.largest(tau, k, 1).flatten()).flatten().tolist() == wanted
    for size in (1 << 16, (1 << 16) + 1):
        many = torch.ones(size)
        kept = oracle.largest(many, size // 3, 5)
        edge = order.edge(lambda size=size: iter([np.ones(size, np.float32).view(np.uint32)]), size, size // 3, 5)
        sizes = np.ones(size, np.float32).view(np.uint32)
        np.testing.assert_array_equal(kept.numpy(), order.above(edge, sizes, 5, 0))


def test_the_references_cuts() -> None:
    assert [oracle.wanted(density, 10) for density in (0, 0.24, 0.25, 0.94, 1, 2)] == [1, 2, 3, 9, 10, 10]
    tau = tensor(6, -5, 4, 1, -2, 3)
    assert oracle.trim(tau, Share(1.0, 0, {"density": 0.5})).tolist() == [6, -5, 4, 0, 0, 0]
    for gamma, kept in ((0.1, [6, -5, 4, 0, 0, 0]), (0.2, [0, -5, 4, 0, 0, 3]), (0.9, [0, 0, 0, 1, -2, 3])):
        assert oracle.mask_ends(tau, Share(1.0, 0, {"density": 0.5, "gamma": gamma})).tolist() == kept


def test_the_references_rescaling() -> None:
    tau, mask = tensor(1, 2, -2, 11), torch.tensor([False, True, True, False])
    by = {how: Share(1.0, 0, {"rescale": how}) for how in ("density", "l1", "none")}
    assert oracle.rescaled(tau, mask, 0.5, by["density"]).tolist() == [0, 4, -4, 0]
    assert oracle.rescaled(tau, mask, torch.tensor([1, 0.5, 0.25, 1]).double(), by["density"]).tolist() == [0, 4, -8, 0]
    found = oracle.rescaled(tau, mask, 0.1, by["density"])
    assert found.dtype == torch.float32
    assert found[1] == np.float32(2) / np.float32(0.1)
    tenths = oracle.rescaled(tau, mask, torch.full((4,), 0.1, dtype=torch.float64), by["density"])
    assert tenths.dtype == torch.float32
    assert tenths.tolist() == found.tolist()
    assert oracle.rescaled(tau, mask, 0.5, by["l1"]).tolist() == [0, 8, -8, 0]
    small = oracle.rescaled(tau / 16, mask, 0.5, by["l1"])
    assert small.tolist() == [0, 0.5, -0.5, 0]
    assert oracle.rescaled(tau, mask, 0.5, by["none"]).tolist() == [0, 2, -2, 0]
    assert oracle.rescaled(tau, ~mask & mask, 0.5, by["l1"]).tolist() == [0, 0, 0, 0]


def test_the_references_drop_by_rank() -> None:
    given = {"density": 0.5, "epsilon": 0.4, "rescale": "none"}
    share = Share(1.0, 0, given)
    # Rows of two: chances 0.9, 0.1, 0.1, 0.9 against 0.883, 0.431, 0.026, 0.970.
    assert oracle.drop_by_rank(tensor(2, 1, -1, 4).reshape(2, 2), share).tolist() == [[2, 0], [-1, 0]]
    # One row: ranks 2, 0, 1, 3 have 0.633, 0.1, 0.367 and 0.9.
    assert oracle.drop_by_rank(tensor(2, 1, -1, 4), share).tolist() == [0, 0, -1, 0]
    # Rows of one: 0.5 for each.
    assert oracle.drop_by_rank(tensor(2, 1, -1, 4).reshape(4, 1), share).tolist() == [[0], [1], [-1], [0]]
    assert oracle.drop_by_rank(tensor(1, 2, 3, 4), Share(1.0, 0, {**given, "density": 1})).tolist() == [1, 2, 3, 4]
    # 0.9 and 0.1 of the rank, rounded to fp32, are what is divided by.
    divided = oracle.drop_by_rank(tensor(2, 1, -1, 4).reshape(2, 2), Share(1.0, 0, {**given, "rescale": "density"}))
    assert divided[0, 0] == np.float32(2) / np.float32(0.9)
    assert divided[1, 0] == np.float32(-1) / np.float32(0.1)


def test_the_references_election() -> None:
    given = [Share(-2.0), Share(0.5)]
    assert [oracle.weights(given, {"normalize": how}) for how in ("count", "weights", "none")] == [
        [1, 1], [2, 0.5], [0, 0],
    ]  # fmt: skip
    assert oracle.total([tensor(1, 2), tensor(10, 20), tensor(3, 4)]).tolist() == [14, 26]
    values = [tensor(6, -5, 4, 0, 0, 1), tensor(0, 5, 6, -4, 0, -3), tensor(-4, 3, 0, -5, 0, 1)]
    assert oracle.elect(values, [1.0, 1.0, 1.0]).tolist() == [6, 4, 5, -4.5, 0, -3]
    assert oracle.elect(values, [0.0, 0.0, 0.0]).tolist() == [6, 8, 10, -9, 0, -3]
    assert oracle.elect(values, [2.0, 1.0, 3.0]).tolist() == [3, 2, float(np.float32(10) / np.float32(3)), -2.25, 0, -3]
    parts = [tensor(10, 20, 50), tensor(30, -40, 7)]
    assert oracle.elect([tensor(3, 1, 4), tensor(2, -2, -1)], [1.0, 1.0], parts).tolist() == [20, -40, 50]
    assert oracle.elect([tensor(0.5, 0.25), tensor(-0.5, 0.25)], [1.0, 1.0]).tolist() == [0, 0.25]
