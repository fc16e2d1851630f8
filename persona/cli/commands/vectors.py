"""`persona vectors`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.render import size, table
from persona.recipe.alphas import alpha_text


@click.command("vectors")
@click.argument("rev", required=False, type=REV)
@json_option
@click.pass_obj
def command(app: App, rev: str | None) -> None:
    """List the vectors of a recipe

    REV defaults to persona.toml.

    \b
    persona vectors
    persona vectors HEAD~3
    """
    from persona.verbs.vectors import vectors

    entries = vectors(app.repository(), rev)

    def render(console: Console) -> None:
        rows = table("vector", "α", "id", "form", "tensors", "kept", "node", right=("α", "tensors", "kept"))
        for vector in entries:
            form = f"{vector.form} r{vector.rank}" if vector.rank else vector.form
            if vector.baked_from is not None:
                form = f"{form} of {len(vector.baked_from.vectors)}"
            if vector.terms:
                form = f"{form} = {vector.expression}"
            rows.add_row(
                escape(vector.name), escape(alpha_text(vector.alpha)), vector.id.short, escape(form), str(vector.tensors), size(vector.kept_bytes),
                escape(vector.node or ""),
            )  # fmt: skip
        console.print(rows if entries else "The recipe has no vectors yet. Next: persona commit RUN --as NAME")

    app.show("vectors", entries, render)
