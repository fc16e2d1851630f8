"""``persona op log``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import when


@click.command("log")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Maximum number of operations.")
@json_option
@click.pass_obj
def command(app: App, limit: int | None) -> None:
    """Show operations, newest first

    For each, shows the command with its arguments, the time, and the refs that it changed.

    \b
    persona op log
    persona op log -n 5
    """
    from persona.verbs.op_log import op_log

    operations = op_log(app.repository(), limit=limit)

    def render(console: Console) -> None:
        for operation in operations:
            state = " [red](undone)[/]" if operation.undone else ""
            console.print(f"[yellow]{operation.operation[:7]}[/] {when(operation.time)}{state}")
            console.print(f"    persona {escape(operation.command)}")
            for ref, (before, after) in sorted(operation.refs.items()):
                console.print(f"    {escape(ref)}: {_value(before)} → {_value(after)}", style="dim")

    app.show("op log", operations, render)


def _value(value: str | None) -> str:
    if value is None:
        return "nothing"
    return escape(value.removeprefix("ref: ")) if value.startswith("ref: ") else escape(value[:7])
