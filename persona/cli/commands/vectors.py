"""``persona vectors``."""

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
    """List the vectors of the recipe.

    \b
    persona vectors
    persona vectors HEAD~3
    """
    from persona.verbs.vectors import vectors

    found = vectors(app.repository(), rev)

    def render(console: Console) -> None:
        rows = table("vector", "α", "id", "form", "tensors", "kept", "node", right=("α", "tensors", "kept"))
        for one in found:
            form = f"{one.form} r{one.rank}" if one.rank else one.form
            if one.baked_from is not None:
                form = f"{form} of {len(one.baked_from.vectors)}"
            if one.terms:
                form = f"{form} = {one.expression}"
            rows.add_row(
                escape(one.name), escape(alpha_text(one.alpha)), one.id.short, escape(form), str(one.tensors), size(one.kept_bytes),
                escape(one.node or ""),
            )  # fmt: skip
        console.print(rows if found else "The recipe has no vectors yet. Next: persona commit RUN --as NAME")

    app.show("vectors", found, render)
