"""`persona bake`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, message_option
from persona.cli.complete import VECTOR
from persona.cli.render import changed, count, notes, size
from persona.cli.tables.commits import headline

if TYPE_CHECKING:
    from persona.verbs.bake import BakeResult


@click.command("bake")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", type=VECTOR)
@click.option("--as", "name", required=True, metavar="NEW", help="Name of the new vector.")
@click.option("--alpha", type=float, default=1.0, show_default=True, metavar="A", help="Alpha of the new vector.")
@click.option("--dtype", metavar="DTYPE", help="Data type to store it in: bf16, fp16 or fp32. [default: as in a build]")
@click.option("--keep", is_flag=True, help="Keep the old vectors in persona.toml with alpha 0.")
@message_option
@json_option
@click.pass_obj
def command(
    app: App, names: tuple[str, ...], name: str, alpha: float, dtype: str | None, keep: bool, message: str | None
) -> None:
    """Replace several vectors by their merge

    Commits the new vector in place of the old ones, which stay in the history. If it contains all vectors with a
    nonzero alpha, the merge method is applied too, and [merge] is reset to a plain sum: a build gives the same bytes.

    \b
    persona bake listening voice --as calm
    persona bake listening voice --as calm --keep -m "one vector for both"
    """
    from persona.verbs.bake import bake

    repo = app.repository()
    recording, progress = app.recording(repo, message), app.progress()
    done = bake(repo, names, name, alpha=alpha, dtype=dtype, keep=keep, progress=progress, **recording)
    app.show("bake", done, lambda console: _render(console, done))


def _render(console: Console, done: BakeResult) -> None:
    headline(console, done.recorded)
    parts = [f"baked, {count(done.tensors, 'tensor')}, {size(done.kept_bytes)} kept"]
    if done.relative_norm is not None:
        parts.append(f"‖τ‖/‖W‖ {done.relative_norm:.2%}")
    console.print(f" + [green]{escape(done.name)}[/]   α {done.alpha:g}   {'   '.join(parts)}")
    what = "kept in the recipe with α 0" if done.kept else "removed from the recipe, kept in history"
    console.print(f"   replaces {escape(', '.join(done.replaced))} ({what})")
    notes(console, done.notes)
    changed(console, done.recorded.changes, without={done.name, *done.replaced})
