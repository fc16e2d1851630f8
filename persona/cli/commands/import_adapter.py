"""``persona import-adapter``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import changed, count, size
from persona.cli.tables.commits import headline
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.import_adapter import ImportAdapterResult


@click.command("import-adapter")
@click.argument("folders", nargs=-1, required=True, type=click.Path(readable=False), metavar="FOLDER...")
@click.option("--alpha", type=float, metavar="A", help="How strongly each acts; 1 otherwise.")
@click.option("--skip-bad", is_flag=True, help="Leave out adapters that are not for this base, and say which.")
@click.option("--dry-run", is_flag=True, help="Only list what would be recorded.")
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(
    app: App, folders: tuple[str, ...], alpha: float | None, skip_bad: bool, dry_run: bool, message: str | None
) -> None:
    """Record a folder of PEFT adapters at once: each becomes a vector, all of them one commit.

    A FOLDER is an adapter, or a folder whose folders are adapters; of several checkpoint-N the newest is taken. A
    vector is named after its folder. Nothing is recorded if one of them is not for this base.

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
        message=message,
        author=app.author(repo),
        command=app.command,
        progress=app.progress(),
    )
    app.show("import-adapter", done, lambda console: _render(console, done))


def _render(console: Console, done: ImportAdapterResult) -> None:
    if done.recorded is not None:
        headline(console, done.recorded)
    elif done.dry_run:
        console.print(f"Would record {count(len(done.adapters), 'adapter')}:")
    else:
        console.print("The recipe has these very adapters already; nothing new was recorded")
    for one in done.adapters:
        kept = f", {size(one.kept_bytes)} kept" if one.vector else ""
        mark = "+" if one.is_new else "=" if one.vector else "~"
        console.print(
            f" {mark} [green]{escape(one.name)}[/]   α {escape(alpha_text(one.alpha))}   {count(one.tensors, 'tensor')}{kept}"
            f"   [dim]{escape(utf8(str(one.folder)))}[/]"
        )
        for text in one.notes:
            console.print(f"   {escape(text)}")
    for left in done.left_out:
        console.print(f" [yellow]left out[/] {escape(utf8(str(left.folder)))}: {escape(left.why)}")
    if done.recorded is not None:
        names = {one.name for one in done.adapters}
        changed(console, (change for change in done.recorded.changes if change.name not in names))
