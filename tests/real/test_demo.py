"""``persona demo --real`` from beginning to end, much shortened: everything runs, and what must hold whatever was learnt holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import persona
from persona.cli.main import invoke
from persona.demo.real.scenery import KEPT, RUNS
from persona.demo.real.story import METHODS
from tests.cli.schema import check


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_the_story_of_a_real_model(smollm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "kept"
    assert invoke(["demo", "--real", "--quick", "--keep", str(root), "--json"]) == 0
    printed = capsys.readouterr().out
    check("demo", printed)
    told = json.loads(printed)["result"]
    assert told["rolled_back_identical"]
    assert told["kept_bytes"] < told["whole_bytes"]
    assert {answer["by"] for reply in told["replies"] for answer in reply["answers"]} == {
        "base",
        "plain sum",
        "personality",
    }
    assert sum(len(chapter["replies"]) for chapter in told["chapters"]) == len(KEPT) + 3 + 2
    repo = persona.open(root)
    assert [entry.name for entry in persona.status(repo).recipe.vectors] == [run.name for run in RUNS]
    assert {repo.recipe(repo.resolve(f"by-{method}")).method for method in METHODS} == {*METHODS}
    assert "What is the capital of Portugal?" in (root / "story.html").read_text()
