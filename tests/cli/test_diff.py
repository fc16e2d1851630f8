"""What ``diff`` says of other things than two recipes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import persona
from tests.cli.conftest import Run
from tests.models import TinyModels, load


@pytest.fixture
def built(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """Two commits, a build of the first, and the second's run."""
    persona.commit(repo, models.run(1), name="voice")
    persona.build(repo, repo.root / "merged")
    persona.commit(repo, models.run(2), name="voice")
    shutil.copytree(models.run(2), repo.root / "runs" / "two")
    return repo


def test_stat_is_a_line_for_each_layer_and_the_sum(built: persona.Repository, run: Run) -> None:
    said = run(built.root, "diff", "HEAD~1", "HEAD", "--stat")
    first, *layers, last = said.out.splitlines()
    assert first.startswith("voice retrained (cos 0.0")
    assert [line.split()[0] for line in layers] == [
        "model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head", "model.norm"
    ]  # fmt: skip
    assert max(len(line.split()[-1]) for line in layers) == 24
    assert {*"".join(line.split()[-1] for line in layers)} <= {"+", "-"}
    wanted, there = load(built.root / "merged"), load(built.root / "runs" / "two")
    changed = sum(not (wanted[name] == there[name]).all() for name in wanted)
    assert last.startswith(f" {changed} of 21 tensors differ, ‖Δ‖/‖W‖ 1.")
    assert all(line == line.rstrip() for line in layers)


def test_exit_code_is_of_weights_too(built: persona.Repository, run: Run) -> None:
    assert run(built.root, "diff", "HEAD", "runs/two", "--exit-code").code == 0
    assert run(built.root, "diff", "HEAD~1", "runs/two", "--exit-code").code == 1
    assert run(built.root, "diff", "HEAD~1", "runs/two").code == 0
    assert run(built.root, "diff", "HEAD~1", "merged", "--exit-code").code == 0
    assert run(built.root, "diff", "HEAD", "merged", "--exit-code").code == 1
    assert run(built.root, "diff", "voice", "voice@HEAD~1", "--exit-code").code == 1


def test_both_sides_are_named(built: persona.Repository, run: Run) -> None:
    head = built.head()
    said = run(built.root, "diff", "HEAD", "runs/two")
    assert said.out == f"HEAD ({head.short}) → runs/two\n 0 of 21 tensors differ: identical\n"
    said = run(built.root, "diff", "HEAD~1", "merged")
    assert said.out.splitlines()[1:] == [" the same recipe; --stat compares the weights"]
    assert run(built.root, "diff", "voice").out.splitlines()[1:] == [" the same vector"]


def test_a_table_by_weights(built: persona.Repository, run: Run) -> None:
    said = run(built.root, "diff", "merged", "runs/two", "--weights", "--by", "tensor").out.splitlines()
    head = next(number for number, line in enumerate(said) if line.startswith("tensor "))
    assert said[head].split() == ["tensor", "‖Δ‖/‖W‖", "max", "|Δ|", "entries", "cos", "opposed"]
    assert said[head + 1].split()[0] == "whole"
    assert said[-1].split()[0] == "model.norm.weight"


def test_inventory(built: persona.Repository, run: Run, tmp_path: Path) -> None:
    persona.build(built, tmp_path / "wide", "HEAD", dtype="fp32")
    said = run(built.root, "diff", "runs/two", tmp_path / "wide", "--stat").out
    assert " 21 tensors: BF16 → F32\n" in said
    assert "21 of 21 tensors differ, ‖Δ‖/‖W‖ 0.00%" in said


def test_the_schema_of_tensors(built: persona.Repository, run: Run) -> None:
    result = json.loads(run(built.root, "diff", "HEAD~1", "runs/two", "--json").out)["result"]
    assert (result["kinds"], result["differs"]) == (["revision", "checkpoint"], True)
    assert list(result["tensors"]) == ["by", "whole", "rows", "recast"]
    assert list(result["tensors"]["whole"]) == [
        "name", "tensors", "changed", "entries", "differing", "grew", "shrank", "norm_before", "norm_after", "difference",
        "relative", "largest", "cosine", "opposed"
    ]  # fmt: skip


def test_a_note_says_how_to_mean_the_folder(built: persona.Repository, run: Run) -> None:
    (built.root / "main").mkdir()
    said = run(built.root, "diff", "main", "HEAD")
    assert (said.code, said.out) == (0, "")
    assert said.err == "note: 'main' is also a folder; using the revision. For the folder, write ./main\n"


def test_paths_are_relative_to_the_folder_given(built: persona.Repository, run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, "-C", built.root, "diff", "HEAD", "runs/two", "--exit-code").code == 0


def test_two_folders_outside_of_a_repository(models: TinyModels, run: Run, tmp_path: Path) -> None:
    said = run(tmp_path, "diff", models.run(1), models.run(2), "--exit-code")
    assert said.code == 1
    assert "tensors differ" in said.out
    assert run(tmp_path, "diff", models.run(1)).code == 10
    assert run(tmp_path, "diff", models.run(1), "HEAD").code == 2


def test_a_plot_is_of_recipes(built: persona.Repository, run: Run) -> None:
    pytest.importorskip("matplotlib")
    refused = run(built.root, "diff", "HEAD", "runs/two", "--weights", "--plot", "a.png")
    assert refused.code == 2
    assert "--plot needs two recipes" in refused.err


def test_the_recipe_of_a_build_is_read_without_numpy(built: persona.Repository) -> None:
    program = (
        "import sys\n"
        "from persona.cli import main\n"
        "try: main.run(['diff', 'HEAD', 'merged'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'numpy', 'torch'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], cwd=built.root, check=True, capture_output=True)
