"""Packs that no writer makes, with a right footer and a right name: an error of ours, or the truth; never a crash.

The digests are made to fit, so that nothing but the index's own checks and the hash of what is handed out can help. The
process may not take more than a little memory while this runs: a size that is believed before it is checked would show.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.checkpoints.dtypes import BITS
from persona.errors import Damaged
from persona.ids import BlobId, TensorId, blob_id, file_digest
from persona.maintenance import weights
from persona.progress import SILENT
from persona.store import compression, packs
from persona.store.objects import canonical
from persona.store.tensors import TensorStore
from tests.amount import fuzzed

from .conftest import Counter, Plain, bf16, write_safetensors

BASE = bf16((8, 8))
TUNED = bf16((8, 8), 1, like=BASE)
OTHER = bf16((8, 8), 2, like=BASE)
SPARSE = Plain("F32", (16, 8), bytes(512))
NOISE = Plain("F32", (3, 5), np.random.default_rng(5).bytes(60))
QUARTER = Plain("F4", (3, 2), b"\x12\x34\x56")
EMPTY = Plain("F16", (0, 4), b"")
TENSORS = (TUNED, OTHER, SPARSE, NOISE, QUARTER, EMPTY)
BLOBS = (b"{}", b"text " * 100, b"")
TRUTH: dict[str, bytes] = {t.id: t.data for t in (BASE, *TENSORS)} | {blob_id(data): data for data in BLOBS}

ROOM = 2 << 30
"""Bytes of address space that a test may take."""

INDEXES, PAYLOADS = 1500, 1000
"""Examples of each kind; docs/format.md names their sum."""

Table = dict[str, Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[TensorStore, bytes]:
    """A store with a base and one pack, and the pack's bytes."""
    folder = tmp_path_factory.mktemp("fuzz")
    store = TensorStore(folder / "packs", folder / "tmp")
    store.adopt_safetensors(write_safetensors(folder / "base.safetensors", {"w": BASE}), Counter())
    with store.writer() as writer:
        for blob in BLOBS:
            writer.add_blob(blob)
        writer.add_tensors([t.incoming(BASE.id) for t in TENSORS], Counter())
        writer.finish()
    (path,) = store.packs.glob("*.pack")
    return store, path.read_bytes()


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def taken_apart(data: bytes) -> tuple[Table, bytes]:
    """Index and frames."""
    at, stored, plain = (int.from_bytes(data[-64:][k : k + 8], "little") for k in (0, 8, 16))
    index = data[at : at + stored]
    return json.loads(index if stored == plain else compression.expand(index, plain)), data[packs.HEAD_SIZE : at]


def put_together(fields: object, frames: bytes) -> bytes:
    at, index = packs.HEAD_SIZE + len(frames), canonical(fields)
    numbers = b"".join(n.to_bytes(8, "little") for n in (at, len(index), len(index)))
    return packs.head() + frames + index + numbers + bytes.fromhex(file_digest([index])) + b"pack end"


def check(store: TensorStore, data: bytes) -> bool:
    """Read everything that the pack claims to have; whether its index was believed."""
    for path in store.packs.glob("*.pack"):
        path.unlink()
    path = store.packs / f"{file_digest([data])}.pack"
    path.write_bytes(data)
    fresh = TensorStore(store.packs, store.tmp)
    try:
        volume = packs.open_pack(path)
    except Damaged as error:
        assert path.name in error.message
        assert TUNED.id not in fresh
        return False
    for name in volume.tensors:
        same_or_damaged(name, lambda name=name: fresh.read(name).tobytes())
        same_or_damaged(name, lambda name=name: b"".join(b.tobytes() for b in fresh.blocks(name, 7)))
    for blob in volume.blobs:
        same_or_damaged(blob, lambda blob=blob: fresh.blob(blob))
    found = weights.read(store.packs, SILENT)
    assert {name for _, name in found.copies} >= {*volume.tensors, *volume.blobs}
    assert found.good() <= TRUTH.keys()
    return True


def same_or_damaged(name: TensorId | BlobId, read: Callable[[], bytes]) -> None:
    try:
        data = read()
    except Damaged as error:
        assert error.hint
        return
    assert data == TRUTH[name]


