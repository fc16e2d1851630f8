"""Commands that read only small files must not load what is heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import persona
from tests.models import TinyModels
from tests.readout.handmade import written

HEAVY = ("torch", "transformers", "peft", "numpy", "tokenizers")
LIGHT = [
    ["--help"],
    ["methods"],
    ["methods", "ties"],
    ["log"],
    ["status"],
    ["checkout", "HEAD~1"],
    ["diff", "HEAD~1"],
    ["show"],
    ["graph", "import", "notes"],
    ["graph", "link", "idea", "a"],
    ["graph", "status"],
    ["graph", "show"],
    ["readout", "--help"],
    ["readout", "pairs", "notes", "--dry-run"],
    ["readout", "train", "--help"],
    ["--version"],
]


def loaded_by(args: list[str], folder: Path) -> set[str]:
    program = (
        "import sys\n"
        "from persona.cli import main\n"
        f"try: main.run({args!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, text=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("args", LIGHT, ids=" ".join)
def test_it_does_not_import(models: TinyModels, repo: persona.Repository, args: list[str]) -> None:
    persona.commit(repo, models.run(1), name="a")
    (repo.root / "notes").mkdir()
    (repo.root / "notes" / "idea.md").write_text("An idea.")
    if args[:1] == ["graph"] and args[1] != "import":
        persona.graph_import(repo, repo.root / "notes")
    assert not loaded_by(args, repo.root) & {*HEAVY, "http.client"}


@pytest.mark.parametrize(
    "args",
    [["status"], ["show"], ["show", "mood"], ["log", "--vector", "mood"], ["diff", "HEAD~1"], ["checkout", "HEAD~1"]],
    ids=" ".join,
)
def test_a_readout_is_no_reason_to(repo: persona.Repository, tmp_path: Path, args: list[str]) -> None:
    persona.commit_readout(repo, written(tmp_path / "mood"))
    assert not loaded_by(args, repo.root) & {*HEAVY, "http.client"}


@pytest.mark.parametrize("args", [["build", "-o", "out"], ["vectors"]], ids=lambda args: args[0])
def test_a_build_needs_no_torch(models: TinyModels, repo: persona.Repository, args: list[str]) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    assert not loaded_by(args, repo.root) & {"torch", "transformers", "peft"}


def test_importing_persona_imports_nothing(tmp_path: Path) -> None:
    program = "import sys, persona; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {*HEAVY, "click", "rich", "tomlkit"}


def test_reading_a_recipe_under_any_method_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from persona import methods\n"
        "from persona.recipe.parse import parse\n"
        "for name in methods.names():\n"
        '    text = f\'[base]\\nid = "abab"\\n[merge]\\nmethod = "{name}"\\n[vectors.a]\\nid = "abab"\\n\'\n'
        "    assert parse(text).method == name\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {*HEAVY, "numba", "tomlkit"}
