"""The tensor store: what is asked for by id is handed out bit for bit, or not at all."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona import files
from persona.checkpoints.dtypes import BITS
from persona.errors import CheckpointError, Damaged, Refusal, Storage
from persona.ids import BlobId, TensorId, file_digest
from persona.store import kept
from persona.store.packs import BLOCK
from persona.store.tensors import Incoming, PackSummary, TensorStore

from .conftest import Counter, Plain, bf16, write_safetensors

LARGE = bf16((3, BLOCK // 2 + 77))
"""More than one block, and not a multiple of one."""


def put(store: TensorStore, *items: Incoming) -> PackSummary:
    with store.writer() as writer:
        writer.add_tensors(items, Counter())
        return writer.finish()


def keep(store: TensorStore, path: Path, **tensors: Plain) -> None:
    store.adopt_safetensors(write_safetensors(path, tensors), Counter())


def joined(blocks: Iterator[np.ndarray]) -> bytes:
    return b"".join(block.tobytes() for block in blocks)


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_importing_and_constructing_needs_no_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from persona.store.tensors import TensorStore;"
        f"s = TensorStore(Path({str(tmp_path)!r}) / 'packs', Path({str(tmp_path)!r}) / 'tmp');"
        "s.volumes(); assert not {'numpy', 'torch'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(kept.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_a_missing_id_is_named(store: TensorStore) -> None:
    name = TensorId("ab" * 32)
    assert name not in store
    for ask in (store.read, store.blocks, store.describe):
        with pytest.raises(Damaged, match=name):
            ask(name)
    with pytest.raises(Damaged, match="blob cdcd"):
        store.blob(BlobId("cd" * 32))


def test_an_empty_writer_publishes_nothing(store: TensorStore) -> None:
    with store.writer() as writer:
        summary = writer.finish()
    assert summary == PackSummary((), 0, 0, 0, 0)
    assert everything_in(store.packs) == everything_in(store.tmp) == []


def test_nothing_is_visible_before_finish_and_nothing_stays_without_it(store: TensorStore) -> None:
    tensor = bf16((10, 10))
    with store.writer() as writer:
        blob = writer.add_blob(b"some text")
        writer.add_tensors([tensor.incoming()], Counter())
        assert tensor.id not in store
        assert not store.has_blob(blob)
    assert everything_in(store.packs) == everything_in(store.tmp) == []
    with pytest.raises(ValueError, match="closed"):
        writer.finish()


def test_what_is_there_is_not_written_again(store: TensorStore) -> None:
    tensor = bf16((10, 10))
    first = put(store, tensor.incoming(), tensor.incoming())
    assert (first.tensors, first.plain_bytes) == (1, 200)
    with store.writer() as writer:
        assert writer.add_blob(b"text") == writer.add_blob(b"text")
        task = Counter()
        writer.add_tensors([tensor.incoming()], task)
        again = writer.finish()
    assert (again.tensors, again.blobs, task.done) == (0, 1, 200)
    assert put(store, tensor.incoming()).names == ()


def test_another_process_sees_what_was_published(store: TensorStore) -> None:
    other = TensorStore(store.packs, store.tmp)
    tensor = bf16((10, 10))
    assert tensor.id not in other
    summary = put(store, tensor.incoming())
    assert other.read(tensor.id).tobytes() == tensor.data
    assert other.describe(tensor.id).pack == summary.names[0]


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_every_dtype_comes_back(dtype: str, store: TensorStore) -> None:
    data = np.random.default_rng(3).bytes(BITS[dtype] * 16 // 8)
    near = bytes([data[0] ^ 1]) + data[1:]
    base, tuned = Plain(dtype, (4, 4), data), Plain(dtype, (4, 4), near)
    put(store, base.incoming())
    put(store, tuned.incoming(base.id))
    for tensor in (base, tuned):
        assert store.read(tensor.id).tobytes() == tensor.data
        assert joined(store.blocks(tensor.id, 3)) == tensor.data
        assert store.read(tensor.id).itemsize == max(BITS[dtype] // 8, 1)


def test_scalars_have_one_entry_and_empty_tensors_none(store: TensorStore) -> None:
    scalar, empty = Plain("F32", (), b"\1\2\3\4"), Plain("BF16", (4, 0), b"")
    put(store, scalar.incoming(), empty.incoming())
    assert [block.tolist() for block in store.blocks(scalar.id)] == [[0x04030201]]
    assert list(store.blocks(empty.id)) == []
    assert store.read(empty.id).shape == (0,)
    assert store.describe(empty.id).shape == (4, 0)


@pytest.mark.parametrize("entries", [1000, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK])
@pytest.mark.parametrize("how", ["kept", "pack", "difference"])
def test_blocks_have_the_size_that_was_asked_for(how: str, entries: int, store: TensorStore, tmp_path: Path) -> None:
    tensor = bf16(LARGE.shape, 9, like=LARGE) if how == "difference" else LARGE
    if how == "pack":
        put(store, tensor.incoming())
    else:
        keep(store, tmp_path / "f.safetensors", w=LARGE)
        put(store, tensor.incoming(LARGE.id))
    blocks = list(store.blocks(tensor.id, entries))
    assert {len(block) for block in blocks[:-1]} <= {entries}
    assert 0 < len(blocks[-1]) <= entries
    assert joined(iter(blocks)) == tensor.data
    assert store.read(tensor.id).tobytes() == tensor.data


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 12))
def test_reblocking_keeps_every_entry(sizes: list[int], size: int) -> None:
    from persona.store.tensors import _reblocked

    numbers = iter(range(1000))
    parts = [np.array(list(itertools.islice(numbers, n)), "<u2") for n in sizes]
    blocks = list(_reblocked(parts, size))
    assert [n for block in blocks for n in block.tolist()] == list(range(sum(sizes)))
    assert all(len(block) == size for block in blocks[:-1])


def test_tensors_at_odd_offsets_are_handed_out_aligned(store: TensorStore, tmp_path: Path) -> None:
    odd = Plain("U8", (3,), b"abc")
    wide = Plain("F32", (2, 5), bytes(range(40)))
    keep(store, tmp_path / "f.safetensors", a=odd, b=wide)
    blocks = list(store.blocks(wide.id, 4))
    assert all(block.flags.aligned for block in blocks)
    assert joined(iter(blocks)) == wide.data
    assert store.read(wide.id).flags.aligned


def test_a_fine_tune_is_stored_as_a_difference(store: TensorStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "f.safetensors", w=LARGE)
    tuned = bf16(LARGE.shape, 4, like=LARGE)
    put(store, tuned.incoming(LARGE.id))
    said = store.describe(tuned.id)
    assert (said.codecs, said.base, said.dtype, said.shape) == (("delta",), LARGE.id, "BF16", LARGE.shape)
    assert said.stored_bytes < 0.2 * len(tuned.data)
    kept_as = store.describe(LARGE.id)
    assert (kept_as.codecs, kept_as.base, kept_as.stored_bytes) == (("raw",), None, len(LARGE.data))


def test_the_smallest_codec_is_kept_block_by_block(store: TensorStore) -> None:
    rng = np.random.default_rng(0)
    base = Plain("BF16", (3 * BLOCK,), rng.bytes(6 * BLOCK))
    near = np.frombuffer(base.data, "<u2")[:BLOCK] ^ 1
    mixed = near.tobytes() + bytes(2 * BLOCK) + rng.bytes(2 * BLOCK)
    tuned = Plain("BF16", (3 * BLOCK,), mixed)
    put(store, base.incoming())
    put(store, tuned.incoming(base.id))
    assert store.describe(base.id).codecs == ("raw",)
    assert store.describe(tuned.id).codecs == ("delta", "planes", "raw")
    assert store.read(tuned.id).tobytes() == tuned.data


def test_rows_added_at_the_end_are_stored_without_a_base(store: TensorStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "f.safetensors", w=LARGE)
    new = bf16((2, LARGE.shape[1]), 7)
    grown = Plain("BF16", (5, LARGE.shape[1]), bf16(LARGE.shape, 6, like=LARGE).data + new.data)
    seen: list[tuple[int, int | None]] = []
    with store.writer() as writer:
        writer.add_tensors(
            [grown.incoming(LARGE.id)],
            Counter(),
            lambda name, bits, base: seen.append((len(bits), None if base is None else len(base))),
        )
        writer.finish()
    assert store.read(grown.id).tobytes() == grown.data
    assert store.describe(grown.id).base == LARGE.id
    assert "delta" in store.describe(grown.id).codecs
    assert sum(bits for bits, _ in seen) == 5 * LARGE.shape[1]
    assert sum(base or 0 for _, base in seen) == 3 * LARGE.shape[1]


@pytest.mark.parametrize(
    "base",
    [bf16((8, 4)), Plain("F16", (4, 8), bf16((4, 8)).data), bf16((32,)), bf16((5, 8)), Plain("BF16", (), b"ab")],
    ids=["shape", "dtype", "rank", "more rows", "scalar"],
)
def test_a_base_of_another_shape_or_dtype_is_not_used(base: Plain, store: TensorStore) -> None:
    tuned = bf16((4, 8), 1)
    put(store, base.incoming())
    put(store, tuned.incoming(base.id))
    assert store.describe(tuned.id).base is None


def test_differences_are_one_step_deep(store: TensorStore) -> None:
    one = bf16((40, 40))
    two, three = bf16((40, 40), 1, like=one), bf16((40, 40), 2, like=one)
    put(store, one.incoming())
    put(store, two.incoming(one.id))
    with pytest.raises(Refusal, match=r"my layer.*difference"):
        put(store, three.incoming(two.id, "my layer"))
    assert three.id not in store


def test_a_whole_copy_is_preferred_to_a_difference(store: TensorStore, tmp_path: Path) -> None:
    one = bf16((40, 40))
    two, three = bf16((40, 40), 1, like=one), bf16((40, 40), 2, like=one)
    put(store, one.incoming())
    put(store, two.incoming(one.id))
    keep(store, tmp_path / "f.safetensors", w=two)
    fresh = TensorStore(store.packs, store.tmp)
    put(fresh, three.incoming(two.id))
    assert fresh.describe(three.id).base == two.id
    assert fresh.read(three.id).tobytes() == three.data


def test_a_missing_or_damaged_base_stores_nothing(store: TensorStore, tmp_path: Path) -> None:
    base, tuned = bf16((40, 40)), bf16((40, 40), 1)
    with pytest.raises(Damaged, match=base.id):
        put(store, tuned.incoming(base.id))
    keep(store, tmp_path / "f.safetensors", w=base)
    (file,) = store.packs.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\x99")
    with pytest.raises(Damaged, match=base.id.short):
        put(store, tuned.incoming(base.id))
    assert not list(store.packs.glob("*.pack"))
    assert everything_in(store.tmp) == []


def test_a_deleted_base_is_named(store: TensorStore, tmp_path: Path) -> None:
    base, tuned = bf16((40, 40)), bf16((40, 40), 1)
    tuned = bf16((40, 40), 1, like=base)
    keep(store, tmp_path / "f.safetensors", w=base)
    put(store, tuned.incoming(base.id))
    for path in [*store.packs.glob("*.safetensors"), *store.packs.glob("*.json")]:
        path.unlink()
    with pytest.raises(Damaged, match=base.id):
        TensorStore(store.packs, store.tmp).read(tuned.id)


def test_bytes_that_are_not_what_the_id_says_are_refused(store: TensorStore) -> None:
    right, wrong = bf16((400, 400), 1), bf16((400, 400), 2)
    item = right.incoming(label="model.safetensors: w")._replace(data=wrong.incoming().data)
    with pytest.raises(Storage, match=r"model.safetensors: w changed while it was being read"):
        put(store, bf16((4,)).incoming(), item)
    assert everything_in(store.packs) == everything_in(store.tmp) == []


def test_bytes_that_do_not_fill_the_shape_are_refused(store: TensorStore) -> None:
    tensor = bf16((4, 4))
    with pytest.raises(CheckpointError, match="shape"):
        put(store, tensor.incoming()._replace(shape=(4, 5)))


def test_every_block_is_seen_with_its_base(store: TensorStore) -> None:
    tuned = bf16(LARGE.shape, 3, like=LARGE)
    put(store, LARGE.incoming())
    seen: dict[TensorId, int] = {}
    lock = threading.Lock()

    def on_block(name: TensorId, bits: np.ndarray, base: np.ndarray | None) -> None:
        assert base is not None
        with lock:
            seen[name] = seen.get(name, 0) + int((bits != base).sum())

    task = Counter()
    with store.writer() as writer:
        writer.add_tensors([tuned.incoming(LARGE.id)], task, on_block)
        writer.finish()
    pairs = np.frombuffer(tuned.data, "<u2"), np.frombuffer(LARGE.data, "<u2")
    assert seen == {tuned.id: int((pairs[0] != pairs[1]).sum())}
    assert task.done == len(tuned.data)


def test_an_error_in_a_worker_ends_everything(store: TensorStore) -> None:
    def on_block(name: TensorId, bits: np.ndarray, base: np.ndarray | None) -> None:
        raise KeyError("mine")

    writer = store.writer()
    with writer, pytest.raises(KeyError, match="mine"):
        writer.add_tensors([LARGE.incoming()], Counter(), on_block)
    assert everything_in(store.tmp) == []
    with pytest.raises(ValueError, match="closed"):
        writer.add_blob(b"more")


def test_the_last_block_is_only_handed_out_if_the_whole_is_right(store: TensorStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "f.safetensors", w=LARGE)
    (file,) = store.packs.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-len(LARGE.data)] ^= 1  # in the first block
    file.write_bytes(data)
    count = -(-len(LARGE.data) // 2 // 1000)
    blocks = store.blocks(LARGE.id, 1000)
    for _ in range(count - 1):
        next(blocks)
    with pytest.raises(Damaged, match=f"{LARGE.id}.*{file.name}"):
        next(blocks)


def test_an_iterator_may_be_left_early(store: TensorStore) -> None:
    put(store, LARGE.incoming())
    blocks = store.blocks(LARGE.id, 1000)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert store.read(LARGE.id).tobytes() == LARGE.data


def test_many_readers_at_once(store: TensorStore, tmp_path: Path) -> None:
    base = bf16((300, 300))
    tuned = [bf16((300, 300), seed, like=base) for seed in range(1, 7)]
    keep(store, tmp_path / "f.safetensors", w=base)
    put(store, *(t.incoming(base.id) for t in tuned))
    fresh = TensorStore(store.packs, store.tmp)
    together = threading.Barrier(8)

    def read(number: int) -> bool:
        together.wait()
        one = [*tuned, base][number % 7]
        return fresh.read(one.id).tobytes() == joined(fresh.blocks(one.id, 777)) == one.data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(64)))


def test_a_pack_that_went_away_is_found_in_its_other_place(store: TensorStore, tmp_path: Path) -> None:
    tensor = bf16((10, 10))
    first = put(store, tensor.incoming())
    reader = TensorStore(store.packs, store.tmp)
    assert tensor.id in reader
    keep(store, tmp_path / "f.safetensors", w=tensor)
    (store.packs / first.names[0]).unlink()
    assert reader.read(tensor.id).tobytes() == tensor.data


def test_what_is_being_read_may_be_deleted(store: TensorStore) -> None:
    summary = put(store, LARGE.incoming())
    blocks = store.blocks(LARGE.id, 1000)
    (store.packs / summary.names[0]).unlink()
    assert joined(blocks) == LARGE.data
    with pytest.raises(Damaged, match=LARGE.id):
        TensorStore(store.packs, store.tmp).read(LARGE.id)


# Safetensors files kept as they came


def test_a_kept_file_is_the_file(store: TensorStore, tmp_path: Path) -> None:
    tensors = {"b": bf16((5, 7)), "a": Plain("F32", (), b"abcd"), "none": Plain("BF16", (0,), b""), "big": LARGE}
    path = write_safetensors(tmp_path / "model.safetensors", tensors)
    before = path.read_bytes()
    task = Counter()
    adopted = store.adopt_safetensors(path, task)
    assert adopted.name == f"{file_digest([before])}.safetensors"
    assert dict(adopted.tensors) == {name: t.id for name, t in tensors.items()}
    assert (store.packs / adopted.name).read_bytes() == path.read_bytes() == before
    said = json.loads((store.packs / adopted.name).with_suffix(".json").read_bytes())
    assert said == {"tensors": [t.id for t in tensors.values()], "version": 1}
    assert task.done == len(before)
    for tensor in tensors.values():
        assert store.read(tensor.id).tobytes() == tensor.data


def test_keeping_a_file_twice_writes_nothing(
    store: TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", {"w": LARGE})
    first = store.adopt_safetensors(path, Counter())
    effects: list[str] = []
    monkeypatch.setattr(files, "observer", lambda effect, at: effects.append(effect))
    task = Counter()
    assert store.adopt_safetensors(path, task) == first
    assert effects == []
    assert task.done == path.stat().st_size


def test_a_file_of_the_same_size_is_another_file(store: TensorStore, tmp_path: Path) -> None:
    one, two = bf16((9, 9), 1), bf16((9, 9), 2)
    keep(store, tmp_path / "a.safetensors", w=one)
    keep(store, tmp_path / "b.safetensors", w=two)
    assert (one.id in store, two.id in store) == (True, True)


def test_a_kept_file_without_its_ids_is_kept_again(store: TensorStore, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", {"w": LARGE})
    first = store.adopt_safetensors(path, Counter())
    (store.packs / first.name).with_suffix(".json").unlink()
    assert LARGE.id not in TensorStore(store.packs, store.tmp)
    assert store.adopt_safetensors(path, Counter()) == first
    assert store.read(LARGE.id).tobytes() == LARGE.data


def test_a_file_that_changes_while_it_is_read_is_kept_as_it_was_written(
    store: TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file becomes, the ids are of the bytes in the store."""
    monkeypatch.setattr(kept, "CHUNK", 4096)
    path = write_safetensors(tmp_path / "model.safetensors", {"w": LARGE})
    after = bf16(LARGE.shape, 8)
    pieces = kept._chunks

    def changing(source: Path) -> Iterator[memoryview]:
        for number, chunk in enumerate(pieces(source)):
            if number == 5 and source == path:
                write_safetensors(path, {"w": after})
            yield chunk

    monkeypatch.setattr(kept, "_chunks", changing)
    adopted = store.adopt_safetensors(path, Counter())
    name = adopted.tensors["w"]
    stored = (store.packs / adopted.name).read_bytes()
    assert file_digest([stored]) == Path(adopted.name).stem
    assert store.read(name).tobytes() == stored[-len(LARGE.data) :]