NUMBERS = st.one_of(
    st.integers(-2, 600),
    st.sampled_from([2**24, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)]),
    st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text(max_size=3),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from([*TRUTH, "0" * 64, "../" * 21 + "a", "", "zz"]), st.none(), st.integers(0, 9), st.lists(st.none())
)
COUNTS = st.lists(st.one_of(st.integers(0, 5), NUMBERS), max_size=5)
TENSOR_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "id": NAMES, "base": NAMES, "at": NUMBERS, "sizes": COUNTS, "codecs": COUNTS,
    "dtype": st.one_of(st.sampled_from(sorted(BITS)), st.text(max_size=4), st.none()),
    "shape": st.one_of(COUNTS, st.sampled_from([[64], [8, 8], [], [1] * 65, [2**32, 2**32], [2**62, 4], [0, 2**62]])),
}  # fmt: skip
BLOB_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "id": NAMES, "at": NUMBERS, "length": NUMBERS, "stored": NUMBERS, "zstd": st.one_of(st.booleans(), NUMBERS)
}  # fmt: skip
TOP_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "block": NUMBERS,
    "codecs": st.lists(
        st.one_of(st.sampled_from(["raw", "delta", "planes", "_planes", "../raw"]), NUMBERS), max_size=4
    ),
    "tensors": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=2), st.just({})),
    "blobs": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=2), st.just({})),
}


