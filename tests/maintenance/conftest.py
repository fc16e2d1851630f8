"""Repositories with every kind of thing in them, and ways to break them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import persona
from persona.store.packs import Volume
from tests.cli.conftest import run as run  # the fixture


@pytest.fixture
def work(full: Path, tmp_path: Path) -> persona.Repository:
    """A copy of ``full`` to break."""
    shutil.copytree(full, tmp_path / "copy")
    return persona.open(tmp_path / "copy")


def objects_of(repo: persona.Repository, kind: str) -> list[Path]:
    """Object files of one kind."""
    mark = f'"kind":"{kind}"'.encode()
    return [path for path in sorted(repo.objects.folder.rglob("*")) if path.is_file() and mark in path.read_bytes()]


def volume_with(repo: persona.Repository, tensor: str) -> Volume:
    return next(volume for volume in repo.tensors.volumes() if tensor in volume.tensors)


def flip(path: Path, at: int, bits: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bits
    path.write_bytes(data)


def flip_tensor(repo: persona.Repository, tensor: str) -> Path:
    """Damage one tensor's bytes; the file."""
    volume = volume_with(repo, tensor)
    stored = volume.tensors[tensor]  # type: ignore[index]
    flip(volume.path, stored.at + stored.stored // 2, 0x10)
    return volume.path
