"""`persona verify`."""

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
    """Check that a built model is unchanged

    Needs only the folder, no repository: a build contains a receipt with its commit and the hashes of its files.

    \b
    persona verify merged
    """
    from persona.verbs.verify import verify

    result = verify(app.path(out), progress=app.progress())

    def render(console: Console) -> None:
        edited = " with uncommitted edits" if result.edited else ""
        console.print(f"{escape(utf8(out))} is a build of commit [yellow]{escape(result.commit[:7])}[/]{edited}")
        if result.ok:
            console.print(f"[green]verified[/]: {count(result.tensors, 'tensor')} and all other files are as built")
            return
        console.print(f"[red]not verified[/]: {count(len(result.differences), 'difference')}")
        for difference in result.differences:
            console.print(f" {escape(utf8(difference.what))}: {escape(utf8(difference.how))}")

    app.show("verify", result, render)
    return 0 if result.ok else 1
