"""What every codec must do: give back each bit, and refuse what it did not write."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.store import codecs, compression
from persona.store.codecs import _planes
from tests.amount import fuzzed

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
    assert list(codecs.names()) == sorted(name for name in codecs.names() if not name.startswith("_"))
    for width in WIDTHS:
        assert codecs.fitting(width, with_base=False), f"no codec for {width} bytes per entry"


def test_a_codec_that_cannot_be_imported_is_loud() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_codec"):
        codecs.load("no_such_codec")


@pytest.mark.parametrize(("name", "width"), CASES)
@fuzzed(60)
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
@fuzzed(80)
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


def test_codecs_that_need_a_base_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among those that need one, and among those that do not, the names decide."""
    loaded = {"a": codecs.load("planes"), "b": codecs.load("delta"), "c": codecs.load("raw"), "d": codecs.load("delta")}
    monkeypatch.setattr(codecs, "names", lambda: tuple(loaded))
    monkeypatch.setattr(codecs, "load", loaded.__getitem__)
    for width in (2, 4, 8):
        assert codecs.fitting(width, with_base=True) == ["b", "d", "a", "c"]
        assert codecs.fitting(width, with_base=False) == ["a", "c"]
    assert codecs.fitting(1, with_base=True) == ["a", "c"]  # no differences of single bytes
    assert codecs.fitting(3, with_base=True) == []


def test_planes_decode_into_the_buffer_that_they_are_given() -> None:
    """Where a block is put together, ``out`` saves an allocation; a single plane and raw bytes are views of the payload."""
    for width in (2, 4, 8):
        bits = np.arange(300, dtype=f"<u{width}")
        for name, base in (("planes", None), ("delta", bits[::-1].copy()), ("delta", np.zeros_like(bits))):
            out = np.full(len(bits), 77, bits.dtype)
            codec = codecs.load(name)
            assert codec.decode(codec.encode(bits, base), len(bits), width, base, out) is out
            assert out.tobytes() == bits.tobytes()
    for name, payload in (("raw", b"\1\2\3"), ("planes", b"\1\3\0\0\0\1\2\3")):
        back = codecs.load(name).decode(payload, 3, 1, None, np.zeros(3, "<u1"))
        assert (back.dtype, back.tobytes(), back.flags.writeable) == (np.uint8, b"\1\2\3", False)


def test_a_plane_is_one_value_or_bytes_or_a_frame() -> None:
    """By hand: a method, a length of 4 bytes, and the bytes. Entries may be strided."""
    encode = codecs.load("planes").encode
    assert encode(np.array([], "<u1"), None) == b"\1\0\0\0\0"
    assert encode(np.array([200], "<u1"), None) == b"\0\1\0\0\0\xc8"
    assert encode(np.array([200, 200, 200], "<u1"), None) == b"\0\1\0\0\0\xc8"
    assert encode(np.array([200, 1, 200], "<u1"), None) == b"\1\3\0\0\0\xc8\1\xc8"
    assert encode(np.array([200, 1, 1], "<u1"), None) == b"\1\3\0\0\0\xc8\1\1"
    assert encode(np.array([1, 9, 2, 9, 3, 9], "<u1")[::2], None) == b"\1\3\0\0\0\1\2\3"
    assert encode(np.array([0x0201, 0x0202], "<u2"), None) == b"\1\2\0\0\0\1\2" + b"\0\1\0\0\0\2"
    skewed = np.arange(1000, dtype="<u1") % 3
    frame = compression.squeeze(skewed.tobytes())
    assert encode(skewed, None) == b"\2" + len(frame).to_bytes(4, "little") + frame
    assert codecs.load("planes").decode(b"\0\1\0\0\0\xc8", 3, 1, None).tobytes() == b"\xc8\xc8\xc8"


def test_a_plane_that_a_frame_does_not_shorten_stays_as_it_is() -> None:
    """Noise, then more and more zeros: at one length, the frame is just as long as the plane."""
    noise = np.random.default_rng(0).integers(1, 256, 40).astype("<u1")
    saved = []
    for zeros in range(100):
        plane = np.concatenate([noise, np.zeros(zeros, "<u1")])
        saved.append(len(plane) - len(compression.squeeze(plane.tobytes())))
        assert codecs.load("planes").encode(plane, None)[0] == (2 if saved[-1] > 0 else 1)
    assert {-1, 0, 1} <= set(saved)


def test_a_long_plane_that_looks_like_noise_is_not_compressed() -> None:
    """Up to 4096 bytes, zstd decides; above, the entropy of a sample of 4096 to 8191 of them, where 7.8 bits are noise."""

    def method(plane: np.ndarray) -> int:
        return codecs.load("planes").encode(plane.astype("<u1"), None)[0]

    even = np.tile(np.arange(256), 17)  # 8 bits, although zstd would find the repetition
    assert (method(even[:4096]), method(even[:4097])) == (2, 1)
    few = np.tile(np.arange(20, 242), 20)  # 222 values: log2(222) = 7.794 bits
    assert method(few) == 2
    assert method(np.concatenate([few, np.arange(222, 226)])) == 2
    once = np.concatenate([np.arange(20), few, np.arange(242, 256)])  # 34 values more, once each: 7.84 bits
    assert method(once) == 1
    assert method(np.repeat(once, 100)) == 1  # judged by one of 109 bytes


