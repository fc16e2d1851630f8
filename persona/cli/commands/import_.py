"""`persona import`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, message_option
from persona.cli.output import utf8
from persona.cli.render import changed, notes
from persona.cli.tables.commits import headline
from persona.errors import NoRepository
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.import_ import ImportResult


@click.command("import")
@click.argument("file", type=click.Path(readable=False))
@click.option("--replace", is_flag=True, help="Remove vectors that FILE does not name.")
@message_option
@json_option
@click.pass_obj
def command(app: App, file: str, replace: bool, message: str | None) -> None:
    """Import a mergekit configuration

    Replaces the merge settings by those in FILE, and records its models as vectors, in one commit. Models must be
    folders on disk, relative to FILE, and fine-tunes or adapters of this repository's base. A configuration that a
    recipe cannot express (layers that move, other tokenizers, unknown methods) is an error, and nothing is recorded.

    \b
    persona import merge/recipe.yml
    persona import ties.yml --replace -m "last year's merge"
    """
    from persona.verbs.import_ import import_

    try:
        repo = app.repository()
    except NoRepository as error:
        hint = "First create one for the configuration's base_model: persona init --base PATH"
        raise NoRepository(error.message, hint) from None
    recording, progress = app.recording(repo, message), app.progress()
    done = import_(repo, app.path(file), replace=replace, progress=progress, **recording)
    app.show("import", done, lambda console: _render(console, done))


def _render(console: Console, done: ImportResult) -> None:
    if done.recorded is None:
        console.print("The recipe is already the same; nothing was recorded")
        return
    headline(console, done.recorded)
    for model in done.models:
        console.print(
            f" + [green]{escape(model.name)}[/]   α {escape(alpha_text(model.alpha))}   {model.form}"
            f"   [dim]{escape(utf8(str(model.folder)))}[/]"
        )
        notes(console, model.notes)
    changed(console, done.recorded.changes, without={model.name for model in done.models})
    for text in done.notes:
        console.print(f" [yellow]note[/] {escape(text)}")
