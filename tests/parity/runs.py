"""A base and fine-tunes of it, random and large, for merges in both programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.models import TinyModels, load

Tensors = dict[str, torch.Tensor]
LIGHT = ("light-1", "light-2")


@pytest.fixture(scope="session")
def folders(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, three runs that have half of their way in common, two light ones, and one that goes the other way."""
    root = tmp_path_factory.mktemp("parity")
    shutil.copytree(models.base("float32"), root / "base")
    base = load(root / "base")
    generator = torch.Generator().manual_seed(0)
    common = {name: torch.randn(w.shape, generator=generator) for name, w in base.items()}
    for run, size, shared in [*((f"run-{n}", 0.35, 1) for n in (1, 2, 3)), *((name, 1e-4, 1) for name in LIGHT)]:
        moved = {}
        for number, (name, w) in enumerate(base.items()):
            own = torch.randn(w.shape, generator=generator) * (1 + number % 3 * (run[-1] == "2"))
            moved[name] = w + size * w.square().mean().sqrt() * (shared * common[name] + own)
        _save(root / run, moved, root / "base")
    first = load(root / "run-1")
    noise = {name: torch.randn(w.shape, generator=generator) * w.square().mean().sqrt() for name, w in base.items()}
    _save(root / "mirror", {n: w - 0.5 * (first[n] - w) + 0.4 * noise[n] for n, w in base.items()}, root / "base")
    return root


def _save(folder: Path, tensors: Tensors, like: Path) -> None:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    shutil.copy(like / "config.json", folder)


def apart(ours: Tensors, theirs: Tensors) -> float:
    """The largest difference, as a share of its tensor's largest weight."""
    assert sorted(ours) == sorted(theirs)
    return max(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in ours)
