"""Commands that read only small files must not load what is heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    ["checkout", "HEAD~1"],
]


PROGRAM = """
import json, sys
from persona.cli import main
lines, heavy = json.loads(sys.argv[1])
for line in lines:
    try:
        main.run(line)
    except SystemExit as end:
        assert not end.code, (line, end.code)
    assert not {*heavy} & {*sys.modules}, (line, {*heavy} & {*sys.modules})
"""


def check_imports(lines: list[list[str]], folder: Path, heavy: set[str]) -> None:
    """Run command lines, one after the other in one process, and look after each what is imported by then."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([lines, sorted(heavy)])]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_that_read_small_files_import_nothing_heavy(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a")
    (repo.root / "notes").mkdir()
    (repo.root / "notes" / "idea.md").write_text("An idea.")
    check_imports(LIGHT, repo.root, {*HEAVY, "http.client"})


def test_a_readout_is_no_reason_to(repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit_readout(repo, written(tmp_path / "mood"))
    lines = ["status", "show", "show mood", "log --vector mood", "diff HEAD~1", "checkout HEAD~1"]
    check_imports([line.split() for line in lines], repo.root, {*HEAVY, "http.client"})


def test_a_build_needs_no_torch(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    check_imports([["vectors"], ["build", "-o", "out"]], repo.root, {"torch", "transformers", "peft"})


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
