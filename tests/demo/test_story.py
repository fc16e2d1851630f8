"""The story on a model too small to speak: everything runs, and what must hold whatever was learnt holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import persona
from persona.cli.app import App
from persona.cli.main import invoke
from persona.demo.story import METHODS, tell
from persona.demo.training import QUICK
from tests.cli.schema import check

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def chapter(self, title: str) -> None:
        pass

    def command(self, text: str) -> None:
        self.commands.append(text)

    def say(self, text: str) -> None:
        pass


def test_the_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()
    told = tell(tmp_path, notes, sizes=QUICK)
    assert told.rolled_back_identical
    assert told.kept_bytes < told.whole_bytes
    assert len(told.measured) == 7
    assert all(0 <= share <= 1 for one in told.measured for share in one.shares.values())
    assert {"persona negate suggesting --alpha 0.5", "persona checkout HEAD~1"} <= set(notes.commands)
    repo = persona.open(tmp_path)
    assert [entry.name for entry in persona.status(repo).recipe.vectors] == list(METHODS)
    assert {entry.node for entry in persona.status(repo).recipe.vectors} == {
        "pattern-listening-as-avoidance", "rushing-pattern", "core-personality"
    }  # fmt: skip
    for build in (tmp_path / "builds").iterdir():
        assert persona.verify(build).ok
    capsys.readouterr()
    App(json=True).show("demo", told, lambda console: None)
    check("demo", capsys.readouterr().out)
    assert all((told.measured, told.replies, told.findings)), "nothing that would fit for being empty"


def test_keep_does_not_write_into_a_folder_that_is_not_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert invoke(["demo", "--keep", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_demo_shows_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["demo", "--keep", str(tmp_path / "kept"), "--json"]) == 0
    printed = capsys.readouterr().out
    check("demo", printed)
    told = json.loads(printed)["result"]
    assert told["rolled_back_identical"]
    assert [one["holds"] for one in told["findings"]] == [True] * 5
