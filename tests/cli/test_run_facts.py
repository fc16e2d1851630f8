"""What is kept of a run, as the command line finds and shows it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import persona
from tests.cli.conftest import Run
from tests.models import TinyModels

STATE = {
    "global_step": 200, "best_metric": 1.8312, "best_global_step": 150,
    "log_history": [{"loss": 3 - step / 100, "step": step} for step in range(1, 200)]
    + [{"eval_loss": 2.0, "step": 100}, {"eval_loss": 1.8312, "step": 150}],
}  # fmt: skip


@pytest.fixture
def told(models: TinyModels, tmp_path: Path) -> Path:
    """A run that says how it went, of code that git has."""
    code = tmp_path / "code"
    training = code / "runs" / "listening"
    training.mkdir(parents=True)
    for path in models.run(1).iterdir():
        (training / path.name).symlink_to(path) if path.suffix == ".safetensors" else (
            training / path.name
        ).write_bytes(path.read_bytes())
    (training / "trainer_state.json").write_text(json.dumps(STATE))
    (code / "train.py").write_text("x = 1\n")
    git(code, "init", "-q", "-b", "trunk")
    git(code, "add", "train.py")
    git(code, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "x")
    return training


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_log_tells_how_runs_went(repo: persona.Repository, told: Path, run: Run) -> None:
    assert run(repo.root, "commit", told).code == 0
    assert run(repo.root, "log", "--oneline").out.splitlines()[0].endswith("add listening eval_loss 1.831 @ step 150")
    assert "\n    eval_loss 1.831 @ step 150\n" in run(repo.root, "log").out
    newest = json.loads(run(repo.root, "log", "--json").out)["result"][0]
    assert newest["headline"] == "eval_loss 1.831 @ step 150"
    assert newest["run"]["history"]["loss"]["count"] == 199


def test_show_has_all_of_it_in_80_columns(repo: persona.Repository, told: Path, run: Run) -> None:
    data = told.parent / "data.jsonl"
    data.write_text('{"a": 1}\n{"a": 2}\n')
    said = run(repo.root, "commit", told, "--data", data, "--meta", "seed=17")
    assert said.code == 0
    for what in ("listening", "HEAD"):
        lines = run(repo.root, "show", what).out.splitlines()
        assert all(len(line) <= 80 for line in lines if line.endswith("points"))
        text = "\n".join(lines)
        (loss,) = [line for line in lines if line.startswith("   loss ")]
        assert re.fullmatch(r"   loss +█[▁-█]{10}▁ +2.99 → 1.01 +least 1.01 @ 199, 199 points", loss)
        assert "   seed  17" in text
        assert "   lines   2" in text
        assert "   branch     trunk" in text


def test_the_code_is_that_of_the_run_or_as_told(repo: persona.Repository, told: Path, run: Run) -> None:
    code = told.parents[1]
    assert run(repo.root, "commit", told).code == 0
    facts = repo.commit(repo.head()).run["code"]
    assert facts["commit"] == git(code, "rev-parse", "HEAD")
    assert (facts["branch"], facts["dirty"], facts["changed"]) == ("trunk", False, 0)
    (code / "train.py").write_text("x = 2\n")
    (code / "persona.toml").write_text("")
    git(code, "add", "persona.toml")
    assert (
        run(repo.root, "commit", "-m", "x", "--code", code, "--data", code / "train.py").code == 1
    )  # nothing to commit
    repo.recipe_path.write_text(repo.head_text() + "# more\n")
    assert run(repo.root, "commit", "-m", "x", "--code", code / "train.py").code == 0
    facts = repo.commit(repo.head()).run["code"]
    assert (facts["dirty"], facts["changed"]) == (True, 1)


def test_a_run_is_not_asked_itself(repo: persona.Repository, told: Path, run: Run, tmp_path: Path) -> None:
    """A folder that was downloaded may bring a .git of its own, with a configuration that runs things."""
    told.rename(tmp_path / "elsewhere")
    git(tmp_path / "elsewhere", "init", "-q")
    assert run(repo.root, "commit", tmp_path / "elsewhere").code == 0
    assert "code" not in repo.commit(repo.head()).run


def test_wrong_data_and_code(repo: persona.Repository, told: Path, run: Run, tmp_path: Path) -> None:
    for option, said in (("--data", "does not exist"), ("--code", "is not in a git work tree")):
        done = run(repo.root, "commit", told, option, tmp_path / "none")
        assert done.code == 2
        assert said in done.err
    assert not persona.vectors(repo)


def test_a_state_that_is_broken_is_said_and_left_out(repo: persona.Repository, told: Path, run: Run) -> None:
    (told / "trainer_state.json").write_text("{")
    done = run(repo.root, "commit", told)
    assert done.code == 0
    assert "trainer_state.json is not valid JSON" in done.out
    assert "; ignored" in done.out


def test_export_and_import(repo: persona.Repository, models: TinyModels, run: Run) -> None:
    run(repo.root, "commit", models.run(1), "--as", "a", "--alpha", "0.5")
    done = run(repo.root, "export", "--to", "out/recipe.yml")
    assert done.code == 0
    assert "  a   a checkpoint, bit for bit   recipe/vectors/a\n" in done.out
    assert "mergekit-yaml recipe.yml OUT\n" in done.out
    assert "already the same" in run(repo.root, "import", "out/recipe.yml").out
    run(repo.root, "alpha", "a=1")
    assert " + a   α 0.5   dense" in run(repo.root, "import", "out/recipe.yml").out
    assert persona.op_log(repo)[0].command == "import out/recipe.yml"
    said = json.loads(run(repo.root, "import", "none.yml", "--json").out)
    assert said["error"]["exit_code"] == 2
    assert run(repo.root, "export", "--to", "x.txt").code == 2
    assert "Did you mean 'import-adapter'?" in run(repo.root, "import-adaptr", "x").err
