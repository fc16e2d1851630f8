"""The safetensors reader on headers that no writer makes: an error that names the file, or the truth; never a crash."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from persona.checkpoints.dtypes import BITS
from persona.checkpoints.tensorfile import MAX_HEADER, TensorFile
from persona.errors import CheckpointError
from tests.amount import fuzzed

FIXTURE = [HealthCheck.function_scoped_fixture]
NUMBERS = st.one_of(
    st.integers(0, 40), st.integers(-(2**70), 2**70), st.just(2**63), st.floats(), st.booleans(), st.none()
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(sorted(BITS)), st.text(max_size=4), st.none()),
        "shape": st.one_of(st.lists(NUMBERS, max_size=4), st.none(), st.text(max_size=3)),
        "data_offsets": st.one_of(st.lists(NUMBERS, max_size=3), st.none()),
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["w", "x", "__metadata__", ""]), st.one_of(ENTRY, NUMBERS, st.text()), max_size=3
)


def read(path: Path, content: bytes) -> TensorFile | None:
    """What the reader makes of a file; None if it refuses it, which must be an error that names it."""
    path.write_bytes(content)
    try:
        return TensorFile(path)
    except CheckpointError as error:
        assert str(path) in error.message
        return None


@fuzzed(1500)
@given(header=HEADERS, data=st.binary(max_size=40))
def test_any_header(tmp_path: Path, header: dict[str, object], data: bytes) -> None:
    text = json.dumps(header).encode()
    file = read(tmp_path / "x.safetensors", struct.pack("<Q", len(text)) + text + data)
    if file is not None:
        assert sum(info.nbytes for info in file.tensors.values()) == len(data)
        for info in file.tensors.values():
            assert len(file.data(info)) == info.nbytes


@fuzzed(1500)
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    read(tmp_path / "x.safetensors", content)


@fuzzed(500)
@given(at=st.integers(0, 200), bit=st.integers(0, 7))
def test_what_the_reference_refuses_is_refused(tmp_path: Path, at: int, bit: int) -> None:
    """A flipped bit in a good file: we accept nothing that the reference implementation does not."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "b": {"dtype": "U8", "shape": [3], "data_offsets": [16, 19]}}).encode()  # fmt: skip
    content = bytearray(struct.pack("<Q", len(header)) + header + bytes(19))
    content[at % len(content)] ^= 1 << bit
    path = tmp_path / "x.safetensors"
    file = read(path, bytes(content))
    if file is not None:
        try:
            with safe_open(path, framework="np") as theirs:
                assert set(theirs.keys()) == set(file.tensors)
        except SafetensorError as error:
            pytest.fail(f"we read what the reference refuses: {error}")


def write(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def entry(shape: list[int], start: int, stop: int, dtype: str = "U8") -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [start, stop]})


HOSTILE = {
    "overlapping": (f'{{"a": {entry([4], 0, 4)}, "b": {entry([4], 2, 6)}}}', "overlaps"),
    "the same bytes": (f'{{"a": {entry([6], 0, 6)}, "b": {entry([6], 0, 6)}}}', "overlaps"),
    "a hole": (f'{{"a": {entry([2], 0, 2)}, "b": {entry([3], 3, 6)}}}', "gap"),
    "a name twice": (f'{{"a": {entry([3], 0, 3)}, "a": {entry([3], 3, 6)}}}', "duplicate name 'a'"),
    "a product that overflows to 6": (f'{{"a": {entry([2**63 + 3, 2], 0, 6)}}}', "invalid shape"),
    "a product of 2**64": (f'{{"a": {entry([2**32, 2**32], 0, 6)}}}', "needs 18446744073709551616"),
    "more dimensions than any tensor": (f'{{"a": {entry([1] * 65, 0, 6)}}}', "invalid shape"),
    "offsets of 2**63": (f'{{"a": {entry([6], 2**63, 2**63 + 6)}}}', "invalid offsets"),
    "offsets that go back": (f'{{"a": {entry([6], 6, 0)}}}', "invalid offsets"),
    "offsets behind the end": (f'{{"a": {entry([6], 0, 6)}, "b": {entry([2**40], 6, 2**40 + 6)}}}', "truncated"),
    "half a byte": (f'{{"a": {entry([3], 0, 6, "F4")}}}', "fractional"),
    "deeper than any stack": ("[" * 200_000, "not valid JSON"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_are_refused(tmp_path: Path, what: str) -> None:
    header, said = HOSTILE[what]
    with pytest.raises(CheckpointError, match=said) as caught:
        TensorFile(write(tmp_path / "x.safetensors", header.encode(), b"123456"))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_header_lengths_beyond_everything(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(CheckpointError, match="states a header of"):
        TensorFile(path)


def test_a_header_of_a_hundred_megabytes(tmp_path: Path) -> None:
    """The largest that may be: it is read, and what it says is checked like any other."""
    header = f'{{"a": {entry([6], 0, 6)}'.encode()
    path = write(tmp_path / "x.safetensors", header + b" " * (MAX_HEADER - len(header) - 1) + b"}", b"123456")
    assert list(TensorFile(path).tensors) == ["a"]
    with pytest.raises(CheckpointError, match="not valid JSON"):
        TensorFile(write(path, header + b" " * (MAX_HEADER - len(header)), b"123456"))


def test_a_name_twice_among_very_many_is_found_at_once(tmp_path: Path) -> None:
    names = [f'"t{n}": {{}}' for n in range(200_000)]
    path = write(tmp_path / "x.safetensors", ("{" + ", ".join([*names, names[-1]]) + "}").encode())
    with pytest.raises(CheckpointError, match="duplicate name 't199999'"):
        TensorFile(path)


def test_a_shape_of_very_many_dimensions_is_not_multiplied(tmp_path: Path) -> None:
    shape = "[" + ", ".join(["4611686018427387904"] * 200_000) + "]"
    header = f'{{"a": {{"dtype": "U8", "shape": {shape}, "data_offsets": [0, 6]}}}}'
    with pytest.raises(CheckpointError, match="invalid shape"):
        TensorFile(write(tmp_path / "x.safetensors", header.encode(), b"123456"))
