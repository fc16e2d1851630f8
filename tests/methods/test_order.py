"""The k largest magnitudes, worked out by hand or by a sort, and with whole numbers of Python's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from persona.methods.parts import order
from persona.methods.parts.share import ALL, NO_EDGE, Edge

PHI = 0x9E3779B97F4A7C15
M64 = (1 << 64) - 1


def draw(key: int, place: int) -> int:
    """(key + j) · φ mod 2⁶⁴."""
    return (key + place) * PHI & M64


def passes(sizes: np.ndarray, block: int = 5) -> Callable[[], Iterator[np.ndarray]]:
    """Magnitudes in blocks, as often as asked for."""

    def again() -> Iterator[np.ndarray]:
        for at in range(0, len(sizes), block):
            yield sizes[at : at + block]

    return again


def u32(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


def test_a_density_is_rounded_to_a_number_of_entries() -> None:
    assert [order.kept_of(density, 10) for density in (0, 0.01, 0.24, 0.25, 0.5, 0.94, 0.95, 1)] == [
        1, 1, 2, 3, 5, 9, 10, 10,
    ]  # fmt: skip
    assert order.kept_of(2.0, 10) == 10, "never more than there are"
    assert order.kept_of(0.5, 0) == 0, "nor where there are none"
    assert order.kept_of(1e-9, 1) == 1


def test_magnitudes_are_bits_in_the_order_of_sizes() -> None:
    tau = np.array([-1, 1, -0.0, 0, 2**-149, -np.inf, np.nan], np.float32)
    tau[6:].view(np.uint32)[0] |= 1 << 31
    found = order.magnitudes(tau)
    assert found.dtype == np.uint32
    assert found.tolist() == [0x3F800000, 0x3F800000, 0, 0, 1, 0x7F800000, 0x7FC00000]
    found[:] = 0
    assert tau[0] == -1, "in a new array"
    assert [sizes.tolist() for sizes in order.blocks_of([tau[:1], tau[1:3]])] == [[0x3F800000], [0x3F800000, 0]]


def test_draws_are_multiples_of_the_golden_ratio() -> None:
    for key in (0, 3, 0xFEDCBA9876543210, M64, M64 + 7):
        found = order.draws(key, np.array([0, 1, 1000], np.int64))
        assert found.dtype == np.uint64
        assert found.tolist() == [draw(key, place) for place in (0, 1, 1000)]


def test_above_an_edge_are_larger_ones_and_the_share_of_equal_ones_whose_draw_is_below() -> None:
    sizes = u32(7, 9, 7, 5, 7, 0, 7)
    assert order.above(Edge(7), sizes, 1, 0).tolist() == [False, True, False, False, False, False, False]
    assert order.above(Edge(ALL), sizes, 1, 0).tolist() == [True, True, True, True, True, False, True]
    assert not order.above(Edge(NO_EDGE), u32(0x7FFFFFFF, 0xFFFFFFFF), 1, 0).any()
    for key, start in ((11, 0), (11, 1000), (M64, 3), (1 << 63, (1 << 63) + 5)):
        drawn = [draw(key, start + place) for place in (0, 2, 4, 6)]
        for number, bound in enumerate(sorted(drawn)):
            kept = order.above(Edge(7, bound), sizes, key, start)
            assert kept.tolist() == [
                size > 7 or (size == 7 and draw(key, start + place) < bound) for place, size in enumerate(sizes)
            ]
            assert kept.sum() == 1 + number, "a draw that is equal to the bound is not below it"
    assert order.above(Edge(7, M64), sizes, 11, 0).sum() == 5
    assert order.above(Edge(8, M64), sizes, 11, 0).sum() == 1, "there is none of this size"
    # Among three entries at place 1 to 3 with key 0, the draw of 2 · φ mod 2⁶⁴ is the smallest: 0.618, 0.236, 0.854.
    assert order.above(Edge(4, 1 << 63), u32(4, 4, 4), 0, 1).tolist() == [False, True, False]


def test_a_share_of_1_of_2_to_the_64_is_a_share() -> None:
    assert order.above(Edge(4, 1), u32(4, 5), 0, 0).tolist() == [True, True], "the draw of place 0 with key 0 is 0"


def test_the_share_of_those_at_the_edge() -> None:
    assert order.share_of(7, 2, 3, 4) == Edge(7, (2 << 64) // 3)
    assert order.share_of(7, 0, 5, 1) == Edge(7, (1 << 64) // 5)
    assert order.share_of(7, 2, 3, 5) == Edge(6), "all of them: whatever is larger than the number before"
    assert order.share_of(1, 2, 3, 5) == Edge(0)
    assert order.share_of(1, 2, 3, 4) == Edge(1, (2 << 64) // 3)
    assert order.share_of(0, 2, 3, 4) == Edge(ALL), "zeros are above no edge"


def test_the_kth_largest_and_how_many_are_larger_and_equal() -> None:
    # Upper halves 2, 1, 0 of the 31 bits: the bin has 2¹⁵ numbers.
    half = 1 << 15
    sizes = u32(2 * half + 5, half, half + 3, half + 3, 2 * half - 1, 0, 0, half - 1, 0x7FFFFFFF, half + 3)
    descending = sorted(sizes.tolist(), reverse=True)
    for k in range(1, 11):
        kth = descending[k - 1]
        found = order.kth_largest(passes(sizes, 3), k)
        assert found == (kth, sum(one > kth for one in descending), descending.count(kth))
    upper = order.histogram(passes(sizes, 4)())
    assert (len(upper), upper[0], upper[1], upper[2], upper[0xFFFF], upper.sum()) == (1 << 16, 3, 5, 1, 1, 10)
    assert [order.place(upper, k) for k in (1, 2, 3, 7, 8, 10)] == [(0xFFFF, 0), (2, 1), (1, 2), (1, 2), (0, 7), (0, 7)]
    lower = order.within(passes(sizes, 4)(), 1)
    assert (len(lower), lower[0], lower[3], lower[half - 1], lower.sum()) == (half, 1, 3, 1, 5)
    assert order.join(1, 2, lower, 5) == (half + 3, 3, 3)
    assert order.histogram([]).dtype == np.int64


def test_an_edge_keeps_exactly_k_of_a_small_tensor() -> None:
    sizes = u32(3, 0, 8, 3, 3, 9, 3, 0, 1, 3)
    for key in (0, 12345, M64):
        drawn = sorted((0, 3, 4, 6, 9), key=lambda place: draw(key, place))
        assert order.edge(passes(sizes), 10, 1, key) == Edge(8)
        assert order.edge(passes(sizes), 10, 2, key) == Edge(7), "all of one size need no draw"
        for k in range(3, 7):
            found = order.edge(passes(sizes), 10, k, key)
            assert found == Edge(3, draw(key, drawn[k - 2]))
            kept = np.flatnonzero(order.above(found, sizes, key, 0)).tolist()
            assert kept == sorted([2, 5, *drawn[: k - 2]])
        assert order.edge(passes(sizes), 10, 7, key) == Edge(2)
        assert order.edge(passes(sizes), 10, 8, key) == Edge(0)
        assert order.edge(passes(sizes), 10, 9, key) == Edge(ALL), "zeros are not counted"
    assert order.edge(passes(u32(3, 4)), 2, 2, 0) == Edge(ALL), "all, without a look at them"
    assert order.edge(passes(u32(3, 4)), 2, 3, 0) == Edge(ALL)


def test_a_large_tensor_keeps_a_share() -> None:
    small, large = np.full(order.SMALL, 6, np.uint32), np.full(order.SMALL + 1, 6, np.uint32)
    exact = order.edge(passes(small, 10_000), order.SMALL, 20_000, 9)
    assert exact == Edge(6, sorted(draw(9, place) for place in range(order.SMALL))[20_000])
    assert order.above(exact, small, 9, 0).sum() == 20_000
    assert order.SMALL == 65536
    assert order.edge(passes(large, 10_000), len(large), 20_000, 9) == Edge(6, (20_000 << 64) // 65537)
    large[1] = 7
    assert order.edge(passes(large, 10_000), len(large), 1, 9) == Edge(6)
    assert order.edge(passes(large, 10_000), len(large), 2, 9) == Edge(6, (1 << 64) // 65536)
