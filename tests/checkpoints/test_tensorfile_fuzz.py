"""The safetensors reader on headers that no writer makes: an error that names the file, or the truth; never a crash."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from persona.checkpoints.dtypes import BITS
from persona.checkpoints.tensorfile import MAX_HEADER, TensorFile
from persona.errors import CheckpointError

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


@settings(max_examples=1500, deadline=None, suppress_health_check=FIXTURE)
@given(header=HEADERS, data=st.binary(max_size=40))
def test_any_header(tmp_path: Path, header: dict[str, object], data: bytes) -> None:
    text = json.dumps(header).encode()
    file = read(tmp_path / "x.safetensors", struct.pack("<Q", len(text)) + text + data)
    if file is not None:
        assert sum(info.nbytes for info in file.tensors.values()) == len(data)
        for info in file.tensors.values():
            assert len(file.data(info)) == info.nbytes


@settings(max_examples=1500, deadline=None, suppress_health_check=FIXTURE)
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    read(tmp_path / "x.safetensors", content)


@settings(max_examples=500, deadline=None, suppress_health_check=FIXTURE)
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


def test_a_header_of_a_hundred_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER + 1))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(CheckpointError, match="says its header has"):
        TensorFile(path)
