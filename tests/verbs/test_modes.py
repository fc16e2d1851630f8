"""Weights that only their owner may read stay so, in the repository and in everything that is built from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import persona
from tests.models import TinyModels, write_adapter


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def copied(folder: Path, target: Path, mode: int) -> Path:
    """A copy of a checkpoint, with weights of this mode and other files that all may read."""
    shutil.copytree(folder, target)
    for path in target.iterdir():
        path.chmod(mode if path.suffix == ".safetensors" else 0o644)
    return target


def modes(folder: Path, pattern: str = "*.safetensors") -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob(pattern)}


@pytest.mark.parametrize(
    ("base", "run", "wanted"),
    [(0o644, 0o644, 0o644), (0o644, 0o600, 0o600), (0o600, 0o644, 0o600), (0o640, 0o640, 0o640), (0o777, 0o666, 0o644)],
)
def test_a_build_is_no_wider_than_what_it_is_made_of(
    models: TinyModels, tmp_path: Path, base: int, run: int, wanted: int
) -> None:
    persona.init(tmp_path / "work", copied(models.base(), tmp_path / "base", base))
    repo = persona.open(tmp_path / "work")
    persona.commit(repo, copied(models.run(1), tmp_path / "run", run), name="a", alpha=0.5)
    persona.build(repo, tmp_path / "out")
    assert modes(tmp_path / "out") == {wanted}
    assert modes(tmp_path / "out", "config.json") == {0o644}
    assert modes(repo.folder / "packs") == {base & 0o644}
    persona.build(repo, tmp_path / "first", "HEAD~1")
    assert modes(tmp_path / "first") == {base & 0o644}, "a vector that does not act is not in it"
    if wanted == 0o600:
        persona.bake(repo, ["a"], name="b")
        persona.export(repo, tmp_path / "merge.yml")
        persona.build(repo, tmp_path / "baked")
        assert modes(tmp_path / "baked") == {0o600}
        weights = [p for p in tmp_path.rglob("*.safetensors") if "merge" in str(p.parent) and ".persona" not in p.parts]
        assert {p.stat().st_mode & 0o077 for p in weights} == {0, base & 0o044}, "the base has a file of its own"
        persona.gc(repo)
        persona.build(repo, tmp_path / "after")
        assert modes(tmp_path / "after") == {0o600}


def test_an_adapter_too(models: TinyModels, tmp_path: Path) -> None:
    adapter = copied(write_adapter(models.base(), tmp_path / "trained"), tmp_path / "adapter", 0o600)
    persona.init(tmp_path / "work", copied(models.base(), tmp_path / "base", 0o644))
    repo = persona.open(tmp_path / "work")
    persona.commit(repo, adapter, name="a")
    assert 0o600 in modes(repo.folder / "packs", "*.pack")
    persona.build(repo, tmp_path / "out", as_adapter=True)
    assert modes(tmp_path / "out") == {0o600}
