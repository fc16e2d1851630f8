"""Rounding and widening against torch, for every bf16 and fp16 and for all kinds of fp32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from persona.checkpoints.dtypes import ARITHMETIC, BITS, byte_size, is_finite, narrow, overflowed, widen

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


@pytest.mark.parametrize("dtype", [*TORCH, "F8_E4M3", "F8_E5M2"])
def test_what_is_finite_is_what_torch_says(dtype: str) -> None:
    """Every entry of a byte or two; around the limits, with both signs, of the wider ones."""
    width = BITS[dtype] // 8
    kinds = {**TORCH, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
    if width <= 2:
        bits = np.arange(1 << 8 * width, dtype=f"<u{width}")
    else:
        ends = np.array([0.0, np.inf, np.finfo(f"f{width}").max, 1.0], f"<f{width}").view(f"<u{width}")
        ends = np.concatenate([ends, ends[1:2] + 1, ~np.zeros(1, ends.dtype) >> 1])
        bits = np.concatenate([ends, ends | np.array(1 << 8 * width - 1, ends.dtype)])
    values = torch.from_numpy(bits.view(f"<i{width}").copy()).view(kinds[dtype]).double()
    assert [is_finite(bits[k : k + 1], dtype) for k in range(len(bits))] == torch.isfinite(values).tolist()
    assert is_finite(bits[torch.isfinite(values).numpy()], dtype)
    assert not is_finite(bits, dtype)
    assert is_finite(bits[:0], dtype)


def test_integers_are_finite() -> None:
    assert is_finite(np.array([255], "u1"), "U8")
    assert is_finite(np.array([~0], "i8").view("u8"), "I64")


def as_torch(bits: np.ndarray, dtype: str) -> torch.Tensor:
    return torch.from_numpy(bits.view({16: np.int16, 32: np.int32, 64: np.int64}[BITS[dtype]]).copy()).view(
        TORCH[dtype]
    )


def assert_same_values(ours: np.ndarray, theirs: torch.Tensor) -> None:
    """Equal, signs of zeros included; a NaN may have any payload."""
    mine = torch.from_numpy(ours.copy())
    assert torch.equal(mine.isnan(), theirs.isnan())
    real = ~mine.isnan()
    assert torch.equal(mine[real].view(torch.int32), theirs[real].view(torch.int32))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_16_bit_pattern_widens_as_torch_says_and_comes_back(dtype: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = widen(bits, dtype)
    assert_same_values(wide, as_torch(bits, dtype).float())
    back = narrow(wide, dtype)
    nan = np.isnan(wide)
    assert np.array_equal(back[~nan], bits[~nan])
    assert np.isnan(widen(back[nan], dtype)).all()
    assert np.array_equal(back[nan] >> 15, bits[nan] >> 15)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
@given(patterns=st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=50))
def test_rounding_is_torchs(dtype: str, patterns: list[int]) -> None:
    values = np.array(patterns, np.uint32).view(np.float32)
    theirs = torch.from_numpy(values.copy()).to(TORCH[dtype])
    assert_same_values(widen(narrow(values, dtype), dtype), theirs.float())


def test_ties_go_to_even_in_bf16() -> None:
    """Halfway between two bf16 numbers: 0x3F808000 → 0x3F80 (even), 0x3F818000 → 0x3F82."""
    values = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(
        np.float32
    )
    assert [hex(bits) for bits in narrow(values, "BF16")] == [
        "0x3f80",
        "0x3f82",
        "0x3f81",
        "0x7f80",
        "0x7fff",
        "0xffff",
    ]


@pytest.mark.parametrize("dtype", sorted(ARITHMETIC))
def test_nothing_is_shared_with_the_input(dtype: str) -> None:
    bits = np.zeros(4, f"u{BITS[dtype] // 8}")
    widen(bits, dtype)[:] = 7
    assert not bits.any()


def test_overflow_is_of_finite_values_only() -> None:
    values = np.array([1.0, 70000.0, np.inf], np.float32)
    assert overflowed(values, narrow(values, "F16"), "F16")
    assert not overflowed(values[[0, 2]], narrow(values[[0, 2]], "F16"), "F16")
    assert not overflowed(values, narrow(values, "BF16"), "BF16")


def test_sizes() -> None:
    assert byte_size("BF16", 3) == 6
    assert byte_size("F4", 4) == 2
    with pytest.raises(ValueError, match="whole bytes"):
        byte_size("F4", 3)