def test_a_file_that_is_cut_while_it_is_read_is_refused(
    store: TensorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", {"w": LARGE})
    pieces = kept._chunks

    def shorter(source: Path) -> Iterator[memoryview]:
        for chunk in pieces(source):
            yield chunk[:-8]

    monkeypatch.setattr(kept, "_chunks", shorter)
    with pytest.raises(Storage, match=r"model.safetensors changed while"):
        store.adopt_safetensors(path, Counter())
    assert everything_in(store.packs) == everything_in(store.tmp) == []


def test_a_file_that_is_not_safetensors_is_refused(store: TensorStore, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"PK\3\4 this is something else")
    with pytest.raises(CheckpointError, match=r"model.safetensors"):
        store.adopt_safetensors(path, Counter())
    assert everything_in(store.packs) == everything_in(store.tmp) == []


class _Stop(OSError):
    pass


def _at_most(effects: int) -> Iterator[None]:
    """Let so many file effects happen, then fail the next one."""
    left = itertools.count(effects, -1)

    def observer(effect: str, path: Path) -> None:
        if next(left) <= 0:
            raise Storage(f"{path}: disk full at {effect}")

    files.observer = observer
    try:
        yield
    finally:
        files.observer = None


@pytest.mark.parametrize("how", ["adopt", "write"])
def test_a_failure_at_any_file_effect_leaves_before_or_after(how: str, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", {"w": LARGE})
    for number in range(100):
        store = TensorStore(tmp_path / str(number) / "packs", tmp_path / str(number) / "tmp")
        guard = _at_most(number)
        next(guard)
        try:
            if how == "adopt":
                store.adopt_safetensors(path, Counter())
            else:
                put(store, LARGE.incoming())
            break
        except Storage:
            pass
        finally:
            guard.close()
        fresh = TensorStore(store.packs, store.tmp)
        assert everything_in(store.tmp) == []
        assert fresh.damaged == {}
        if LARGE.id in fresh:
            assert fresh.read(LARGE.id).tobytes() == LARGE.data
        elif how == "adopt":
            fresh.adopt_safetensors(path, Counter())
            assert fresh.read(LARGE.id).tobytes() == LARGE.data
    else:
        pytest.fail("it never ended")
    assert number > 5
