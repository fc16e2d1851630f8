"""``persona verify``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import count


@click.command("verify")
@click.argument("out", type=click.Path(readable=False), metavar="OUT")
@json_option
@click.pass_obj
def command(app: App, out: str) -> int:
    """Tell from a built folder alone which commit it is and whether a byte has changed.

    \b
    persona verify merged
    """
    from persona.verbs.verify import verify

    found = verify(app.path(out), progress=app.progress())

    def render(console: Console) -> None:
        edited = " with uncommitted edits" if found.edited else ""
        console.print(f"{escape(utf8(out))} says it is commit [yellow]{escape(found.commit[:7])}[/]{edited}")
        if found.ok:
            console.print(f"[green]verified[/]: {count(found.tensors, 'tensor')} and every other byte as built")
            return
        console.print(f"[red]not verified[/]: {count(len(found.differences), 'difference')}")
        for one in found.differences:
            console.print(f" {escape(utf8(one.what))}: {escape(utf8(one.how))}")

    app.show("verify", found, render)
    return 0 if found.ok else 1
