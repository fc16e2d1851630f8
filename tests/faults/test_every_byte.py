"""Flip bits all over a small repository: ``fsck`` finds it, or nothing that anyone reads has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import persona
from persona.errors import PersonaError
from persona.verbs.fsck import open_damaged
from tests.models import load

SHARE = 23
"""Without ``--slow`` one byte in so many is flipped."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of two tensors, a run that changed one, two commits."""
    folder = tmp_path_factory.mktemp("flips")
    base = {"w": torch.linspace(-1, 1, 24).bfloat16(), "b": torch.ones(3, dtype=torch.bfloat16)}
    for name, tensors in (("base", base), ("run", {**base, "w": (base["w"].float() * 1.01).bfloat16()})):
        (folder / name).mkdir()
        save_file(tensors, folder / name / "model.safetensors")
    persona.init(folder / "work", folder / "base", author="Test")
    persona.commit(persona.open(folder / "work"), folder / "run", name="a", author="Test")
    return folder / "work"


def flips(root: Path, step: int) -> int:
    """Flip one bit of every ``step``-th byte below ``.persona``; how many were tried."""
    wanted, tried = everything(root), 0
    for path in sorted((root / ".persona").rglob("*")):
        if not path.is_file() or path.name == "lock":
            continue
        data = path.read_bytes()
        for at in range(len(path.name) % step, len(data), step):
            broken = bytearray(data)
            broken[at] ^= 1 << (at % 8)
            path.write_bytes(broken)
            if not found(root):
                assert everything(root) == wanted, f"{path.relative_to(root)}, byte {at}"
            tried += 1
        path.write_bytes(data)
    assert found(root) is False
    return tried


def found(root: Path) -> bool:
    """Whether fsck says that something is wrong."""
    try:
        return not persona.fsck(open_damaged(root)).ok
    except PersonaError:
        return True


def everything(root: Path) -> object:
    """All that a user can get out of the repository: history, recipe, and the weights of both commits."""
    repo = persona.open(root)
    built = []
    for rev in ("HEAD", "HEAD~1"):
        out = root.parent / "out"
        persona.build(repo, out, rev, replace=True)
        built.append({name: tensor.view(torch.int16).tolist() for name, tensor in load(out).items()})
    return persona.log(repo), persona.status(repo).recipe, repo.head_text(), built


@pytest.mark.slow
def test_every_byte(root: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("fault points", flips(root, 1))


def test_some_bytes(root: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("fault points", flips(root, SHARE))
