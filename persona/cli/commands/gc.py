"""``persona gc``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import count, size, table

DAYS = 14.0


@click.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@click.option(
    "--grace",
    type=float,
    default=DAYS,
    show_default=True,
    metavar="DAYS",
    help="Keep data that was replaced in the last DAYS days, so that undo can restore it.",
)
@json_option
@click.pass_obj
def command(app: App, dry_run: bool, grace: float) -> None:
    """Delete data that nothing needs any more

    Keeps everything that a branch, a tag, the recipe or a recent operation needs. The last ten operations are recent, however
    old they are.

    \b
    persona gc --dry-run
    persona gc
    persona gc --grace 0      # also delete what only the operation log needs
    """
    from persona.verbs.gc import gc

    done = gc(app.repository(), dry_run=dry_run, grace=grace, command=app.command, progress=app.progress())

    def render(console: Console) -> None:
        if not (done.objects or done.files or done.repacked or done.joined or done.unfinished):
            console.print("Nothing to delete.")
        else:
            rows = table("would be deleted" if dry_run else "deleted", "", right=("",))
            rows.add_row("objects", f"{done.objects:,}")
            rows.add_row("tensor files", f"{done.files:,}")
            rows.add_row("packs rewritten without unused parts", f"{done.repacked:,}")
            if done.joined:
                rows.add_row("small packs joined", f"{done.joined:,}")
            rows.add_row("unfinished files", f"{done.unfinished:,}")
            console.print(rows)
            console.print(f"{size(done.freed)} {'would be ' if dry_run else ''}freed")
        console.print(f"Kept: {count(done.kept_objects, 'object')} and {size(done.kept_bytes)} of tensors")
        for text in done.notes:
            console.print(f"note: {escape(text)}", style="dim")

    app.show("gc", done, render)
