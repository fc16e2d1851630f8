"""Every script in ``examples/``, run as a person runs it, on models that are ready in seconds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import persona
from persona.demo.training import QUICK, train_base, train_behaviour
from persona.readout.folder import write_readout
from tests.forks import Forks
from tests.readout.made import by_chance

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = QUICK.but(base_steps=4, behaviour_steps=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a full run and an adapter; treat it as read-only."""
    folder = tmp_path_factory.mktemp("trained")
    train_base(folder / "base", TINY)
    train_behaviour(folder / "base", "listening", folder / "listening", "full", TINY)
    train_behaviour(folder / "base", "suggesting", folder / "suggesting", "lora", TINY)
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Path:
    """A repository with both runs in its recipe."""
    root = tmp_path / "work"
    persona.init(root, trained / "base", author="Test")
    for name in ("listening", "suggesting"):
        persona.commit(persona.open(root), trained / name, name=name, author="Test")
    return root


Run = Callable[..., str]


@pytest.fixture
def run(forks: Forks) -> Run:
    """Run a script, and give what it printed; on stderr where it failed as it should, or on both."""

    def ran(script: str, *args: str | Path, folder: Path, code: int = 0, both: bool = False) -> str:
        done = forks.run(["python", EXAMPLES / script, *args], cwd=folder)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if both:
            return done.stdout + done.stderr
        return done.stderr if code else done.stdout

    return ran


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}"' not in source] == []


def test_train_demo(run: Run, tmp_path: Path) -> None:
    said = run("train_demo.py", "base", "models/base", "--quick", folder=tmp_path)
    assert re.match(r"models/base: base, from scratch, \d+ steps, loss [\d.]+ → [\d.]+\n", said)
    run("train_demo.py", "voice", "runs/voice", "--quick", folder=tmp_path)
    assert (tmp_path / "runs/voice/adapter_config.json").is_file()
    assert "train_loss" in (tmp_path / "runs/voice/all_results.json").read_text()


def test_train_demo_without_a_base(run: Run, tmp_path: Path) -> None:
    assert "train it first" in run("train_demo.py", "voice", "runs/voice", folder=tmp_path, code=2)


def test_commit_from_python(run: Run, trained: Path, tmp_path: Path) -> None:
    args = [trained / "base", trained / "listening", trained / "suggesting", "my-repo"]
    said = run("commit_from_python.py", *args, folder=tmp_path).splitlines()
    assert said[0].startswith("wanted: dense, ")
    assert said[1].startswith("unwanted: lora, ")
    assert said[2:5] == [
        "first: wanted +1, unwanted +1, verified",
        "second: wanted +1, unwanted -0.5, verified",
        "rolled back: the same bytes as first",
    ]
    assert len(said[5:]) == 4
    assert "already exists" in run("commit_from_python.py", *args, folder=tmp_path, code=1)


def test_compare_alphas_leaves_everything_as_it_was(run: Run, work: Path) -> None:
    before = persona.status(persona.open(work))
    said = run("compare_alphas.py", "suggesting", "-1", "0", "1", folder=work).splitlines()
    rows = {float(row[0]): [float(value) for value in row[1:]] for row in map(str.split, said[1:])}
    assert list(rows) == [-1, 0, 1]
    assert all(len(row) == 5 for row in rows.values())
    assert rows[0][-1] == 0 < min(rows[-1][-1], rows[1][-1])
    assert persona.status(persona.open(work)) == before


def test_compare_alphas_on_texts_of_ones_own(run: Run, work: Path) -> None:
    (work / "mine.txt").write_text("User: I feel sad.\nReply:\t I hear you.\nA line of its own.\n")
    said = run("compare_alphas.py", "listening", "1", "--text", "mine.txt", folder=work).splitlines()
    assert said[0].split()[:4] == ["α", "of", "listening", "mine"]
    assert "Did you mean" in run("compare_alphas.py", "listning", "1", "--text", "mine.txt", folder=work, code=1)


def test_compare_methods_leaves_the_recipe_as_it_was(run: Run, work: Path) -> None:
    before = (work / "persona.toml").read_text()
    said = run("compare_methods.py", "base", "linear", "ties:density=0.5", "iso_c", folder=work).splitlines()
    rows = {row[0]: [float(value) for value in row[1:]] for row in map(str.split, said[1:])}
    assert list(rows) == ["base", "linear", "ties:density=0.5", "iso_c"]
    assert len({tuple(row) for row in rows.values()}) == 4
    assert (work / "persona.toml").read_text() == before
    assert "Did you mean 'ties'" in run("compare_methods.py", "tie", folder=work, code=1)
    assert (work / "persona.toml").read_text() == before


