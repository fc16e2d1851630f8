"""A hint after a command: on a terminal, unless it is turned off."""

from __future__ import annotations

import re
import subprocess
import sys

import persona
from persona.cli.hints import NEXT
from persona.cli.main import COMMANDS
from tests.cli.test_pager import on_a_terminal
from tests.models import TinyModels


def test_on_a_terminal_and_not_in_a_pipe(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a")
    assert "hint: 'persona build" in on_a_terminal(repo.root, "alpha", "a=0.5", rows=30).text
    piped = subprocess.run(
        [sys.executable, "-m", "persona.cli.main", "negate", "a"],
        cwd=repo.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hint" not in piped.stdout + piped.stderr


def test_turned_off(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a")
    (repo.folder / "config.toml").write_text("[ui]\nhints = false\n")
    assert "hint" not in on_a_terminal(repo.root, "alpha", "a=0.5", rows=30).text


def test_hints_speak_of_commands_that_there_are() -> None:
    for command, text in NEXT.items():
        assert command.split()[0] in COMMANDS
        mentioned = re.findall(r"'persona ([a-z-]+)", text)
        assert mentioned
        assert {*mentioned} <= {*COMMANDS}
