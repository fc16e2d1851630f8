"""``persona op log``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import when


@click.command("log")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most N operations.")
@json_option
@click.pass_obj
def command(app: App, limit: int | None) -> None:
    """Show operations, newest first: what each did, when, with which arguments.

    \b
    persona op log
    persona op log -n 5
    """
    from persona.verbs.op_log import op_log

    found = op_log(app.repository(), limit=limit)

    def render(console: Console) -> None:
        for one in found:
            state = " [red](undone)[/]" if one.undone else ""
            console.print(f"[yellow]{one.operation[:7]}[/] {when(one.time)}{state}")
            console.print(f"    persona {escape(one.command)}")
            for ref, (before, after) in sorted(one.refs.items()):
                console.print(f"    {escape(ref)}: {_value(before)} → {_value(after)}", style="dim")

    app.show("op log", found, render)


def _value(value: str | None) -> str:
    if value is None:
        return "nothing"
    return escape(value.removeprefix("ref: ")) if value.startswith("ref: ") else escape(value[:7])
