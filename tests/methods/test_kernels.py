"""Sums and roundings: compiled, plain, and the readable formula give the same bits."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona.kernels import check, plain
from persona.methods.parts.lowrank import delta_rows

numba = pytest.importorskip("numba")
from persona.kernels import compiled  # noqa: E402

BOTH = pytest.mark.parametrize("loops", [plain, compiled], ids=["plain", "compiled"])
SPECIAL = {
    "BF16": [0, 0x8000, 1, 0x8001, 0x7F80, 0xFF80, 0x7FC1, 0xFFC2, 0x7F81, 0x7F7F, 0xFF7F, 0x3F80, 0x7FFF],
    "F32": [0, 1 << 31, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC11111, 0xFFC22222, 0x7F800001, 0x7F7FFFFF,
            0x3F808000, 0x3F818000],
}  # fmt: skip
LENGTHS = st.sampled_from([0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 1000, 4097, 131073])


def weights(form: str, count: int, seed: int) -> np.ndarray:
    """Usual weights, any bits at all, and special values, as BF16 bits or in fp32."""
    rng = np.random.default_rng(seed)
    bits = rng.normal(0, 0.02, count).astype(np.float32).view(np.uint32)
    wild = rng.random(count) < 0.2
    bits[wild] = rng.integers(0, 1 << 32, int(wild.sum()), dtype=np.uint64)
    bits = bits if form == "F32" else (bits >> 16).astype(np.uint16)
    special = rng.random(count) < 0.3
    bits[special] = rng.choice(np.array(SPECIAL[form], bits.dtype), int(special.sum()))
    return bits.view(np.float32) if form == "F32" else bits


@BOTH
def test_ties_to_even_and_nan(loops: ModuleType) -> None:
    """1 + 2⁻⁸ lies between 0x3F80 and 0x3F81, and 0x3F80 is even; NaNs stay quiet and keep what fits."""
    values = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32)
    out = np.empty(6, np.uint16)
    loops.round_bf16(values.view(np.float32), out)
    assert [hex(n) for n in out] == ["0x3f80", "0x3f82", "0x3f81", "0x7f80", "0xffff", "0x7fc0"]


def wide(values: np.ndarray) -> np.ndarray:
    """By another way than the kernels': the bits shifted up."""
    return (values.astype(np.uint32) << 16).view(np.float32)


@settings(deadline=None, max_examples=50)
@given(count=LENGTHS, seed=st.integers(0, 9999))
def test_both_round_and_widen_alike(count: int, seed: int) -> None:
    values, bits = weights("F32", count, seed), weights("BF16", count, seed)
    short, long = np.empty((2, count), np.uint16), np.empty((2, count), np.float32)
    for k, loops in enumerate((plain, compiled)):
        loops.round_bf16(values, short[k])
        loops.widen_bf16(bits, long[k])
    assert short[0].tobytes() == short[1].tobytes()
    assert long[0].tobytes() == long[1].tobytes() == wide(bits).tobytes()


@BOTH
@pytest.mark.parametrize(("rows", "rank", "columns"), [(1, 1, 1), (7, 5, 31), (3, 16, 4097), (0, 2, 3), (2, 0, 3)])
def test_low_rank_rows_are_as_defined(loops: ModuleType, rows: int, rank: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    left, right = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((rows, rank), (rank, columns)))
    out = np.empty((rows, columns), np.float32)
    loops.low_rank_rows(left, right, 0.3, out)
    assert out.tobytes() == delta_rows(left, right, 0.3, 0, rows).tobytes()


def test_the_check_that_guards_the_choice_passes_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    check.compare(compiled, plain)
    for name in ("fold", "move", "round_bf16", "low_rank_rows"):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, name, broken(getattr(compiled, name)))
            with pytest.raises(check.Different):
                check.compare(compiled, plain)


def broken(kernel: object) -> object:
    """The same, with a bit of its last array changed."""

    def wrong(*args: object) -> object:
        result = kernel(*args)  # type: ignore[operator]
        out = next(a for a in reversed(args) if isinstance(a, np.ndarray))
        out.reshape(-1).view(np.uint8)[-1] ^= 1  # type: ignore[union-attr]
        return result

    return wrong
