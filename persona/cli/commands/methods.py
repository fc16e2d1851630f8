"""`persona methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import METHOD
from persona.cli.render import table

if TYPE_CHECKING:
    from persona.verbs.merge_methods import MethodDescription


@click.command("methods")
@click.argument("name", required=False, type=METHOD)
@json_option
@click.pass_obj
def command(app: App, name: str | None) -> None:
    """List the merge methods, or describe one

    With NAME, shows its formula, source and parameters.

    \b
    persona methods
    persona methods ties
    """
    from persona.verbs.merge_methods import merge_methods

    descriptions = merge_methods(name)

    def render(console: Console) -> None:
        if name is None:
            _list(console, descriptions)
        else:
            _describe(console, descriptions[0])

    app.show("methods", descriptions, render)


def _list(console: Console, descriptions: list[MethodDescription]) -> None:
    rows = table("method", "what it does", "vectors", "parameters")
    for method in descriptions:
        defaults = ", ".join(f"{p.name} {p.default}" for p in method.parameters)
        rows.add_row(f"[bold]{method.name}[/]", escape(method.summary), method.vectors, escape(defaults))
    console.print(rows)
    console.print("\nDetails: persona methods NAME", style="dim")


def _describe(console: Console, method: MethodDescription) -> None:
    also = f", alias {', '.join(method.aliases)}" if method.aliases else ""
    console.print(f"[bold]{method.name}[/]{also}: {escape(method.summary)}")
    console.print(escape(f"{method.source}\n"), style="dim")
    console.print(f"{escape(method.text)}\n", soft_wrap=True)
    every = "; a vector that does not change a tensor counts there as τ = 0" if method.counts_every else ""
    weighed = "; vectors that overlap need a Fisher diagonal: persona fisher NAME --data FILE" if method.weighs else ""
    console.print(f"Vectors: {method.vectors}{every}{weighed}.\n")
    if method.parameters:
        rows = table("parameter", "default", "values", "per vector", "meaning")
        for p in method.parameters:
            own = "yes" if p.per_vector else "no"
            rows.add_row(p.name, str(p.default), escape(p.wanted), own, escape(p.summary))
        console.print(rows)
        console.print()
    console.print(escape("In persona.toml (parameters that you leave out have these defaults):\n"), style="dim")
    console.print(escape(method.recipe), soft_wrap=True)
