"""What every codec must do: give back each bit, and refuse what it did not write."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona.store import codecs

WIDTHS = (1, 2, 4, 8)
CASES = [(name, width) for name in codecs.names() for width in sorted(codecs.load(name).WIDTHS)]
SPECIAL = {  # zeros of both signs, subnormals, infinities, quiet and signalling NaNs with payloads, extremes
    1: [0x00, 0x80, 0x01, 0x7F, 0xFF],
    2: [0x0000, 0x8000, 0x0001, 0x8001, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFAB, 0x7C00, 0x7E01, 0x7FFF, 0xFFFF],
    4: [0, 1 << 31, 1, (1 << 31) + 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF],
    8: [0, 1 << 63, 1, 0x7FF << 52, 0xFFF << 52, (0x7FF << 52) + 1, (1 << 64) - 1, (1 << 63) - 1],
}


def entries(width: int, size: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    """Blocks of noise, of small steps around one value, and of special values."""
    top = (1 << (8 * width)) - 1
    one = st.sampled_from(SPECIAL[width]) | st.integers(0, top) | st.integers(0, 20)

    def block(drawn: tuple[int, list[int], int]) -> np.ndarray:
        count, pattern, seed = drawn
        tiled = np.resize(np.array(pattern, f"<u{width}"), count)
        noise = np.random.default_rng(seed).integers(0, 4, count).astype(tiled.dtype)
        return tiled + noise if seed % 2 else tiled

    return st.tuples(size, st.lists(one, min_size=1, max_size=40), st.integers(0, 99)).map(block)


def pair(width: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    sizes = st.sampled_from([0, 1, 2, 3, 17, 255, 256, 4096, 4097, 9999])
    return sizes.flatmap(lambda n: st.tuples(entries(width, st.just(n)), entries(width, st.just(n))))


def trip(name: str, bits: np.ndarray, base: np.ndarray) -> np.ndarray:
    codec = codecs.load(name)
    used = base if codec.NEEDS_BASE else None
    return codec.decode(codec.encode(bits, used), len(bits), bits.itemsize, used)


def test_the_folder_is_the_list() -> None:
    assert {"delta", "planes", "raw"} <= set(codecs.names())
    for width in WIDTHS:
        assert codecs.fitting(width, with_base=False), f"no codec for {width} bytes per entry"


def test_a_codec_that_cannot_be_imported_is_loud() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_codec"):
        codecs.load("no_such_codec")


@pytest.mark.parametrize(("name", "width"), CASES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_bit_comes_back(name: str, width: int, data: st.DataObject) -> None:
    bits, base = data.draw(pair(width))
    kept = bits.copy(), base.copy()
    back = trip(name, bits, base)
    assert back.dtype == bits.dtype
    assert back.tobytes() == bits.tobytes()
    assert (bits == kept[0]).all()
    assert (base == kept[1]).all()


@pytest.mark.parametrize(("name", "width"), CASES)
def test_special_values_against_special_values(name: str, width: int) -> None:
    values = np.array(SPECIAL[width], f"<u{width}")
    bits, base = np.meshgrid(values, values)
    assert trip(name, bits.ravel(), base.ravel()).tobytes() == bits.tobytes()


@pytest.mark.parametrize("name", [n for n in codecs.names() if 2 in codecs.load(n).WIDTHS])
def test_all_of_bf16(name: str) -> None:
    bits = np.arange(1 << 16, dtype="<u2")
    base = np.random.default_rng(0).permutation(bits)
    assert trip(name, bits, base).tobytes() == bits.tobytes()


@pytest.mark.parametrize(("name", "width"), CASES)
def test_read_only_and_unaligned_arrays_will_do(name: str, width: int) -> None:
    data = bytes(range(1, 1 + 8 * 30))
    bits = np.frombuffer(data, f"<u{width}", 25, offset=1)
    base = np.frombuffer(data, f"<u{width}", 25, offset=3)
    assert trip(name, bits, base).tobytes() == bits.tobytes()


@pytest.mark.parametrize(("name", "width"), CASES)
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_changed_payload_is_refused_or_decodes_to_the_right_number_of_entries(
    name: str, width: int, data: st.DataObject
) -> None:
    codec = codecs.load(name)
    bits, base = data.draw(pair(width).filter(lambda two: len(two[0]) > 0))
    used = base if codec.NEEDS_BASE else None
    payload = bytearray(codec.encode(bits, used))
    at = data.draw(st.integers(0, len(payload) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "grow"]))
    if how == "flip":
        payload[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del payload[at:]
    else:
        payload += b"\0"
    try:
        back = codec.decode(bytes(payload), len(bits), width, used)
    except ValueError:
        return
    assert how == "flip"
    assert (len(back), back.itemsize) == (len(bits), width)


def test_delta_by_hand() -> None:
    """0.0 → -0.0 is one step down, so 2·1-1 = 1; 1.0 → the next bf16 is one step up, so 2; the same is 0."""
    base = np.array([0x0000, 0x3F80, 0x4000], "<u2")
    bits = np.array([0x8000, 0x3F81, 0x4000], "<u2")
    kind, plane, escapes = b"\1", b"\1\2\0\0\0" + bytes([1 | 2 << 4, 0]), b"\1\0\0\0\0" * 2
    assert codecs.load("delta").encode(bits, base) == kind + plane + escapes


@pytest.mark.parametrize(("count", "kind", "escape", "digits"), [(16, 1, 15, 8), (8, 2, 255, 8)])
def test_delta_writes_what_is_far_in_full(count: int, kind: int, escape: int, digits: int) -> None:
    """One entry of 16 too large for a nibble is an escape; one of 8 is too many, and bytes are used."""
    base = np.zeros(count, "<u2")
    bits = base.copy()
    base[0], bits[0] = 0x3F80, 0x3F80 + 500
    high, low = divmod(2 * 500 - escape, 256)
    plane = bytes([1, digits, 0, 0, 0, escape]) + bytes(digits - 1)
    escapes = bytes([0, 1, 0, 0, 0, low, 0, 1, 0, 0, 0, high])
    assert codecs.load("delta").encode(bits, base) == bytes([kind]) + plane + escapes


def test_delta_writes_plain_planes_where_most_entries_are_far() -> None:
    bits = np.array([500, 500, 0], "<u2")
    low, high = bytes([1000 % 256] * 2 + [0]), bytes([1000 // 256] * 2 + [0])
    expected = b"\0" + b"\1\3\0\0\0" + low + b"\1\3\0\0\0" + high
    assert codecs.load("delta").encode(bits, np.zeros(3, "<u2")) == expected


@pytest.mark.parametrize("width", [2, 4, 8])
def test_no_change_costs_nearly_nothing(width: int) -> None:
    bits = np.random.default_rng(1).integers(0, 1 << (8 * width - 1), 1 << 17).astype(f"<u{width}")
    assert len(codecs.load("delta").encode(bits, bits)) < 64


@pytest.mark.parametrize("width", WIDTHS)
def test_a_constant_block_costs_nearly_nothing(width: int) -> None:
    assert len(codecs.load("planes").encode(np.full(1 << 17, 77, f"<u{width}"), None)) < 64


def test_a_fine_tune_in_bf16_takes_less_than_the_targets() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.02, 1 << 17).astype(np.float32)
    base = round_to_bf16(weights)
    wide = (base.astype(np.uint32) << 16).view(np.float32)
    for step, most in ((5e-5, 0.20), (2e-4, 0.30)):
        tuned = round_to_bf16(wide + rng.normal(0, step, len(wide)).astype(np.float32))
        assert len(codecs.load("delta").encode(tuned, base)) < most * tuned.nbytes


def round_to_bf16(values: np.ndarray) -> np.ndarray:
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
