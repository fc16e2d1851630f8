"""``persona show``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, plain
from persona.cli.complete import SHOWN
from persona.cli.render import changed, count, size, when
from persona.recipe.alphas import said

if TYPE_CHECKING:
    from persona.verbs.show import ShownCommit, ShownVector


@click.command("show")
@click.argument("what", default="HEAD", metavar="[REV|NAME]", type=SHOWN)
@json_option
@click.pass_obj
def command(app: App, what: str) -> None:
    """Show all that is known of a commit, or of a vector of the recipe.

    \b
    persona show
    persona show HEAD~1
    persona show listening
    """
    from persona.verbs.show import ShownCommit, show

    shown = show(app.repository(), what)

    def render(console: Console) -> None:
        if isinstance(shown, ShownCommit):
            _commit(console, shown)
        else:
            _vector(console, shown)

    app.show("show", shown, render)


def _commit(console: Console, shown: ShownCommit) -> None:
    console.print(f"[yellow]commit {shown.commit}[/]")
    for parent in shown.parents:
        console.print(f"Parent: {parent.short}")
    console.print(f"Author: {escape(shown.author)}")
    console.print(f"Date:   {when(shown.time)}")
    console.print()
    for line in shown.message.splitlines():
        console.print(f"    {escape(line)}")
    console.print()
    changed(console, shown.changes)
    _facts(console, shown.run)
    console.print()
    for line in shown.text.strip().splitlines():
        console.print(f"    {escape(line)}", style="dim")


def _vector(console: Console, shown: ShownVector) -> None:
    one = shown.vector
    console.print(f"[yellow]vector {one.id}[/] [green]{escape(one.name)}[/]")
    rank = f", rank {one.rank}" if one.rank else ""
    console.print(
        f"{one.form}{rank}, {count(one.tensors, 'tensor')}, {size(one.kept_bytes)} kept, α {escape(said(one.alpha))}"
    )
    console.print(f"Base:   {escape(shown.base_name)}")
    if one.node:
        console.print(f"Node:   {escape(one.node)}")
    if shown.commit is not None and shown.time is not None:
        console.print(f"Commit: {shown.commit.short}, {when(shown.time)}")
    if one.baked_from is not None:
        made_of = ", ".join(f"{part.name} α {part.alpha:g} ({part.id[:12]})" for part in one.baked_from.vectors)
        console.print(f"Baked:  {escape(made_of)}; {one.baked_from.method}, scale {one.baked_from.scale:g}")
    for label, values in (("only", one.only), ("except", one.excepted), ("lacks", one.gone)):
        if values:
            console.print(f"{label}: {escape(', '.join(values))}")
    _facts(console, shown.run)
    console.print()
    for name in shown.changed:
        console.print(f"    {escape(name)}", style="dim")


def _facts(console: Console, run: Mapping[str, Any]) -> None:
    """What is known of a run, as a person reads it; what is not known is left out."""
    known = {key: value for key, value in run.items() if value not in (None, "", {}, [])}
    if known:
        console.print()
    for key, value in sorted(known.items()):
        console.print(f" {escape(key.replace('_', ' '))}: {escape(_fact(key, value))}")


def _fact(key: str, value: Any) -> str:
    if key.endswith("_bytes") and isinstance(value, int):
        return size(value)
    if key == "relative_norm" and isinstance(value, float):
        return f"{value:.2%}"
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
