"""The command reference is what the commands say, and they say something of everything."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from docs.tools.reference import reference
from persona.cli.main import COMMANDS, SUMMARY_WIDTH, Commands, cli
from persona.errors import PersonaError
from tests.docs.session import ROOT
from tests.forks import Forks

PAGE = ROOT / "docs" / "cli.md"


def every_command(group: click.Group = cli, path: str = "persona") -> Iterator[tuple[str, click.Command]]:
    """Each command by its full name, those below ``persona op`` included."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")


ALL = dict(every_command())


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run: python -m docs.tools.reference > docs/cli.md"


def test_the_module_prints_it(forks: Forks) -> None:
    assert forks.run(["python", "-m", "docs.tools.reference"], cwd=ROOT).stdout == reference()


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_is_documented(path: str) -> None:
    section = reference().partition(f"# {path}\n")[2].partition("\n##")[0]
    assert section.count("```") == 4, "a synopsis and examples"
    assert ALL[path].help
    for param in ALL[path].params:
        if isinstance(param, click.Option):
            assert param.help, f"{param.opts} has no help"
            assert [word for word in param.opts if word not in section] == []
        else:
            assert param.make_metavar(click.Context(ALL[path])).strip("[].") in section


@pytest.mark.parametrize("path", ALL)
def test_help_shows_every_summary_whole(path: str) -> None:
    assert not ALL[path].get_short_help_str(SUMMARY_WIDTH).endswith("...")


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries_read_without_an_import_are_clicks(name: str) -> None:
    assert isinstance(cli, Commands)
    assert cli.summary(name) == ALL[f"persona {name}"].get_short_help_str(SUMMARY_WIDTH)


def test_every_exit_code_is_documented() -> None:
    codes = {error.exit_code for error in _tree(PersonaError)}
    listed = reference().partition("## Exit codes")[2]
    assert [code for code in sorted(codes) if f"| {code} |" not in listed] == []


def _tree(kind: type[PersonaError]) -> list[type[PersonaError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]
