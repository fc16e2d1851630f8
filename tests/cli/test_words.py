"""Words of git that are no commands here, and ``help``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from persona.cli.main import COMMANDS, LOOP, cli
from persona.cli.words import WORDS, explain
from tests.cli.conftest import Run

TYPED = re.compile(r"persona ([a-z][^.,()]*?(?=[.,]\s|[.,]?$|\)))")


def test_no_word_hides_a_command() -> None:
    assert not WORDS.keys() & {*COMMANDS}
    assert len(WORDS) >= 25


@pytest.mark.parametrize("word", WORDS)
def test_what_to_do_instead_can_be_typed(word: str) -> None:
    error = explain(word)
    assert error is not None
    assert not error.message.endswith(".")
    for line in TYPED.findall(error.hint):
        name, *words = shlex.split(line)
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, line
        if isinstance(command, click.Group):
            assert command.get_command(click.Context(command), words[0]) is not None, line
        else:
            command.make_parser(click.Context(command)).parse_args(list(words))
    assert TYPED.search(error.hint) or word == "config"


def test_a_word_is_explained_with_its_arguments(tmp_path: Path, run: Run) -> None:
    said = run(tmp_path, "reset", "--hard", "HEAD~1")
    assert said.code == 2
    assert said.err.startswith("error: persona has no 'reset': ")
    assert "persona undo" in said.err
    assert run(tmp_path, "help", "reset").err == said.err


def test_help(tmp_path: Path, run: Run) -> None:
    few, whole = run(tmp_path, "help").out, run(tmp_path, "help", "--all").out
    assert few == run(tmp_path, "--help").out
    listed = {name for name in COMMANDS if re.search(rf"^  {name} ", few, re.MULTILINE)}
    assert listed == LOOP
    assert len(LOOP) == 16
    assert all(re.search(rf"^  {name} ", whole, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize(("typed", "wanted"), [("commit", "persona commit"), ("op log", "persona op log")])
def test_help_of_a_command(tmp_path: Path, run: Run, typed: str, wanted: str) -> None:
    said = run(tmp_path, "help", *typed.split())
    assert said.out == run(tmp_path, *typed.split(), "--help").out
    assert said.out.startswith(f"Usage: {wanted} ")


@pytest.mark.parametrize(
    ("typed", "why"),
    [("comit", "Did you mean 'commit'?"), ("op lgo", "Did you mean 'log'?"), ("log graph", "See 'persona help log'.")],
)
def test_help_of_what_is_not_there(tmp_path: Path, run: Run, typed: str, why: str) -> None:
    said = run(tmp_path, "help", *typed.split())
    assert said.code == 2
    assert why in said.err
