"""``persona diff``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona import files
from persona.cli.app import App, json_option, utf8
from persona.cli.render import changed
from persona.errors import UsageError


@click.command("diff")
@click.argument("before", required=False, metavar="[A]")
@click.argument("after", required=False, metavar="[B]")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@click.option("--weights", is_flag=True, help="Read the weights: how far vectors agree, and what changed, by layer.")
@click.option("--by", type=click.Choice(("layer", "tensor")), help="What a row of --weights is; layer otherwise.")
@click.option(
    "--plot", type=click.Path(readable=False), metavar="FILE", help="Draw --weights as a heat map: a .png or .svg file."
)
@json_option
@click.pass_obj
def command(
    app: App,
    before: str | None,
    after: str | None,
    exit_code: bool,
    weights: bool,
    by: str | None,
    plot: str | None,
) -> int:
    """Show what changed between two recipes.

    Without arguments: what is edited in persona.toml. With one: from that revision to persona.toml. With two:
    from the first to the second.

    \b
    persona diff
    persona diff HEAD~2 HEAD
    persona diff main calmer --weights
    persona diff --weights --by tensor --plot weights.png
    """
    from persona.verbs.diff import diff

    if not weights and (by or plot):
        raise UsageError(f"{'--by' if by else '--plot'} says how to show --weights", "Give --weights, too.")
    picture = app.optional_path(plot)
    if picture is not None:
        from persona.cli import heatmap

        heatmap.check(picture)
    found = diff(app.repository(), before, after, weights=weights, by=by or "layer", progress=app.progress())
    if picture is not None and found.weights is not None:
        files.write_file(picture, heatmap.draw(found.weights, picture.suffix))

    def render(console: Console) -> None:
        changed(console, found.changes, "")
        if found.weights is not None:
            from persona.cli.weights import weights as show

            show(console, found.weights, found.before, found.after)
        if plot is not None:
            console.print(f"\nDrawn into {escape(utf8(plot))}")

    app.show("diff", found, render)
    return 1 if exit_code and found.changes else 0
