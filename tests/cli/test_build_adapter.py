"""What ``build --as-adapter`` says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import persona
from tests.cli.conftest import Run
from tests.models import TinyModels


def test_it_prints_what_a_compressed_adapter_misses(models: TinyModels, repo: persona.Repository, run: Run) -> None:
    persona.commit(repo, models.run(1), name="one")
    said = run(repo.root, "build", "-o", "out", "--as-adapter", "--rank", "4")
    assert said.code == 0
    assert re.search(r"adapter of rank 4 for 16 modules: misses 0\.\d+ of the change", said.out)
    assert "it is not the matrix of a module" in said.out
    assert json.loads((repo.root / "out" / "persona.json").read_text())["adapter"]["rank"] == 4
    listed = json.loads(run(repo.root, "build", "-o", "again", "--as-adapter", "--rank", "4", "--json").out)
    assert len(listed["result"]["adapter"]["tensors"]) == 16


def test_a_refusal_says_what_to_add(models: TinyModels, repo: persona.Repository, run: Run) -> None:
    persona.commit(repo, models.run(1), name="one")
    refused = run(repo.root, "build", "-o", "exact", "--as-adapter")
    assert refused.code == 1
    assert "--rank R" in refused.err
    assert not (repo.root / "exact").exists()


def test_an_exact_one_says_so_unless_it_was_rounded(adapter: Path, repo: persona.Repository, run: Run) -> None:
    persona.commit(repo, adapter, name="style", alpha=0.3)
    assert "rank 2 for 4 modules: exactly the recipe" in run(repo.root, "build", "-o", "a", "--as-adapter").out
    said = run(repo.root, "build", "-o", "b", "--as-adapter", "--dtype", "bf16").out
    assert "the recipe, with factors rounded to bf16" in said
    assert run(repo.root, "verify", "b").code == 0