def spoil(fields: Table, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One change of one thing."""
    rows, keys = draw(st.sampled_from([("tensors", TENSOR_KEYS), ("tensors", TENSOR_KEYS), ("blobs", BLOB_KEYS)]))
    how = draw(st.sampled_from(["value", "swap", "swap", "value", "twice", "drop", "key", "top"]))
    if how == "top" or not isinstance(fields.get(rows), list) or len(fields[rows]) < 2:
        key = draw(st.sampled_from(sorted(TOP_KEYS)))
        fields[key] = draw(TOP_KEYS[key])
        return
    if not all(isinstance(row, dict) for row in fields[rows]):
        return
    one, other = draw(st.permutations(fields[rows]))[:2]
    key = draw(st.sampled_from(sorted(keys)))
    if how == "value":
        one[key] = draw(keys[key])
    elif how == "swap":  # a layout that is right, and contents that are not
        for name in draw(st.sampled_from([["id"], ["at", "sizes", "codecs"], ["at", "stored"], [key]])):
            if name in one and name in other:
                one[name], other[name] = other[name], one[name]
    elif how == "twice":
        fields[rows].append(dict(one))
    elif how == "drop":
        fields[rows].remove(one)
    else:
        one.pop(key, None)


@fuzzed(INDEXES)
@given(data=st.data())
def test_any_index(good: tuple[TensorStore, bytes], data: st.DataObject) -> None:
    store, pack = good
    fields, frames = taken_apart(pack)
    for _ in range(data.draw(st.integers(1, 3))):
        spoil(fields, data.draw)
    check(store, put_together(fields, frames))


def zstd_that_claims(size: int) -> bytes:
    """A frame whose header promises ``size`` bytes, of which there are none: one empty last block."""
    return bytes.fromhex("28b52ffd") + b"\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


CONTENTS = st.one_of(
    st.binary(max_size=70),
    st.sampled_from([0, 1, 7, 64, 128, 1 << 22]).map(lambda n: compression.compress(bytes(n))),
    st.sampled_from([0, 1, 64, 2**31, 2**62, 2**64 - 1]).map(zstd_that_claims),
)
PLANE = st.builds(
    lambda method, content, claim: bytes([method]) + (len(content) if claim is None else claim).to_bytes(4, "little") + content,
    st.integers(0, 4),
    CONTENTS,
    st.one_of(st.none(), st.none(), st.sampled_from([0, 1, 64, 2**31, 2**32 - 1])),
)  # fmt: skip
PAYLOAD = st.one_of(
    st.binary(min_size=1, max_size=140),
    st.lists(PLANE, min_size=1, max_size=4).map(b"".join),
    st.builds(lambda kind, planes: bytes([kind]) + b"".join(planes), st.integers(0, 4), st.lists(PLANE, max_size=4)),
)


def laid_out(fields: Table, frames: bytes, draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[Table, bytes]:
    """The same pack with other payloads in some frames, laid out as it must be."""
    out = b""
    for row in [*fields["tensors"], *fields["blobs"]]:
        at, sizes = row["at"] - packs.HEAD_SIZE, row.get("sizes", [row.get("stored")])
        row["at"] = packs.HEAD_SIZE + len(out)
        payload = frames[at : at + sum(sizes)]
        if draw(st.booleans()) and payload:
            payload = draw(
                st.one_of(PAYLOAD, CONTENTS.filter(len), st.just(payload[:-1] or b"0"), st.just(payload + b"\0"))
            )
            if "sizes" in row:
                row["codecs"] = [draw(st.integers(0, len(fields["codecs"]) - 1))]
                row["base"] = draw(st.sampled_from([BASE.id, row["base"]]))
            else:
                row["zstd"] = draw(st.booleans())
                row["length"] = len(payload) if not row["zstd"] else draw(st.sampled_from([0, 1, 64, 500, 2**29]))
        if "sizes" in row:
            row["sizes"] = [len(payload)]
        else:
            row["stored"] = len(payload)
        out += payload
    return fields, out


@fuzzed(PAYLOADS)
@given(data=st.data())
def test_any_payload(good: tuple[TensorStore, bytes], data: st.DataObject) -> None:
    store, pack = good
    check(store, put_together(*laid_out(*taken_apart(pack), data.draw)))


def test_what_is_unspoilt_is_believed(good: tuple[TensorStore, bytes]) -> None:
    store, pack = good
    assert check(store, put_together(*taken_apart(pack)))


def row_of(name: str, shape: list[int], sizes: list[int], at: int) -> Table:
    return {
        "id": name,
        "dtype": "F64",
        "shape": shape,
        "base": None,
        "at": at,
        "codecs": [0] * len(sizes),
        "sizes": sizes,
    }


def test_a_tensor_that_is_larger_than_all_memory(good: tuple[TensorStore, bytes]) -> None:
    """Ten thousand frames of sixteen million equal entries each: 1.3 TB from 400 kB, and every count is right."""
    store, _ = good
    frame = b"".join(b"\0\1\0\0\0\0" for _ in range(8))
    count, block = 10_000, 1 << 24
    frames = frame * count
    fields = {
        "block": block, "codecs": ["planes"], "blobs": [],
        "tensors": [row_of("ab" * 32, [block, count], [len(frame)] * count, packs.HEAD_SIZE)],
    }  # fmt: skip
    path = store.packs / "x.pack"
    path.write_bytes(put_together(fields, frames))
    fresh = TensorStore(store.packs, store.tmp)
    with pytest.raises(Damaged, match="do not fit in memory"):
        fresh.read(TensorId("ab" * 32))
    path.unlink()


@pytest.mark.parametrize("what", ["frames of nothing", "a million dimensions", "an index of zeros"])
def test_little_that_claims_to_be_much(good: tuple[TensorStore, bytes], what: str) -> None:
    store, _ = good
    name, at = "ab" * 32, packs.HEAD_SIZE
    rows = {
        "frames of nothing": row_of(name, [1 << 17, 1 << 16], [0] * (1 << 16), at),
        "a million dimensions": row_of(name, [2**62] * 1_000_000, [0], at),
        "an index of zeros": row_of(name, [0], [0] * 5_000_000, at),
    }
    fields: Table = {"block": 1 << 17, "codecs": ["raw"], "blobs": [], "tensors": [rows[what]]}
    index = compression.compress(plain := canonical(fields))
    numbers = b"".join(n.to_bytes(8, "little") for n in (at, len(index), len(plain)))
    path = store.packs / "x.pack"
    path.write_bytes(packs.head() + index + numbers + bytes.fromhex(file_digest([index])) + b"pack end")
    with pytest.raises(Damaged, match=path.name):
        packs.open_pack(path)
    path.unlink()
