"""Small files are bounded in sum: one blob of zeros takes no space in a pack, and may have many names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import persona
from persona.errors import CheckpointError, Damaged, Refusal
from persona.ids import BaseId, BlobId
from persona.recipe.edit import put_vector
from persona.recipe.model import Entry
from persona.store import ingest_files, smallfiles
from persona.store.smallfiles import SmallFiles
from tests.models import TinyModels

ZEROS = bytes(100_000)


@pytest.fixture
def zeros(repo: persona.Repository) -> BlobId:
    with repo.tensors.writer() as writer:
        name = writer.add_blob(ZEROS)
        writer.finish()
    return name


def test_a_blob_is_read_once(repo: persona.Repository, zeros: BlobId) -> None:
    small = SmallFiles(repo.tensors)
    first, second = small.of({"a": zeros, "b": zeros}, "one"), small.of({"c": zeros}, "two")
    assert first == {"a": ZEROS, "b": ZEROS}
    assert first["a"] is first["b"] is second["c"]


def test_sums_are_bounded(repo: persona.Repository, zeros: BlobId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smallfiles, "LARGEST_TOGETHER", 1_000_000)
    monkeypatch.setattr(smallfiles, "LARGEST_IN_MEMORY", 150_000)
    small = SmallFiles(repo.tensors)
    small.of({str(number): zeros for number in range(10)}, "the base")
    with pytest.raises(Damaged, match="small files of vector 'a' are larger than"):
        small.of({str(number): zeros for number in range(11)}, "vector 'a'")
    with pytest.raises(Refusal, match="the base and its vectors"):
        small.of({"other": repo.tensors.lend_blob(ZEROS[1:])}, "vector 'b'")


def forged(repo: persona.Repository, kind: str, name: str, change: Callable[[dict[str, Any]], None]) -> str:
    fields = {
        key: value for key, value in repo.objects.get(BaseId(name), kind).items() if key not in ("kind", "version")
    }
    change(fields)
    return str(repo.objects.put(kind, fields))


def test_a_build_of_many_names(
    repo: persona.Repository, zeros: BlobId, models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smallfiles, "LARGEST_TOGETHER", 1_000_000)
    persona.commit(repo, models.run(1), name="a")
    entry = repo.recipe(repo.head()).vectors[0]
    many = {f"{number}.json": zeros for number in range(40)}
    hostile = forged(repo, "vector", entry.id, lambda fields: fields.update(files=many))
    repo.recipe_path.write_text(put_vector(repo.head_text(), Entry("b", hostile)))
    with pytest.raises(Damaged, match="the small files of vector 'b'"):
        persona.build(repo, tmp_path / "out")
    monkeypatch.setattr(ingest_files, "LARGEST_TOGETHER", 100)
    with pytest.raises(CheckpointError, match=r"the small files of .* are larger than"):
        persona.init(tmp_path / "other", models.base())


def test_a_tensor_that_is_not_as_large_as_its_object_says(repo: persona.Repository, tmp_path: Path) -> None:
    """No space is reserved for what a base only claims to have."""

    def grow(fields: dict[str, Any]) -> None:
        name = min(fields["tensors"])
        tensor, dtype, _ = fields["tensors"][name]
        fields["tensors"][name] = [tensor, dtype, [1 << 20, 1 << 20]]

    base = repo.recipe(repo.head()).base
    hostile = forged(repo, "base", base, grow)
    repo.recipe_path.write_text(repo.head_text().replace(base[:12], hostile[:12]))
    with pytest.raises(Damaged, match=r"is stated as .* \[1048576, 1048576\], but tensor .* is"):
        persona.build(repo, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
