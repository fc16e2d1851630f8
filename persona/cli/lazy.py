"""A click group that imports the module of a command only when the command is used."""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from persona.errors import UsageError, did_you_mean

_HELP = re.compile(r'^def command\(.*?^    """(.*?)(?:"""|\n)', re.DOTALL | re.MULTILINE)
"""The first line of the docstring of a command's function, which click takes for its help."""

SHOW_ALL = "persona.all"
"""Key in a context's ``meta``: whether the help of the top-level group lists all commands."""


def python_name(command: str) -> str:
    """Return the Python name of a command: `import-adapter` → `import_adapter`, `import` → `import_`."""
    return command.replace("-", "_") + ("_" if keyword.iskeyword(command) else "")


def modules_of(package: str, *names: str) -> dict[str, str]:
    """Map each command name to its module in `package`: `import` → `PACKAGE.import_`."""
    return {name: f"{package}.{python_name(name)}" for name in names}


class SuggestingGroup(click.Group):
    """A group that suggests a name for a mistyped command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's own, but suggests a name for a mistyped one."""
        names = self.list_commands(ctx)
        if args and not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in names:
            close = did_you_mean(args[0], names)
            hint = close if close.startswith("Did") else ""
            path = ctx.command_path
            what = f"no command '{args[0]}'" if ctx.parent is None else f"'{path}' has no command '{args[0]}'"
            raise UsageError(what, f"{hint} See '{path} --help'.".strip())
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """A group whose `modules` map each command name to the module that defines it as `command`."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the order of `modules`."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        if cmd_name not in self.modules:
            return None
        command: click.Command = importlib.import_module(self.modules[cmd_name]).command
        return command

    def summary(self, name: str) -> str:
        """The first line of a command's help, read from its source: `--help` would import every module for these."""
        spec = importlib.util.find_spec(self.modules[name])
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        found = _HELP.search(source)
        return found[1] if found else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names, without importing any command, and options."""
        names = [CompletionItem(name) for name in self.modules if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]
