"""``persona import``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import changed
from persona.cli.tables.commits import headline
from persona.errors import NoRepository
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.import_ import ImportResult


@click.command("import")
@click.argument("file", type=click.Path(readable=False))
@click.option("--replace", is_flag=True, help="Take out the vectors that FILE does not name.")
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(app: App, file: str, replace: bool, message: str | None) -> None:
    """Make the recipe what a mergekit configuration says, and record its models as vectors: one commit.

    Models are folders on disk, relative to FILE, and runs of this repository's base. What a recipe cannot say
    (slices, other tokenizers, methods that are not here) is an error that names the key, and nothing is recorded.

    \b
    persona import merge/recipe.yml
    persona import ties.yml --replace -m "the merge of last year"
    """
    from persona.verbs.import_ import import_

    try:
        repo = app.repository()
    except NoRepository as error:
        hint = "Make one of the configuration's base_model first: persona init --base PATH"
        raise NoRepository(error.message, hint) from None
    done = import_(
        repo,
        app.path(file),
        replace=replace,
        message=message,
        author=app.author(repo),
        command=app.command,
        progress=app.progress(),
    )
    app.show("import", done, lambda console: _render(console, done))


def _render(console: Console, done: ImportResult) -> None:
    if done.recorded is None:
        console.print("The recipe says this already; nothing new was recorded")
        return
    headline(console, done.recorded)
    for one in done.models:
        console.print(
            f" + [green]{escape(one.name)}[/]   α {escape(alpha_text(one.alpha))}   {one.form}"
            f"   [dim]{escape(utf8(str(one.folder)))}[/]"
        )
        for text in one.notes:
            console.print(f"   {escape(text)}")
    names = {one.name for one in done.models}
    changed(console, (change for change in done.recorded.changes if change.name not in names))
    for text in done.notes:
        console.print(f" [yellow]note[/] {escape(text)}")
