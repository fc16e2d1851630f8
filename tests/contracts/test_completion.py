"""What can be completed is completed: parameters that name something known have a type that offers it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

from persona.cli.complete import KnownNames
from persona.cli.lazy import python_name
from persona.cli.main import COMMANDS

NAMES = {
    "rev", "revs", "name", "names", "vector", "vectors", "node", "nodes", "method", "methods", "what", "before",
    "after", "branch", "tag",
}  # fmt: skip

NEW = {("init", "name"), ("bake", "name"), ("checkout", "branch")}
"""(command, parameter) of names that the command is to give: there is nothing to offer."""


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    context = click.Context(command)
    for sub in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from commands(f"{name} {sub}", command.get_command(context, sub))


def test_it_offers_what_is_known() -> None:
    every = (
        (path, one, param)
        for name in COMMANDS
        for path, one in commands(name, importlib.import_module(f"persona.cli.commands.{python_name(name)}").command)
        for param in one.params
    )
    for path, _, param in every:
        if param.name in NAMES and (path, param.name) not in NEW and not getattr(param, "is_flag", False):
            assert isinstance(param.type, KnownNames | click.Choice | click.Path), (
                f"persona {path}: give '{param.name}' a type of cli/complete.py, or add it to NEW here"
            )
