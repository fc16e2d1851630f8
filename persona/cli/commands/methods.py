"""``persona methods``."""

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
    """List the merge methods, or say all about one: its formula, its source, its parameters.

    \b
    persona methods
    persona methods ties
    """
    from persona.verbs.merge_methods import merge_methods

    found = merge_methods(name)

    def render(console: Console) -> None:
        if name is None:
            _list(console, found)
        else:
            _one(console, found[0])

    app.show("methods", found, render)


def _list(console: Console, found: list[MethodDescription]) -> None:
    rows = table("method", "what it does", "vectors", "parameters")
    for one in found:
        defaults = ", ".join(f"{p.name} {p.default}" for p in one.parameters)
        rows.add_row(f"[bold]{one.name}[/]", escape(one.summary), one.vectors, escape(defaults))
    console.print(rows)
    console.print("\nAll about one: persona methods NAME", style="dim")


def _one(console: Console, one: MethodDescription) -> None:
    also = f", also called {', '.join(one.aliases)}" if one.aliases else ""
    console.print(f"[bold]{one.name}[/]{also}: {escape(one.summary)}")
    console.print(escape(f"{one.source}\n"), style="dim")
    console.print(f"{escape(one.text)}\n", soft_wrap=True)
    every = "; a vector that leaves a tensor alone counts there with τ = 0" if one.counts_every else ""
    weighed = (
        "; where several meet, each needs a Fisher diagonal: persona fisher NAME --data FILE" if one.weighs else ""
    )
    console.print(f"Vectors: {one.vectors}{every}{weighed}.\n")
    if one.parameters:
        rows = table("parameter", "default", "takes", "per vector", "what it is")
        for p in one.parameters:
            own = "yes" if p.per_vector else "no"
            rows.add_row(p.name, str(p.default), escape(p.wanted), own, escape(p.summary))
        console.print(rows)
        console.print()
    console.print(escape("In persona.toml (what is left out has its default):\n"), style="dim")
    console.print(escape(one.recipe), soft_wrap=True)
