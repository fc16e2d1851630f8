"""`persona derive`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, message_option
from persona.cli.complete import SHOWN, VECTOR
from persona.cli.render import changed, count, notes
from persona.cli.tables.commits import headline
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.derive import DeriveResult


@click.command("derive")
@click.argument("name", type=VECTOR)
@click.argument("expression", type=SHOWN)
@click.option("--alpha", type=float, metavar="A", help="Alpha of the vector. [default: unchanged; 1 for a new vector]")
@click.option("--replace", is_flag=True, help="Redefine an existing vector.")
@message_option
@json_option
@click.pass_obj
def command(app: App, name: str, expression: str, alpha: float | None, replace: bool, message: str | None) -> None:
    """Define a vector as a sum of other vectors

    EXPRESSION uses names of vectors, NAME@REV, ids, numbers, + - * / and parentheses. Put spaces around a minus, as
    names can contain one; put -- before an expression that starts with a minus. The new vector is committed. It stores
    no weights of its own, and does not change when its terms are retrained.

    \b
    persona derive calm "listening - rushing"
    persona derive warmer "0.5 * (calm + voice)" --alpha 0.8
    persona derive learned "listening - listening@main~3" -m "what the last runs added"
    persona derive calm --replace -- "-rushing + voice / 2"
    """
    from persona.verbs.derive import derive

    repo = app.repository()
    done = derive(repo, name, expression, alpha=alpha, replace=replace, **app.recording(repo, message))
    app.show("derive", done, lambda console: _render(console, done))


def _render(console: Console, done: DeriveResult) -> None:
    vector = done.vector
    if done.recorded is not None:
        headline(console, done.recorded)
        about = f"{vector.form}, {count(vector.tensors, 'tensor')}"
        about += f", rank {vector.rank}" if vector.rank else ""
        about += ", no weights of its own" if vector.terms else ""
        mark = "~" if done.replaced else "+"
        console.print(f" {mark} [green]{escape(vector.name)}[/]   α {escape(alpha_text(vector.alpha))}   {about}")
        if vector.terms:
            console.print(f"   = {escape(vector.expression)}")
        changed(console, done.recorded.changes, without={vector.name})
    notes(console, done.notes)
