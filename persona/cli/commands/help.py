"""`persona help`."""

from __future__ import annotations

from dataclasses import dataclass

import click
from rich.console import Console

from persona.cli.app import App, json_option
from persona.cli.lazy import SHOW_ALL
from persona.errors import UsageError


@dataclass(frozen=True)
class Help:
    """The help of a command; of ``persona`` itself if there is no ``command``."""

    command: str
    text: str


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.option("--all", "everything", is_flag=True, help="List all commands, not only the most used.")
@json_option
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...], everything: bool) -> None:
    """Show the help of a command

    Without COMMAND, shows the most used commands.

    \b
    persona help
    persona help --all
    persona help commit
    persona help graph import
    """
    app: App = ctx.obj
    if everything and words:
        raise UsageError("--all lists the commands and takes no COMMAND", "Leave one of them out.")
    found = help_of(words, everything=everything)

    def render(console: Console) -> None:
        click.echo(found.text)

    app.show("help", found, render)


def help_of(words: tuple[str, ...], *, everything: bool = False) -> Help:
    """Return the help of a command.

    Args:
        words: The command, such as ``("graph", "import")``; none for ``persona`` itself.
        everything: List all commands of ``persona``.

    Raises:
        UsageError: There is no such command.
    """
    from persona.cli.main import cli

    group: click.Command = cli
    context = click.Context(group, info_name="persona", **cli.context_settings)
    context.meta[SHOW_ALL] = everything
    for number, word in enumerate(words):
        if not isinstance(group, click.Group):
            raise UsageError(
                f"'{' '.join(['persona', *words[:number]])}' has no command '{word}'",
                f"See '{' '.join(['persona', 'help', *words[:number]])}'.",
            )
        _, found, _ = group.resolve_command(context, [word])
        assert found is not None  # resolve_command raises otherwise
        group, context = found, click.Context(found, context, word, **found.context_settings)
    return Help(" ".join(words), context.get_help())
