"""``persona show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SHOWN
from persona.cli.render import changed, count, size, table, when
from persona.cli.tables.facts import facts
from persona.cli.tables.scores import called, interval, number
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.graph.coverage import NodeLink
    from persona.verbs.show import ShownCommit, ShownVector


@click.command("show")
@click.argument("what", default="HEAD", metavar="[REV|NAME|NAME@REV]", type=SHOWN)
@json_option
@click.pass_obj
def command(app: App, what: str) -> None:
    """Show all that is known of a commit, or of a vector or readout of the recipe (as it stands, or of another revision).

    \b
    persona show
    persona show HEAD~1
    persona show listening
    persona show listening@main~3
    persona show feelings                       # a readout: AUC and norms by concept and layer
    """
    from persona.verbs.show import ShownCommit, ShownVector, show

    shown = show(app.repository(), what)

    def render(console: Console) -> None:
        if isinstance(shown, ShownCommit):
            _commit(console, shown)
        elif isinstance(shown, ShownVector):
            _vector(console, shown)
        else:
            from persona.cli.tables import readouts

            readouts.shown(console, shown)

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
    facts(console, shown.run)
    if shown.measured:
        _measured(console, shown)
    console.print()
    for line in shown.text.strip().splitlines():
        console.print(f"    {escape(line)}", style="dim")


def _measured(console: Console, shown: ShownCommit) -> None:
    rows = table("measured", "", "value", "95 % interval", right={"value"})
    for one in shown.measured:
        cells = called(one.measure, one.name), number(one.value), interval(one.low, one.high)
        rows.add_row(escape(one.suite), *cells)
    console.print()
    console.print(rows)


def _vector(console: Console, shown: ShownVector) -> None:
    one = shown.vector
    at = f" at commit {shown.of.short}" if shown.of else ""
    console.print(f"[yellow]vector {one.id}[/] [green]{escape(one.name)}[/]{at}")
    rank = f", rank {one.rank}" if one.rank else ""
    alpha = f", α {escape(alpha_text(one.alpha))}" if shown.in_recipe else ""
    console.print(f"{one.form}{rank}, {count(one.tensors, 'tensor')}, {size(one.kept_bytes)} kept{alpha}")
    if one.terms:
        console.print(f"= {escape(one.expression)}")
    console.print(f"Base:   {escape(shown.base_name)}")
    if one.node:
        console.print(f"Node:   {escape(one.node)}{_state(shown.link)}")
    if shown.fisher is not None:
        kept = shown.fisher
        used = f"{count(kept.tokens, 'token')} of {count(kept.examples, 'example')}, seed {kept.seed}"
        trace = f", trace {kept.trace:.4g}" if kept.trace is not None else ""
        console.print(
            f"Fisher: {kept.id.short}, {count(kept.tensors, 'tensor')}, {size(kept.nbytes)}{trace}, from {used}"
        )
    if shown.commit is not None and shown.time is not None:
        console.print(f"Commit: {shown.commit.short}, {when(shown.time)}")
    if one.baked_from is not None:
        made_of = ", ".join(f"{part.name} α {part.alpha:g} ({part.id[:12]})" for part in one.baked_from.vectors)
        console.print(f"Baked:  {escape(made_of)}; {one.baked_from.method}, scale {one.baked_from.scale:g}")
    for term in one.terms:
        console.print(f"Term:   {term.coefficient:+.6g} × {escape(term.name)} ({term.id.short})")
    for label, values in (("only", one.only), ("except", one.excepted), ("lacks", one.gone)):
        if values:
            console.print(f"{label}: {escape(', '.join(values))}")
    facts(console, shown.run)
    console.print()
    for name in shown.changed:
        console.print(f"    {escape(name)}", style="dim")


def _state(link: NodeLink | None) -> str:
    """Which text of its node a vector implements, and whether that is what the node says now."""
    if link is None:
        return ""
    pin = f" as of {link.pin[:7]}," if link.pin else ""
    return f",{pin} {link.state}" if link.state == "up to date" else f",{pin} [yellow]{link.state}[/]"
