"""The pack format: what is written is what the format says, and nothing damaged is believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persona.errors import Damaged
from persona.ids import BlobId, TensorId, blob_id, file_digest
from persona.progress import SILENT
from persona.store import compression, packs
from persona.store.objects import canonical
from persona.store.tensors import TensorStore

from .conftest import Counter, Plain, bf16, write_safetensors

BASE = bf16((8, 8))
TUNED = bf16((8, 8), 1, like=BASE)
GROWN = Plain("BF16", (9, 8), TUNED.data[:16] + BASE.data)
NOISE = Plain("F32", (3, 5), np.random.default_rng(5).bytes(60))
SPARSE = Plain("F32", (128,), bytes(512))
SCALAR = Plain("I64", (), (7).to_bytes(8, "little"))
EMPTY = Plain("F16", (0, 4), b"")
QUARTER = Plain("F4", (3, 2), b"\x12\x34\x56")
TENSORS = (TUNED, GROWN, NOISE, SPARSE, SCALAR, EMPTY, QUARTER)
BLOBS = (b"{}", b"text " * 100, b"")


@pytest.fixture
def filled(store: TensorStore, tmp_path: Path) -> TensorStore:
    """A kept base, and one pack with everything in it."""
    store.adopt_safetensors(write_safetensors(tmp_path / "base.safetensors", {"w": BASE}), Counter())
    with store.writer() as writer:
        for data in BLOBS:
            writer.add_blob(data)
        writer.add_tensors([t.incoming(BASE.id) for t in TENSORS], Counter())
        writer.finish()
    return store


def pack_of(store: TensorStore) -> Path:
    (path,) = store.packs.glob("*.pack")
    return path


def read_index(data: bytes) -> tuple[int, dict[str, Any]]:
    """The format's own description, followed by hand."""
    footer = data[-64:]
    at, stored, plain = (int.from_bytes(footer[k : k + 8], "little") for k in (0, 8, 16))
    index = data[at : at + stored]
    assert file_digest([index]) == footer[24:56].hex()
    assert footer[56:] == b"pack end"
    return at, json.loads(index if stored == plain else compression.expand(index, plain))


