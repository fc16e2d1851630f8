"""``persona diff``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.render import changed


@click.command("diff")
@click.argument("before", required=False, metavar="[A]")
@click.argument("after", required=False, metavar="[B]")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@json_option
@click.pass_obj
def command(app: App, before: str | None, after: str | None, exit_code: bool) -> int:
    """Show what changed between two recipes.

    Without arguments: what is edited in persona.toml. With one: from that revision to persona.toml. With two:
    from the first to the second.

    \b
    persona diff
    persona diff HEAD~2 HEAD
    """
    from persona.verbs.diff import diff

    found = diff(app.repository(), before, after)
    app.show("diff", found, lambda console: changed(console, found.changes, ""))
    return 1 if exit_code and found.changes else 0
