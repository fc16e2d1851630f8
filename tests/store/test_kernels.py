"""The compiled loops over bit patterns against the plain ones, to the bit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona import kernels
from persona.kernels import plain
from persona.store import codecs

numba = pytest.importorskip("numba")
from persona.kernels import compiled  # noqa: E402

WIDTHS = (2, 4, 8)
LENGTHS = [0, 1, 2, 3, 15, 31, 32, 33, 63, 64, 65, 4095, 4096, 4097, 8191, 8193, 131071, 131072]
SPECIAL = {
    2: [0x0000, 0x8000, 0x0001, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFAB, 0x7FFF, 0xFFFF],
    4: [0, 1 << 31, 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF],
    8: [0, 1 << 63, 1, 0x7FF << 52, (0x7FF << 52) + 1, (1 << 63) - 1, (1 << 64) - 1],
}


def block(width: int, count: int, seed: int, far: float) -> tuple[np.ndarray, np.ndarray]:
    """A base, and entries of which a share is far from it and the others are near."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 1 << (8 * width), count, dtype=np.uint64, endpoint=False) if width < 8 else None
    base = (rng.integers(0, 1 << 63, count).astype(np.uint64) << 1 if base is None else base).astype(f"<u{width}")
    special = rng.random(count) < 0.2
    base[special] = rng.choice(np.array(SPECIAL[width], base.dtype), int(special.sum()))
    steps = rng.integers(-7, 8, count)
    steps[rng.random(count) < far] = int(rng.choice([8, 127, 128, 30_000]))
    return base + steps.astype(base.dtype), base


blocks = st.tuples(st.sampled_from(LENGTHS), st.integers(0, 9999), st.sampled_from([0, 0.001, 0.01, 0.05, 0.2, 0.9, 1]))


def parts(loops: ModuleType, bits: np.ndarray, base: np.ndarray, escape: int) -> tuple[list[bytes], np.ndarray]:
    """Everything that the loops make of a block, and the block again."""
    folded, out = np.empty_like(base), np.empty_like(base)
    counts = loops.fold(bits, base, folded)
    digits = np.empty((len(base) + 1) // 2 if escape == 15 else len(base), np.uint8)
    rest = np.empty(counts[escape == 255], base.dtype)
    loops.split_digits(folded, escape, digits, rest)
    assert loops.count_escapes(digits, escape, len(base)) == len(rest)
    loops.move(base, digits, escape, rest, out)
    again = np.empty_like(base)
    loops.move_by(base, folded, again)
    assert again.tobytes() == out.tobytes()
    return [folded.tobytes(), digits.tobytes(), rest.tobytes(), bytes(str(counts), "ascii")], out


@pytest.mark.parametrize("escape", [15, 255])
@pytest.mark.parametrize("width", WIDTHS)
@settings(deadline=None, max_examples=40)
@given(drawn=blocks)
def test_both_make_the_same_of_a_block(width: int, escape: int, drawn: tuple[int, int, float]) -> None:
    count, seed, far = drawn
    bits, base = block(width, count, seed, far)
    ours, back = parts(compiled, bits, base, escape)
    theirs, _ = parts(plain, bits, base, escape)
    assert ours == theirs
    assert back.tobytes() == bits.tobytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_read_only_and_unaligned_arrays_will_do(width: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, 1 + 40 * width).astype(np.uint8).tobytes()
    base = np.frombuffer(data, f"<u{width}", 37, offset=1)
    bits = np.frombuffer(data, f"<u{width}", 37, offset=1 + 2 * width)
    for escape in (15, 255):
        assert parts(compiled, bits, base, escape)[0] == parts(plain, bits, base, escape)[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4097])
def test_a_last_half_without_an_entry_is_no_escape(count: int) -> None:
    digits = np.full((count + 1) // 2, 255, np.uint8)
    assert compiled.count_escapes(digits, 15, count) == plain.count_escapes(digits, 15, count) == count


@pytest.mark.parametrize("name", codecs.names())
@settings(deadline=None, max_examples=40)
@given(drawn=blocks, width=st.sampled_from(WIDTHS))
def test_a_payload_is_the_same_whoever_wrote_it(name: str, drawn: tuple[int, int, float], width: int) -> None:
    bits, base = block(width, *drawn)
    codec = codecs.load(name)
    used = base if codec.NEEDS_BASE else None
    with pytest.MonkeyPatch.context() as patch:
        payloads = []
        for loops in (compiled, None):
            patch.setattr(kernels, "_compiled", loops)
            payloads.append(codec.encode(bits, used))
        assert payloads[0] == payloads[1]
        for loops in (compiled, None):
            patch.setattr(kernels, "_compiled", loops)
            for out in (None, np.empty_like(bits)):
                assert codec.decode(payloads[0], len(bits), width, used, out).tobytes() == bits.tobytes()


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 999), at=st.integers(0, 10**6), flip=st.integers(1, 255), width=st.sampled_from([2, 4]))
def test_a_damaged_payload_gives_the_same_or_is_refused_by_both(seed: int, at: int, flip: int, width: int) -> None:
    bits, base = block(width, 333, seed, 0.05)
    codec = codecs.load("delta")
    payload = bytearray(codec.encode(bits, base))
    payload[at % len(payload)] ^= flip
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for loops in (compiled, None):
            patch.setattr(kernels, "_compiled", loops)
            try:
                found.append(codec.decode(bytes(payload), len(bits), width, base).tobytes())
            except ValueError as error:
                found.append(str(error).encode())
    assert found[0] == found[1]


@pytest.mark.parametrize("loops", [plain, compiled], ids=["plain", "compiled"])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000, 131072])
def test_squares_are_those_of_fp64(loops: ModuleType, count: int) -> None:
    rng = np.random.default_rng(count)
    w, base = ((rng.normal(0, 0.02, count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for _ in "wb")
    wide = [(bits.astype(np.uint32) << 16).view(np.float32) for bits in (w, base)]
    wanted = ((wide[0] - wide[1]).astype(np.float64) ** 2).sum(), (wide[1].astype(np.float64) ** 2).sum()
    assert loops.squares(w, base) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("loops", [plain, compiled], ids=["plain", "compiled"])
def test_a_square_of_a_nan_is_one(loops: ModuleType) -> None:
    delta, whole = loops.squares(np.array([0x7FC0, 0], np.uint16), np.array([0, 0x3F80], np.uint16))
    assert np.isnan(delta)
    assert whole == 1.0