def test_how_many_entries_may_be_large() -> None:
    """Up to 8 % past a nibble, and up to a quarter past a byte, themselves included."""

    def kind(count: int, large: int, step: int) -> int:
        bits = np.zeros(count, "<u2")
        bits[:large] = step
        return codecs.load("delta").encode(bits, np.zeros(count, "<u2"))[0]

    assert kind(0, 0, 0) == 1
    assert (kind(25, 2, 8), kind(25, 3, 8), kind(25, 25, 7)) == (1, 2, 1)  # steps of 7 and 8 are 14 and 16 in zigzag
    assert (kind(4, 1, 128), kind(4, 2, 128), kind(4, 4, 127)) == (2, 0, 2)  # 127 and 128: 254 and 256


def test_delta_by_hand_in_nibbles_and_bytes() -> None:
    """15 and 255 are escapes for a rest of 0, and the last half of an odd number of nibbles is 0."""
    cases = {
        b"\1" + b"\1\2\0\0\0\x21\x03" + b"\1\0\0\0\0" * 2: [1, 2, 3],
        b"\1" + b"\1\7\0\0\0\x0f" + bytes(6) + b"\0\1\0\0\0\0" * 2: [15] + [0] * 12,
        b"\2" + b"\1\4\0\0\0\xff\0\0\0" + b"\0\1\0\0\0\0" * 2: [255, 0, 0, 0],
        b"\2" + b"\1\4\0\0\0\xff\x10\0\xfe" + b"\0\1\0\0\0\1" + b"\0\1\0\0\0\1": [255 + 257, 16, 0, 254],
    }
    codec = codecs.load("delta")
    for payload, zigzag in cases.items():
        steps = [z // 2 if z % 2 == 0 else -(z + 1) // 2 for z in zigzag]
        # Up from -0.0, the next bf16 are 0x0000, 0x0001, …; down, 0x8001, 0x8002, …
        base = np.full(len(steps), 0x8000, "<u2")
        bits = np.array([step - 1 if step > 0 else 0x8000 - step for step in steps], "<u2")
        assert codec.encode(bits, base) == payload
        assert codec.decode(payload, len(bits), 2, base).tobytes() == bits.tobytes()


def test_integers_in_their_parts() -> None:
    """Without an escape, the digits are the integers, and there is no rest."""
    plain = _planes.Reader(b"\0" + b"\1\2\0\0\0\1\2" + b"\0\1\0\0\0\3").integers(2, 2)
    assert (plain.escape, plain.digits.tolist()) == (0, [0x0301, 0x0302])
    assert (plain.rest.shape, plain.rest.dtype) == ((0,), np.dtype("<u2"))
    nibbles = _planes.Reader(b"\1" + b"\1\2\0\0\0\xf1\x02" + b"\0\1\0\0\0\3" + b"\0\1\0\0\0\4").integers(3, 2)
    assert (nibbles.escape, nibbles.digits.tolist(), nibbles.rest.tolist()) == (15, [0xF1, 0x02], [0x0403])
    after_the_last = _planes.Reader(b"\1" + b"\1\2\0\0\0\x21\xf3" + b"\1\0\0\0\0" * 2).integers(3, 2)
    assert len(after_the_last.rest) == 0  # the half without an entry is no escape, whatever it says


def test_a_payload_that_no_codec_wrote_is_refused_for_its_reason() -> None:
    truncated, extra = "a block is truncated", "a block has extra bytes after its last part"
    length, kind = "a plane does not have the length of its block", "a stream of integers has an unknown kind"
    size = "a compressed part states another size"
    frame = compression.squeeze(bytes(100))
    plane = b"\2" + len(frame).to_bytes(4, "little") + frame
    for name, payload, count, width, why in (
        ("raw", bytes(7), 4, 2, "a raw block does not have the length of its tensor"),
        ("raw", bytes(9), 4, 2, "a raw block does not have the length of its tensor"),
        ("planes", b"", 3, 1, truncated),
        ("planes", b"\0\1\0\0", 3, 1, truncated),
        ("planes", b"\0\1\0\0\0", 3, 1, truncated),
        ("planes", b"\1\3\0\0\0\1\2", 3, 1, truncated),
        ("planes", b"\0\1\0\0\0\5", 3, 2, truncated),
        ("planes", b"\0\1\0\0\0\5" + b"\0", 3, 1, extra),
        ("delta", b"\1" + b"\0\1\0\0\0\1" + b"\1\0\0\0\0" * 2 + b"\0", 3, 2, extra),
        ("planes", b"\0\2\0\0\0\5\5", 2, 1, length),  # one value, twice
        ("planes", b"\0\0\0\0\0", 0, 1, length),
        ("planes", b"\1\1\0\0\0\5", 3, 1, length),  # bytes, but too few
        ("planes", b"\1\4\0\0\0\1\2\3\4", 3, 1, length),
        ("planes", b"\3\1\0\0\0\5", 3, 1, length),  # no such method, of a length that another has
        ("planes", b"\3\3\0\0\0\1\2\3", 3, 1, length),
        ("planes", plane, 99, 1, size),
        ("planes", plane, 101, 1, size),
        ("delta", b"\3" + b"\0\1\0\0\0\1" + b"\1\0\0\0\0" * 2, 3, 2, kind),
        ("delta", b"", 3, 2, truncated),
    ):
        codec = codecs.load(name)
        with pytest.raises(ValueError) as caught:
            codec.decode(payload, count, width, np.zeros(count, f"<u{width}") if codec.NEEDS_BASE else None)
        assert str(caught.value) == why, (name, payload)


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
