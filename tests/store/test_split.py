"""An ingest that is large is several packs: a tensor lies wholly in one, and everything works across them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import persona
from persona import files
from persona.errors import Storage
from persona.store import packwriter
from persona.store.packs import HEAD_SIZE, open_pack
from persona.store.tensors import TensorStore
from tests.models import TinyModels, assert_same, load

from .conftest import Counter, bf16

TENSORS = [bf16((40, 50), seed) for seed in range(6)]
LIMIT = 3000
"""Bytes: about one of these tensors, and a few of those of a tiny model."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packwriter, "SPLIT", LIMIT)


def test_it_is_split_between_tensors(store: TensorStore) -> None:
    with store.writer() as writer:
        blob = writer.add_blob(b"text" * 100)
        writer.add_tensors([t.incoming() for t in TENSORS], Counter())
        writer.add_tensors([t.incoming() for t in TENSORS], Counter())  # those of a pack that is closed, too
        assert writer.add_blob(b"text" * 100) == blob
        assert not list(store.packs.glob("*"))
        done = writer.finish()
    assert (done.tensors, done.blobs) == (len(TENSORS), 1)
    assert len(done.names) > 2
    assert sorted(done.names) == sorted(path.name for path in store.packs.iterdir())
    sizes = [(store.packs / name).stat().st_size for name in done.names]
    assert sum(sizes) == done.stored_bytes
    for name in done.names[:-1]:
        parts = [*open_pack(store.packs / name).tensors.values()]
        assert HEAD_SIZE + sum(t.stored for t in parts[:-1]) < LIMIT
    fresh = TensorStore(store.packs, store.tmp)
    assert [fresh.read(t.id).tobytes() for t in TENSORS] == [t.data for t in TENSORS]
    assert fresh.blob(blob) == b"text" * 100


def test_one_tensor_over_the_limit_is_one_pack(store: TensorStore) -> None:
    large = bf16((200, 200))
    with store.writer() as writer:
        writer.add_tensors([large.incoming(), TENSORS[0].incoming()], Counter())
        done = writer.finish()
    assert len(done.names) == 2
    assert TensorStore(store.packs, store.tmp).read(large.id).tobytes() == large.data


@pytest.mark.parametrize("at", range(1, 12))
def test_nothing_is_visible_before_all_of_it_is_durable(
    store: TensorStore, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error at a sync: no pack has its name yet, and what was unfinished is gone."""
    synced: list[str] = []

    def watch(effect: str, path: Path) -> None:
        if effect == "fsync" and path.parent == store.tmp:
            synced.append(path.name)
            if len(synced) == at:
                raise OSError("injected")

    monkeypatch.setattr(files, "observer", watch)
    with store.writer() as writer:
        try:
            writer.add_tensors([t.incoming() for t in TENSORS], Counter())
            writer.finish()
        except (OSError, Storage):
            assert not store.packs.exists() or not list(store.packs.iterdir())
        else:
            assert at > len(synced) >= 3
    assert list(store.tmp.iterdir()) == []


def test_a_repository_of_many_packs(
    models: TinyModels, repo: persona.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    persona.commit(repo, models.run(1), name="a")
    packs = list((repo.folder / "packs").glob("*.pack"))
    assert len(packs) > 5
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(models.run(1)))
    assert persona.fsck(repo).ok
    for path in packs[1::2]:  # every other one is lost: the run brings them back
        path.unlink()
    assert not persona.fsck(persona.open(repo.root)).ok
    for source in (models.base(), models.run(1)):  # the base's small files were in one of them
        healed = persona.fsck(persona.open(repo.root), repair_from=source)
    assert healed.ok
    persona.build(persona.open(repo.root), tmp_path / "again")
    assert_same(load(tmp_path / "again"), load(models.run(1)))
    persona.commit(repo, models.run(2), name="b")
    persona.undo(repo)
    assert persona.gc(repo, grace=0).files >= 5
    assert persona.fsck(persona.open(repo.root)).ok
    shutil.rmtree(tmp_path / "again")
    persona.build(persona.open(repo.root), tmp_path / "again")
    assert_same(load(tmp_path / "again"), load(models.run(1)))
