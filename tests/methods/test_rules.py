"""How a method is run, whichever way its module declares it: by family, coefficients, matrices, or a rule of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from persona.errors import Refusal
from persona.methods.parts import rules, spectrum
from persona.methods.parts.family import Thinned
from persona.methods.parts.kinds import Coefficients, Family
from persona.methods.parts.share import Cut, Edge, Share
from persona.methods.parts.work import Piece, Work

SHARES = (Share(2.0, 0, {"density": 0.5}), Share(-1.0, 0, {"density": 0.5}))


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


BASE, TAUS = f32(1, 1, 1, 1), (f32(1, 2, 3, 4), f32(8, 6, 4, 2))


def work(shape: tuple[int, ...] = (4,), taus: Sequence[np.ndarray] = TAUS, shares: tuple[Share, ...] = SHARES) -> Work:
    def piece() -> Iterator[Piece]:
        yield Piece(0, BASE.copy(), [tau.copy() for tau in taus])

    return Work("w", shape, shares, {"normalize": "count"}, lambda number: iter([taus[number].copy()]), piece)


def run(method: Any, one: Work) -> list[float]:
    """δ of a tensor that is one block."""
    rule = rules.rule(method)
    state = rule.prepare(one)
    (piece,) = one.pieces()
    found = rule.combine(one, piece, state)
    assert found.dtype == np.float32
    return [float(value) for value in found]


def test_a_family() -> None:
    trim = SimpleNamespace(FAMILY=Family("trim", "elect"), matrix=None, coefficients=None)
    assert rules.family_of(trim) == Family("trim", "elect")
    rule = rules.rule(trim)
    assert rule.cut == rules.ANYWHERE == "anywhere"
    three = 0x40400000
    assert rule.prepare(work()) == [Thinned(Cut(Edge(three - 1))), Thinned(Cut(Edge(0x40C00000 - 1)))]
    # v = [0, 0, 6, 8] and [-8, -6, 0, 0]
    assert run(trim, work()) == [-8, -6, 6, 8]
    assert rules.rule(SimpleNamespace(FAMILY=Family("random", "sum"))).cut == "anywhere"
    assert rules.rule(SimpleNamespace(FAMILY=Family("ranked", "sum"))).cut == rules.ROWS == "rows"


def test_coefficients() -> None:
    seen = []

    def coefficients(gram: list[list[float]], shares: Sequence[Share], parameters: Mapping) -> Coefficients:
        seen.append((gram, shares, parameters))
        return Coefficients(10.0, [1.0, 0.5])

    method = SimpleNamespace(coefficients=coefficients, matrix=None)
    assert rules.family_of(method) is None
    assert rules.rule(method).cut == "anywhere"
    assert run(method, work()) == [10 + 1 + 4, 10 + 2 + 3, 10 + 3 + 2, 10 + 4 + 1]
    assert seen == [([[4, 10, 20], [10, 30, 40], [20, 40, 120]], SHARES, {"normalize": "count"})]


def test_a_matrix() -> None:
    def matrix(deltas: list[np.ndarray], shares: Sequence[Share], parameters: Mapping, shape: tuple) -> np.ndarray:
        assert [shape, *(delta.shape for delta in deltas)] == [(2, 2), (2, 2), (2, 2)]
        assert (shares, parameters) == (SHARES, {"normalize": "count"})
        return deltas[0] @ deltas[1]

    method = SimpleNamespace(matrix=matrix)
    assert rules.rule(method).cut == rules.WHOLE == "whole"
    assert rules.rule(method).prepare(work((2, 2))) is None
    # [[1, 2], [3, 4]] @ [[8, 6], [4, 2]]
    assert run(method, work((2, 2))) == [16, 10, 40, 26]


def test_a_tensor_that_is_no_matrix_gets_the_mean() -> None:
    method = SimpleNamespace(matrix=None)
    for shape in ((4,), (2, 2, 1)):
        assert run(method, work(shape)) == [(2 - 8) / 2, (4 - 6) / 2, (6 - 4) / 2, (8 - 2) / 2]
    adds = SimpleNamespace(matrix=None, ADDS=True)
    assert run(adds, work((4,))) == [2 - 8, 4 - 6, 6 - 4, 8 - 2]
    three = work((1,), [f32(1), f32(2**-24), f32(2**-24)], (Share(1.0), Share(1.0), Share(1.0)))
    method_of_one = rules.rule(method)
    found = method_of_one.combine(three, Piece(0, f32(0), [f32(1), f32(2**-24), f32(2**-24)]), None)
    assert found[0] == np.float32((1 + 2**-23) / 3), "summed in fp64"
    with pytest.raises(ValueError, match="zip"):
        method_of_one.combine(three, Piece(0, f32(0), [f32(1)]), None)


def test_a_matrix_that_is_not_finite_is_refused() -> None:
    method = SimpleNamespace(matrix=None)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(Refusal) as caught:
            run(method, work((2, 2), (f32(1, 2, 3, 4), f32(1, bad, 3, 4))))
        assert (caught.value.message, caught.value.hint) == (
            "w contains NaN or infinity, so it has no singular values",
            'Exclude it from the vectors that cause this with except = ["w"], or choose another method.',
        )
    spectrum.check_finite("w", True)


def test_a_rule_of_its_own() -> None:
    method = SimpleNamespace(
        prepare=lambda work: len(work.shares), combine=lambda work, piece, state: piece.deltas[0] * np.float32(state)
    )
    assert rules.rule(method).cut == "anywhere"
    assert run(method, work()) == [2, 4, 6, 8]
