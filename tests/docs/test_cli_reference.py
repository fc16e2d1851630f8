"""The command reference is what the commands say, and they say something of everything."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from persona.cli.main import COMMANDS, cli
from persona.cli.reference import reference
from persona.errors import PersonaError
from tests.docs.session import ROOT

PAGE = ROOT / "docs" / "cli.md"


def options(name: str) -> list[click.Option]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return [param for param in command.params if isinstance(param, click.Option)]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run: python -m persona.cli.reference > docs/cli.md"


def test_the_module_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "persona.cli.reference"], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == reference()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    section = reference().partition(f"### persona {name}\n")[2].partition("\n##")[0]
    assert section.count("```") == 4, "a synopsis and examples"
    for option in options(name):
        assert option.help, f"--{option.name} has no help"
        assert all(f"{word}" in section for word in option.opts), option.opts
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    assert all(param.human_readable_name in section for param in command.params if isinstance(param, click.Argument))


def test_every_exit_code_is_documented() -> None:
    codes = {error.exit_code for error in _tree(PersonaError)}
    listed = reference().partition("## Exit codes")[2]
    assert [code for code in sorted(codes) if f"| {code} |" not in listed] == []


def _tree(kind: type[PersonaError]) -> list[type[PersonaError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]
