"""``persona derive``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SHOWN, VECTOR
from persona.cli.render import changed, count
from persona.cli.tables.commits import headline
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.derive import DeriveResult


@click.command("derive")
@click.argument("name", type=VECTOR)
@click.argument("expression", type=SHOWN)
@click.option("--alpha", type=float, metavar="A", help="How strongly it acts; 1 otherwise.")
@click.option("--replace", is_flag=True, help="Redefine a vector that has this name already.")
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(app: App, name: str, expression: str, alpha: float | None, replace: bool, message: str | None) -> None:
    """Make a vector that is a sum of others, and commit that. It keeps no weights of its own.

    A sum has vectors, numbers, + - * / and brackets. A vector may be at a revision (NAME@REV), or be called by its id.
    A minus inside a name belongs to the name: put spaces around it for a difference. It stays the sum of these very
    vectors, whatever becomes of their names. An expression that begins with a minus comes after --.

    \b
    persona derive calm "listening - rushing"
    persona derive warmer "0.5 * (calm + voice)" --alpha 0.8
    persona derive learnt "listening - listening@main~3" -m "what the last runs added"
    persona derive calm --replace -- "-rushing + voice / 2"
    """
    from persona.verbs.derive import derive

    repo = app.repository()
    done = derive(
        repo,
        name,
        expression,
        alpha=alpha,
        replace=replace,
        message=message,
        author=app.author(repo),
        command=app.command,
    )
    app.show("derive", done, lambda console: _render(console, done))


def _render(console: Console, done: DeriveResult) -> None:
    one = done.vector
    if done.recorded is not None:
        headline(console, done.recorded)
        about = f"{one.form}, {count(one.tensors, 'tensor')}"
        about += f", rank {one.rank}" if one.rank else ""
        about += ", no weights of its own" if one.terms else ""
        mark = "~" if done.replaced else "+"
        console.print(f" {mark} [green]{escape(one.name)}[/]   α {escape(alpha_text(one.alpha))}   {about}")
        if one.terms:
            console.print(f"   = {escape(one.expression)}")
        changed(console, (change for change in done.recorded.changes if change.name != one.name))
    for text in done.notes:
        console.print(f"   {escape(text)}")
