"""What tests of several verbs share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import persona
from persona.ids import CommitId
from tests.cli.conftest import run as run  # the fixture
from tests.evaluate import small
from tests.graph.example import notes as notes  # the fixture
from tests.graph.example import whole as whole  # the fixture
from tests.models import TinyModels, on_one_thread
from tests.parity.runs import folders as folders  # the fixture


@pytest.fixture
def half(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """base - a - half, on main."""
    persona.commit(repo, models.run(1), name="a")
    persona.alpha(repo, {"a": 0.5})
    return repo


@pytest.fixture
def history(models: TinyModels, repo: persona.Repository) -> dict[str, CommitId]:
    """base - a - half (main), and a - side (side)."""
    named = {"base": repo.head()}
    persona.commit(repo, models.run(1), name="a")
    named["a"] = repo.head()
    persona.alpha(repo, {"a": 0.5})
    named["half"] = repo.head()
    persona.checkout(repo, "HEAD~1", branch="side")
    persona.negate(repo, "a")
    named["side"] = repo.head()
    return named


@pytest.fixture
def added(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """base - a, on main."""
    persona.commit(repo, models.run(1), name="a", command="commit runs/a")
    return repo


@pytest.fixture
def parted(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """main: listening, calm. voice: listening, voice. They parted after listening; we are on main."""
    persona.commit(repo, models.run(1), name="listening", alpha=0.5)
    persona.switch(repo, "voice", create=True)
    persona.commit(repo, models.run(2), name="voice")
    persona.switch(repo, "main")
    persona.commit(repo, models.run(3), name="calm")
    return repo


GOOD, BAD = ("one", "two", "three", "four"), "planted"


@pytest.fixture(scope="session")
def tuned_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, four fine-tunes that learn the suite's answers, and one that learns others."""
    folder = tmp_path_factory.mktemp("tuned")
    wrong = [{"prompt": row["prompt"], "completion": " w30 w31 w32 w33 w34 w35"} for row in small.dialogues(20, 50)]
    with on_one_thread():
        base = small.base_folder(folder / "base")
        for seed, name in enumerate(GOOD):
            small.trained_folder(folder / name, base, small.dialogues(20, 10 + seed), rate=3e-4)
        small.trained_folder(folder / BAD, base, wrong, rate=1e-3, ends=False)
    return folder


@pytest.fixture(scope="session")
def tuned_root(tuned_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five vectors, the bad one in the middle."""
    root = tmp_path_factory.mktemp("repo") / "work"
    persona.init(root, tuned_folders / "base", author="Test")
    repo = persona.open(root)
    for name in (*GOOD[:2], BAD, *GOOD[2:]):
        persona.commit(repo, tuned_folders / name, name=name, alpha=0.8 if name == BAD else 0.4, author="Test")
    small.suite(root)
    return root


@pytest.fixture
def tuned(tuned_root: Path, tmp_path: Path) -> persona.Repository:
    """A copy of ``tuned_root`` to work in."""
    return persona.open(Path(shutil.copytree(tuned_root, tmp_path / "work")))


A, B, C, L = "run-1", "run-2", "run-3", "adapter"


@pytest.fixture(scope="session")
def adapted(folders: Path) -> Path:
    """A base, its runs, and an adapter beside them."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(folders / "base", dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    tuned.save_pretrained(folders / L)
    return folders


@pytest.fixture
def around(adapted: Path, tmp_path: Path) -> persona.Repository:
    """A repository around the base of ``adapted``, without vectors."""
    persona.init(tmp_path / "work", adapted / "base", author="Test")
    return persona.open(tmp_path / "work")
