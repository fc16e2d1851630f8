"""Text that came with a repository or a run, on its way to a terminal."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import persona
from persona.cli.output import visible
from tests.cli.conftest import Run
from tests.cli.test_pager import on_a_terminal
from tests.models import TinyModels

EVIL = "x\x1b]0;owned\x07\x1b[2J\u202egpj.exe\r\x9b31m\x00\u2066"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
COMMANDS = (
    "log", "log --oneline", "log --graph --all", "show", "show v", "show HEAD", "vectors", "status", "op log",
    "diff HEAD~1", "branch", "tag", "show no-such-revision\x1b[2J", "build -o \x1b]0;out", "fsck", "log --vector no\x1bne",
)  # fmt: skip


@pytest.fixture
def sent(repo: persona.Repository, models: TinyModels, tmp_path: Path) -> persona.Repository:
    """A repository whose texts are all written to be printed."""
    run = Path(shutil.copytree(models.run(1), tmp_path / "run"))
    (run / "README.md").write_text(f'---\nbase_model: "{json.dumps(EVIL)[1:-1]}"\nlicense: mit\n---\n')
    persona.commit(
        repo,
        run,
        name="v",
        message=EVIL,
        author=f"{EVIL} <a@b>",
        meta={"seed": EVIL},
        node="n",
        command=f"c {EVIL}",
    )
    persona.alpha(repo, {"v": 0.5}, message=f"subject\n\n{EVIL}", author=EVIL)
    return repo


def test_what_is_visible() -> None:
    assert visible("a\tb\nc é 日本 👍🏽") == "a\tb\nc é 日本 👍🏽"
    assert visible("\x1b[2J\u202e\x00\r\x9b") == "\\x1b[2J\\u202e\\x00\\r\\x9b"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_hands_it_to_the_terminal(sent: persona.Repository, run: Run, command: str) -> None:
    done = run(sent.root, *command.split(" "))
    assert not RAW.search(done.out + done.err), command


def test_on_a_terminal_only_our_own_colours_are_left(sent: persona.Repository) -> None:
    seen = on_a_terminal(sent.root, "--no-pager", "log", rows=60).text
    assert "subject" in seen
    left = re.sub("\x1b\\[[0-9;]*m|\r\n", "", seen)
    assert not RAW.search(left)
