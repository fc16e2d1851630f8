"""``persona bake``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import VECTOR
from persona.cli.render import changed, count, size
from persona.cli.tables.commits import headline

if TYPE_CHECKING:
    from persona.verbs.bake import BakeResult


@click.command("bake")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", type=VECTOR)
@click.option("--as", "name", required=True, metavar="NEW", help="What the recipe calls the new vector.")
@click.option("--alpha", type=float, default=1.0, metavar="A", help="How strongly it acts; 1 otherwise.")
@click.option("--dtype", metavar="D", help="Keep it in bf16, fp16 or fp32; in what a build would have otherwise.")
@click.option("--keep", is_flag=True, help="Leave the old vectors in persona.toml, with alpha 0.")
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(
    app: App, names: tuple[str, ...], name: str, alpha: float, dtype: str | None, keep: bool, message: str | None
) -> None:
    """Merge vectors once and for all: store what they do together as one vector, and commit that.

    The new vector takes the place of the old ones, so that nothing acts twice; history keeps them. If no other vector
    acts, the method is in it, too, and [merge] goes back to a plain sum: the build stays the same, byte for byte.

    \b
    persona bake listening voice --as calm
    persona bake listening voice --as calm --keep -m "one vector for both"
    """
    from persona.verbs.bake import bake

    repo = app.repository()
    done = bake(
        repo,
        names,
        name,
        alpha=alpha,
        dtype=dtype,
        keep=keep,
        message=message,
        author=app.author(repo),
        command=app.command,
        progress=app.progress(),
    )
    app.show("bake", done, lambda console: _render(console, done))


def _render(console: Console, done: BakeResult) -> None:
    headline(console, done.recorded)
    parts = [f"baked, {count(done.tensors, 'tensor')}, {size(done.kept_bytes)} kept"]
    if done.relative_norm is not None:
        parts.append(f"‖τ‖/‖W‖ {done.relative_norm:.2%}")
    console.print(f" + [green]{escape(done.name)}[/]   α {done.alpha:g}   {'   '.join(parts)}")
    what = "stay in the recipe with α 0" if done.kept else "are out of the recipe; history keeps them"
    console.print(f"   in place of {escape(', '.join(done.replaced))}, which {what}")
    for text in done.notes:
        console.print(f"   {escape(text)}")
    mine = {done.name, *done.replaced}
    changed(console, (change for change in done.recorded.changes if change.name not in mine))
