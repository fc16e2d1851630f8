"""`persona show`."""

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
    from persona.verbs.show import ShownCommit, ShownFisher, ShownVector


@click.command("show")
@click.argument("what", default="HEAD", metavar="[REV|NAME|NAME@REV]", type=SHOWN)
@json_option
@click.pass_obj
def command(app: App, what: str) -> None:
    """Show a commit, a vector or a readout

    NAME is a vector or readout in persona.toml, NAME@REV one in another revision. REV defaults to HEAD.

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
    rows = table("measured", "", "value", "95 % interval", right={"value"}, whole={"value", "95 % interval"})
    for reading in shown.measured:
        cells = called(reading.measure, reading.name), number(reading.value), interval(reading.low, reading.high)
        rows.add_row(escape(reading.source), *cells)
    console.print()
    console.print(rows)


def _vector(console: Console, shown: ShownVector) -> None:
    vector = shown.vector
    at = f" at commit {shown.of.short}" if shown.of else ""
    console.print(f"[yellow]vector {vector.id}[/] [green]{escape(vector.name)}[/]{at}")
    rank = f", rank {vector.rank}" if vector.rank else ""
    alpha = f", α {escape(alpha_text(vector.alpha))}" if shown.in_recipe else ""
    console.print(f"{vector.form}{rank}, {count(vector.tensors, 'tensor')}, {size(vector.kept_bytes)} kept{alpha}")
    if vector.terms:
        console.print(f"= {escape(vector.expression)}")
    console.print(f"Base:   {escape(shown.base_name)}")
    if vector.node:
        console.print(f"Node:   {escape(vector.node)}{_state(shown.link)}")
    if shown.fisher is not None:
        console.print(_fisher(shown.fisher))
    if shown.commit is not None and shown.time is not None:
        console.print(f"Commit: {shown.commit.short}, {when(shown.time)}")
    if vector.baked_from is not None:
        made_of = ", ".join(f"{part.name} α {part.alpha:g} ({part.id[:12]})" for part in vector.baked_from.vectors)
        console.print(f"Baked:  {escape(made_of)}; {vector.baked_from.method}, scale {vector.baked_from.scale:g}")
    for term in vector.terms:
        console.print(f"Term:   {term.coefficient:+.6g} × {escape(term.name)} ({term.id.short})")
    for label, values in (("only", vector.only), ("except", vector.excepted), ("lacks", vector.gone)):
        if values:
            console.print(f"{label}: {escape(', '.join(values))}")
    facts(console, shown.run)
    console.print()
    for name in shown.changed:
        console.print(f"    {escape(name)}", style="dim")


def _fisher(fisher: ShownFisher) -> str:
    data = f"{count(fisher.tokens, 'token')} of {count(fisher.examples, 'example')}, seed {fisher.seed}"
    trace = f", trace {fisher.trace:.4g}" if fisher.trace is not None else ""
    return f"Fisher: {fisher.id.short}, {count(fisher.tensors, 'tensor')}, {size(fisher.nbytes)}{trace}, from {data}"


def _state(link: NodeLink | None) -> str:
    """Which text of its node a vector implements, and whether the node's text has changed since."""
    if link is None:
        return ""
    pin = f" as of {link.pin[:7]}," if link.pin else ""
    return f",{pin} {link.state}" if link.state == "up to date" else f",{pin} [yellow]{link.state}[/]"
