"""A group of commands, each a module that is imported when the command is needed."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from persona.errors import UsageError, did_you_mean


def python_name(command: str) -> str:
    """A command's name as Python has it: ``import-adapter`` is ``import_adapter``, and ``import`` is ``import_``."""
    return command.replace("-", "_") + ("_" if keyword.iskeyword(command) else "")


def modules_of(package: str, *names: str) -> dict[str, str]:
    """Where the commands of a group are: ``import`` of package ``p`` is in the module ``p.import_``."""
    return {name: f"{package}.{python_name(name)}" for name in names}


class LazyGroup(click.Group):
    """``modules`` says which module has the command of a name, as ``command``."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of ``modules``."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, whose module is imported now."""
        if cmd_name not in self.modules:
            return None
        command: click.Command = importlib.import_module(self.modules[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a mistyped name."""
        if args and not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in self.modules:
            close = did_you_mean(args[0], self.modules)
            hint = close if close.startswith("Did") else ""
            path = ctx.command_path
            what = f"no command '{args[0]}'" if ctx.parent is None else f"'{path}' has no command '{args[0]}'"
            raise UsageError(what, f"{hint} See '{path} --help'.".strip())
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, none of which is imported for it, and options."""
        found = [CompletionItem(name) for name in self.modules if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]