def test_inspect_vector(run: Run, work: Path) -> None:
    said = run("inspect_vector.py", "listening", folder=work)
    assert re.search(r"^layer 1 mlp +\d\.\d+ +\d+\.\d% +\d+\.\d%$", said, re.MULTILINE)
    assert "Did you mean 'listening'?" in run("inspect_vector.py", "listning", folder=work, code=1)


def test_watch_and_steer(run: Run, trained: Path, tmp_path: Path) -> None:
    write_readout(tmp_path / "mood", by_chance((0, 1), hidden=TINY.hidden))
    args = [trained / "base", "mood", "I feel sad.", "--max-tokens", "6"]
    said = run("watch_and_steer.py", *args, "--steer", "warmth=9", "coldness=-9", "--layer", "1", folder=tmp_path)
    lines = said.splitlines()
    assert lines[0].startswith("as it is: ")
    assert any(line.startswith("steered: ") for line in lines)
    assert len(re.findall(r"^    warmth [+-][\d.]+, coldness [+-][\d.]+$", said, re.MULTILINE)) == 2
    table = said.partition("at layer 1:\n")[2].splitlines()
    assert table[0].split() == ["warmth", "coldness"]
    assert table[1].startswith("<s>")
    assert "Did you mean 'warmth'" in run("watch_and_steer.py", *args, "--steer", "warmht=1", folder=tmp_path, code=1)


def test_check_specification(run: Run, work: Path, tmp_path: Path) -> None:
    notes = Path(shutil.copytree(EXAMPLES / "graph", tmp_path / "notes"))
    assert run("check_specification.py", notes, folder=work) == ""
    persona.graph_link(persona.open(work), "pattern-listening-as-avoidance", "listening", author="Test")
    said = run("check_specification.py", notes, folder=work)
    assert said == "listening: pattern-listening-as-avoidance, up to date\n"
    node = notes / "pattern-listening-as-avoidance.md"
    node.write_text(node.read_text().replace("Ask one open question", "Ask two open questions"))
    assert run("check_specification.py", notes, folder=work, code=1) == "stale: listening\n"
    assert "no memory graph found at" in run("check_specification.py", "nowhere", folder=work, code=1)


def test_compare_thresholds(run: Run, tmp_path: Path) -> None:
    said = run("compare_thresholds.py", EXAMPLES / "journal", "warmth", "8", "9", folder=tmp_path).splitlines()
    assert said[:2] == ["warmth ≥ 9: 8 positive, 29 negative", "warmth ≥ 8: 15 positive, 29 negative"]
    assert len(said) == 2 + 7
    assert not [*tmp_path.iterdir()]
    assert "Did you mean" in run("compare_thresholds.py", EXAMPLES / "journal", "warmht", "8", folder=tmp_path, code=1)


def test_train_with_trainer(run: Run, work: Path, tmp_path: Path) -> None:
    data = EXAMPLES / "evals" / "listening.jsonl"
    said = run("train_with_trainer.py", data, tmp_path / "runs" / "kind", "--epochs", "1", folder=work)
    repo = persona.open(work)
    assert f"commit {repo.head().short}: add kind" in said
    (entry,) = [one for one in repo.recipe(repo.head()).vectors if one.name == "kind"]
    assert {one.name: one.form for one in persona.vectors(repo)}["kind"] == "lora"
    about = repo.commit(repo.head()).run
    assert about["started"]["base"] == repo.recipe(repo.head()).base
    assert [one["lines"] for one in about["data"]] == [24]
    assert entry.alpha == 1
    assert "persona init" in run("train_with_trainer.py", data, "out", folder=tmp_path, code=1)


def test_check_release(run: Run, work: Path, tmp_path: Path) -> None:
    """What is worse is said, and which vector it is; a released build says itself what it was built from."""
    repo = persona.open(work)
    suite = EXAMPLES / "evals" / "manners.toml"
    persona.tag(repo, "v1")
    persona.build(repo, tmp_path / "deployed")
    assert run("check_release.py", suite, "--released", "v1", folder=work) == "HEAD makes the same weights as v1\n"
    persona.alpha(repo, {"suggesting": 60.0}, author="Test")
    said = run("check_release.py", suite, "--released", tmp_path / "deployed", folder=work, code=1, both=True)
    assert re.search(r"^listening loss: [\d.]+ → [\d.]+, worse$", said, re.MULTILINE)
    assert re.search(r"^listening loss would be [\d.]+ without suggesting$", said, re.MULTILINE)
    assert "Known: HEAD" in run("check_release.py", suite, "--released", "v2", folder=work, code=1)
