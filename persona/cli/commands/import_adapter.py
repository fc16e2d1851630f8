"""`persona import-adapter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, message_option
from persona.cli.output import utf8
from persona.cli.render import changed, count, notes, size
from persona.cli.tables.commits import headline
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.import_adapter import ImportAdapterResult


@click.command("import-adapter")
@click.argument("folders", nargs=-1, required=True, type=click.Path(readable=False), metavar="FOLDER...")
@click.option("--alpha", type=float, metavar="A", help="Alpha of each vector. [default: unchanged; 1 for a new vector]")
@click.option("--skip-bad", is_flag=True, help="Skip adapters that do not fit this base, and list them.")
@click.option("--dry-run", is_flag=True, help="List what would be recorded, and change nothing.")
@message_option
@json_option
@click.pass_obj
def command(
    app: App, folders: tuple[str, ...], alpha: float | None, skip_bad: bool, dry_run: bool, message: str | None
) -> None:
    """Record many PEFT adapters in one commit

    FOLDER is an adapter or contains adapters. Each adapter becomes a vector, named after its folder. If it has several
    checkpoint-N folders, the newest is used. Nothing is recorded if an adapter does not fit the base.

    \b
    persona import-adapter adapters/ --dry-run
    persona import-adapter adapters/ --alpha 0.5 -m "the first five"
    """
    from persona.verbs.import_adapter import import_adapter

    repo = app.repository()
    done = import_adapter(
        repo,
        [app.path(folder) for folder in folders],
        alpha=alpha,
        skip_bad=skip_bad,
        dry_run=dry_run,
        progress=app.progress(),
        **app.recording(repo, message),
    )
    app.show("import-adapter", done, lambda console: _render(console, done))


def _render(console: Console, done: ImportAdapterResult) -> None:
    if done.recorded is not None:
        headline(console, done.recorded)
    elif done.dry_run:
        console.print(f"Would record {count(len(done.adapters), 'adapter')}:")
    else:
        console.print("The recipe already has these adapters; nothing was recorded")
    for adapter in done.adapters:
        kept = f", {size(adapter.kept_bytes)} kept" if adapter.vector else ""
        mark = "+" if adapter.is_new else "=" if adapter.vector else "~"
        about = f"α {escape(alpha_text(adapter.alpha))}   {count(adapter.tensors, 'tensor')}{kept}"
        folder = escape(utf8(str(adapter.folder)))
        console.print(f" {mark} [green]{escape(adapter.name)}[/]   {about}   [dim]{folder}[/]")
        notes(console, adapter.notes)
    for skipped in done.left_out:
        console.print(f" [yellow]skipped[/] {escape(utf8(str(skipped.folder)))}: {escape(skipped.why)}")
    if done.recorded is not None:
        changed(console, done.recorded.changes, without={adapter.name for adapter in done.adapters})
