"""Single bits flipped in a repository of tens of megabytes: found, or harmless; and no command hands out a wrong weight.

The places are drawn by a seed: half of them anywhere in the files that hold weights, each byte as likely as any other;
half of them in a file drawn first, so that headers, indexes, footers, lists, refs and objects are met as well.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import persona
from persona.errors import PersonaError
from persona.ids import VectorId
from persona.verbs.fsck import open_damaged

FLIPS, FEW = 300, 10
"""With ``--slow``, and without."""

ROWS, COLUMNS, LAYERS = 1000, 2048, 4
"""16 MB of bf16 in the base; frames of several blocks."""

REVISIONS = ("HEAD", "HEAD~2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a light and a heavy fine-tune of it, three commits."""
    folder = tmp_path_factory.mktemp("large")
    generator = torch.Generator().manual_seed(0)
    base = {f"l{n}.w": torch.randn(ROWS, COLUMNS, generator=generator) * 0.02 for n in range(LAYERS)}
    _save(folder / "base", base)
    persona.init(folder / "work", folder / "base", author="Test")
    for name, step in (("light", 5e-5), ("heavy", 2e-4)):
        _save(folder / name, {n: w + torch.randn(w.shape, generator=generator) * step for n, w in base.items()})
        persona.commit(persona.open(folder / "work"), folder / name, name=name, alpha=0.5, author="Test")
    return folder / "work"


def _save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")


def places(root: Path, count: int, seed: int) -> list[tuple[Path, int]]:
    """Files and offsets."""
    paths = [p for p in sorted((root / ".persona").rglob("*")) if p.is_file() and p.name != "lock" and p.stat().st_size]
    weights = [path for path in paths if path.parent.name == "packs"]
    draw = random.Random(seed)
    found = []
    for number in range(count):
        sizes = [path.stat().st_size for path in weights]
        path = draw.choices(weights, sizes)[0] if number % 2 else draw.choice(paths)
        found.append((path, draw.randrange(path.stat().st_size)))
    return found


def flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)


def whole(root: Path) -> bool:
    """Whether fsck says so."""
    try:
        return persona.fsck(open_damaged(root)).ok
    except PersonaError:
        return False


def handed_out(root: Path, rev: str) -> object:
    """What a build of a revision gives, and the recipe and history that it comes from; None where that is an error."""
    out = root.parent / "out"
    try:
        repo = persona.open(root)
        persona.build(repo, out, rev, replace=True)
        with safe_open(out / "model.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        sums = {name: hash(tensor.view(torch.uint8).numpy().tobytes()) for name, tensor in tensors.items()}
        return sums, [one.subject for one in persona.log(repo, rev)]
    except PersonaError:
        return None


def tau(root: Path, name: str) -> object:
    """One tensor of a vector, as ``persona.vector`` gives it; None where that is an error."""
    try:
        values = persona.vector(persona.open(root), name)[f"l{LAYERS - 1}.w"]
        return hash(values.numpy().tobytes())
    except PersonaError:
        return None


def answers(root: Path) -> dict[str, object]:
    return {rev: handed_out(root, rev) for rev in REVISIONS} | {name: tau(root, name) for name in ("light", "heavy")}


def try_flips(root: Path, count: int, seed: int) -> tuple[int, int]:
    """Flip, look, and flip back; how many were found, and how many were harmless."""
    wanted, harmless = answers(root), 0
    assert None not in wanted.values()
    for path, at in places(root, count, seed):
        bit = at % 8
        flip(path, at, bit)
        seen = answers(root)
        wrong = [key for key, value in seen.items() if value not in (None, wanted[key])]
        assert not wrong, f"{path.relative_to(root)}, byte {at}, bit {bit}: {wrong}"
        if whole(root):
            assert seen == wanted, f"{path.relative_to(root)}, byte {at}, bit {bit} was not found"
            harmless += 1
        flip(path, at, bit)
    assert whole(root)
    return count - harmless, harmless


@pytest.mark.slow
def test_many_flips(root: Path, record_property: Callable[[str, object], None]) -> None:
    found, harmless = try_flips(root, FLIPS, seed=1)
    assert harmless < FLIPS // 20, "what fsck does not find is spacing, in small files of text"
    record_property("fault points", found + harmless)


def test_a_few_flips(root: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("fault points", sum(try_flips(root, FEW, seed=2)))


def test_a_vector_is_stored_in_many_frames(root: Path) -> None:
    """Or the flips above would say nothing of large tensors."""
    repo = persona.open(root)
    entry = repo.recipe(repo.head()).entry("heavy")
    assert entry is not None
    spec = repo.vector(VectorId(entry.id)).tensors["l0.w"]
    stored, _, _ = repo.tensors.source(spec.id)
    assert len(stored.sizes) > 6
    assert stored.base is not None
    assert sum(path.stat().st_size for path in (root / ".persona" / "packs").iterdir()) > 20e6
