"""The public surface: sorted, documented, and the same names as the commands."""

from __future__ import annotations

import builtins
import importlib
from pathlib import Path

import click
import pytest

import persona
from persona.cli.lazy import python_name
from persona.cli.main import COMMANDS

WITHOUT_A_VERB = {"completion", "help", "demo", "op", "methods", "graph", "readout", "ui"}
"""Commands for people only, groups whose verbs are op_log, graph_* and readout_*, and one whose verb is merge_methods."""


def test_all_is_sorted_and_there() -> None:
    assert sorted(persona.__all__) == persona.__all__
    for name in persona.__all__:
        assert getattr(persona, name).__doc__, name


def test_a_star_import_shadows_no_builtin() -> None:
    names: dict[str, object] = {}
    exec("from persona import *", names)
    assert not (names.keys() - {"__builtins__"}) & {*dir(builtins)}
    assert {"open", "eval"} <= {*dir(persona)}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'committ'"):
        _ = persona.committ


def test_every_command_has_its_file_its_verb_and_examples() -> None:
    for name in COMMANDS:
        command = importlib.import_module(f"persona.cli.commands.{python_name(name)}").command
        assert command.name == name
        assert f"persona {name}" in command.help, f"the help of {name} shows an example"
        assert "\b" in command.help, name
        if name not in WITHOUT_A_VERB:
            verb = python_name(name)
            assert verb in dir(persona)
            assert getattr(persona, verb).__module__ == f"persona.verbs.{verb}"


def test_every_verb_has_its_test_file() -> None:
    """``verbs/graph/show.py`` is tested in ``tests/verbs/test_graph_show.py``."""
    folder = Path(persona.__file__).parent / "verbs"
    verbs = {"_".join(path.relative_to(folder).with_suffix("").parts).rstrip("_") for path in folder.rglob("[!_]*.py")}
    assert {"graph_show", "import", "log"} <= verbs
    tests = {path.stem.removeprefix("test_") for path in (Path(__file__).parents[1] / "verbs").glob("test_*.py")}
    assert sorted(verbs - tests) == []


def below(command: click.Command) -> list[click.Command]:
    """The commands of a group, whether it has imported them or not."""
    context = click.Context(command)
    names = command.list_commands(context) if isinstance(command, click.Group) else []
    return [one for name in names if (one := command.get_command(context, name))]


def test_every_command_speaks_json() -> None:
    for name in COMMANDS:
        command = importlib.import_module(f"persona.cli.commands.{python_name(name)}").command
        for one in below(command) or [command]:
            assert "--json" in {option for param in one.params for option in param.opts}, one.name