def rebuilt(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Put another index, with a right digest, into a pack."""
    data = path.read_bytes()
    at, fields = read_index(data)
    change(fields)
    index = canonical(fields)
    numbers = b"".join(n.to_bytes(8, "little") for n in (at, len(index), len(index)))
    path.write_bytes(data[:at] + index + numbers + bytes.fromhex(file_digest([index])) + b"pack end")


def reopened(store: TensorStore) -> TensorStore:
    return TensorStore(store.packs, store.tmp)


def everything(store: TensorStore) -> list[bytes | None]:
    """All contents, None where they are found damaged."""
    found: list[bytes | None] = []
    for tensor in TENSORS:
        try:
            found.append(store.read(tensor.id).tobytes())
            assert b"".join(b.tobytes() for b in store.blocks(tensor.id, 7)) == tensor.data
        except Damaged as error:
            assert tensor.id in error.message
            found.append(None)
    for data in BLOBS:
        try:
            found.append(store.blob(blob_id(data)))
        except Damaged as error:
            assert blob_id(data) in error.message
            found.append(None)
    return found


CONTENTS: list[bytes] = [t.data for t in TENSORS] + list(BLOBS)


def test_everything_comes_back(filled: TensorStore) -> None:
    assert everything(reopened(filled)) == CONTENTS


def test_the_file_is_what_the_format_says(filled: TensorStore) -> None:
    path = pack_of(filled)
    data = path.read_bytes()
    assert path.name == file_digest([data]) + ".pack"
    assert data[:16] == b"persona pack\x01\0\0\0"
    at, fields = read_index(data)
    rows = {row["id"]: row for row in fields["tensors"]}
    spans = sorted(
        [(row["at"], sum(row["sizes"])) for row in rows.values()] + [(b["at"], b["stored"]) for b in fields["blobs"]]
    )
    assert sum(size for _, size in spans) == at - 16
    assert fields["block"] == packs.BLOCK
    assert rows[TUNED.id]["base"] == BASE.id
    assert [fields["codecs"][k] for k in rows[TUNED.id]["codecs"]] == ["delta"]
    assert [fields["codecs"][k] for k in rows[NOISE.id]["codecs"]] == ["raw"]
    assert rows[NOISE.id]["base"] is None
    start = rows[NOISE.id]["at"]
    assert data[start : start + 60] == NOISE.data


def test_every_flipped_byte_is_found_or_harmless(filled: TensorStore, tmp_path: Path) -> None:
    path = pack_of(filled)
    good = path.read_bytes()
    at, _ = read_index(good)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        found = everything(reopened(filled))
        assert all(got in (None, want) for got, want in zip(found, CONTENTS, strict=True)), place
        if 16 <= place < at:
            assert sum(got is None for got in found) <= 1, f"byte {place} of the frames belongs to one thing"


def test_every_flip_of_the_list_of_kept_ids_is_found_or_harmless(filled: TensorStore) -> None:
    (path,) = filled.packs.glob("*.json")
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        try:
            assert reopened(filled).read(BASE.id).tobytes() == BASE.data
        except Damaged as error:
            assert BASE.id in error.message


def test_flips_of_a_kept_file_are_found(filled: TensorStore) -> None:
    (path,) = filled.packs.glob("*.safetensors")
    good = path.read_bytes()
    for place in range(len(good) - len(BASE.data), len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        fresh = reopened(filled)
        with pytest.raises(Damaged, match=BASE.id):
            fresh.read(BASE.id)
        with pytest.raises(Damaged, match=TUNED.id):
            fresh.read(TUNED.id)


def test_every_truncation_is_found(filled: TensorStore) -> None:
    path = pack_of(filled)
    good = path.read_bytes()
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        assert everything(reopened(filled)) == [None] * len(CONTENTS)


def test_a_damaged_pack_is_named_and_the_others_are_read(filled: TensorStore) -> None:
    path = pack_of(filled)
    path.write_bytes(path.read_bytes()[:-1])
    fresh = reopened(filled)
    assert fresh.read(BASE.id).tobytes() == BASE.data
    assert TUNED.id not in fresh
    with pytest.raises(Damaged, match=path.name):
        fresh.read(TUNED.id)
    assert list(fresh.damaged) == [path]


def test_a_newer_pack_says_so(filled: TensorStore) -> None:
    path = pack_of(filled)
    data = bytearray(path.read_bytes())
    data[12] = 2
    path.write_bytes(data)
    with pytest.raises(Damaged, match="newer version of persona \\(pack version 2\\)"):
        packs.open_pack(path)


def first(fields: dict[str, Any]) -> dict[str, Any]:
    return fields["tensors"][0]


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no codecs": lambda f: f.pop("codecs"),
    "an unknown codec": lambda f: f.update(codecs=["delta", "planes", "zpaq"]),
    "a codec that is a path": lambda f: f.update(codecs=["../raw", "planes", "raw"]),
    "a shared part as codec": lambda f: f.update(codecs=["_planes", "planes", "raw"]),
    "a codec number out of range": lambda f: first(f).update(codecs=[9]),
    "a negative codec number": lambda f: first(f).update(codecs=[-1]),
    "blocks of nothing": lambda f: f.update(block=0),
    "blocks that fill the memory": lambda f: f.update(block=1 << 40),
    "an id that is a path": lambda f: first(f).update(id="../" * 21 + "a"),
    "an id of another length": lambda f: first(f).update(id="ab"),
    "a base that is no id": lambda f: first(f).update(base="base"),
    "itself as base": lambda f: first(f).update(base=first(f)["id"]),
    "an unknown dtype": lambda f: first(f).update(dtype="F128"),
    "a dtype that is a list": lambda f: first(f).update(dtype=["F32"]),
    "a negative shape": lambda f: first(f).update(shape=[-8, -8]),
    "a shape of floats": lambda f: first(f).update(shape=[8.0, 8]),
    "a shape of booleans": lambda f: first(f).update(shape=[True]),
    "a shape that asks for more frames": lambda f: first(f).update(shape=[1 << 20, 8]),
    "a shape beyond everything": lambda f: first(f).update(shape=[1 << 62, 1 << 62]),
    "entries that fill no byte": lambda f: first(f).update(dtype="F4", shape=[3]),
    "a size that is negative": lambda f: first(f).update(sizes=[-1]),
    "two frames for one block": lambda f: first(f).update(sizes=[1, 1], codecs=[0, 0]),
    "an offset inside the head": lambda f: first(f).update(at=0),
    "an offset behind the end": lambda f: first(f).update(at=1 << 40),
    "the same tensor twice": lambda f: f["tensors"].append(f["tensors"][0]),
    "a blob with two lengths": lambda f: f["blobs"][0].update(length=99),
    "a blob outside": lambda f: f["blobs"][0].update(at=1 << 40),
    "a table instead of a list": lambda f: f.update(tensors={"a": 1}),
    "a number instead of a list": lambda f: f.update(tensors=5),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_indexes_are_refused(what: str, filled: TensorStore) -> None:
    path = pack_of(filled)
    rebuilt(path, HOSTILE[what])
    with pytest.raises(Damaged, match=path.name):
        packs.open_pack(path)


def test_an_index_that_is_no_table_is_refused(filled: TensorStore) -> None:
    path = pack_of(filled)
    at, _ = read_index(path.read_bytes())
    for index in (b"[]", b"7", b"{", b"[" * 5000, b"\xff"):
        numbers = b"".join(n.to_bytes(8, "little") for n in (at, len(index), len(index)))
        tail = index + numbers + bytes.fromhex(file_digest([index])) + b"pack end"
        path.write_bytes(path.read_bytes()[:at] + tail)
        with pytest.raises(Damaged, match=path.name):
            packs.open_pack(path)


def test_a_compressed_index_is_held_to_its_size(filled: TensorStore) -> None:
    path = pack_of(filled)
    data = path.read_bytes()
    at, _ = read_index(data)
    bomb = compression.compress(bytes(1 << 20))
    for plain in (len(bomb) + 1, (1 << 20) - 1, 1 << 40):
        numbers = b"".join(n.to_bytes(8, "little") for n in (at, len(bomb), plain))
        path.write_bytes(data[:at] + bomb + numbers + bytes.fromhex(file_digest([bomb])) + b"pack end")
        with pytest.raises(Damaged, match=path.name):
            packs.open_pack(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: first(f).update(base=None),
        lambda f: first(f).update(base="0" * 64),
        lambda f: first(f).update(base=f["tensors"][1]["id"]),
        lambda f: first(f).update(base=SPARSE.id),
        lambda f: first(f).update(dtype="F16"),
        lambda f: first(f).update(shape=[64]),
    ],
    ids=["no base", "missing base", "a difference as base", "a base of another width", "dtype", "shape"],
)
def test_an_index_that_lies_hands_out_nothing(change: Callable[[dict[str, Any]], None], filled: TensorStore) -> None:
    rebuilt(pack_of(filled), change)
    fresh = reopened(filled)
    with pytest.raises(Damaged):
        fresh.read(TUNED.id)
    with pytest.raises(Damaged):
        list(fresh.blocks(TUNED.id, 5))


def test_differences_that_name_each_other_end(filled: TensorStore) -> None:
    def circle(fields: dict[str, Any]) -> None:
        tuned, grown = fields["tensors"][:2]
        tuned["base"], grown["base"] = grown["id"], tuned["id"]

    rebuilt(pack_of(filled), circle)
    shutil.rmtree(filled.tmp)
    for path in filled.packs.glob("*.json"):
        path.unlink()
    with pytest.raises(Damaged, match="cannot be a difference"):
        reopened(filled).read(TUNED.id)


def test_a_large_index_is_compressed(store: TensorStore) -> None:
    with store.writer() as writer:
        writer.add_tensors([bf16((3,), seed).incoming() for seed in range(60)], Counter())
        writer.finish()
    data = pack_of(store).read_bytes()
    stored, plain = (int.from_bytes(data[k : k + 8], "little") for k in (-56, -48))
    assert stored < plain
    assert len(reopened(store).volumes()[0].tensors) == 60


def test_ids_are_of_their_kind(filled: TensorStore) -> None:
    volume = next(v for v in filled.volumes() if v.path.suffix == ".pack")
    assert all(type(name) is TensorId for name in volume.tensors)
    assert all(type(name) is BlobId for name in volume.blobs)
    with SILENT.task("nothing", 0) as task:
        task.advance(0)
