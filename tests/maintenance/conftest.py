"""Repositories with every kind of thing in them, and ways to break them."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import persona
from persona.store.packs import Volume
from tests.cli.conftest import run as run  # the fixture
from tests.models import TinyModels, nudge, tiny_llama


def write_adapter(base: Path, folder: Path, seed: int = 0) -> Path:
    """A LoRA adapter of ``base`` whose factors are no zeros."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's and transformers' own
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(models.base(), tmp_path_factory.mktemp("adapters") / "style")


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with eight new tokens."""
    model = nudge(tiny_llama(), 5)
    model.resize_token_embeddings(104)
    folder = tmp_path_factory.mktemp("grown") / "grown"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def twin(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first run with other norms: it shares most tensors with it."""
    folder = tmp_path_factory.mktemp("twin") / "twin"
    model = AutoModelForCausalLM.from_pretrained(models.run(1), dtype="auto")
    nudge(model, 9, 0.1, only="norm").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def full(models: TinyModels, twin: Path, adapter: Path, grown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a repository with two dense vectors that share tensors, one that grows, and an adapter."""
    root = tmp_path_factory.mktemp("full") / "work"
    persona.init(root, models.base(), author="Test <test@example.org>")
    repo = persona.open(root)
    persona.commit(repo, models.run(1), name="a", message="add a")
    persona.commit(repo, twin, name="b", message="add b")
    persona.commit(repo, grown, name="grown", message="add grown")
    persona.commit(repo, adapter, name="style", message="add style")
    return root


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
