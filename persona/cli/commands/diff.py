"""``persona diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SIDE
from persona.cli.output import note, utf8
from persona.cli.plots.picture import Picture
from persona.cli.render import changed
from persona.errors import NoRepository, UsageError

if TYPE_CHECKING:
    from persona.repository import Repository
    from persona.verbs.diff import DiffResult


@click.command("diff")
@click.argument("before", required=False, metavar="[A]", type=SIDE)
@click.argument("after", required=False, metavar="[B]", type=SIDE)
@click.option("--stat", is_flag=True, help="Read the weights: a line for each layer that differs, and the sum.")
@click.option(
    "--weights", is_flag=True, help="Read the weights: how far they moved, and how far vectors agree, by layer."
)
@click.option("--by", type=click.Choice(("layer", "tensor")), help="What a row of either is; layer otherwise.")
@click.option(
    "--plot", type=click.Path(readable=False), metavar="FILE", help="Draw --weights as a heat map: a .png or .svg file."
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@json_option
@click.pass_obj
def command(
    app: App,
    before: str | None,
    after: str | None,
    stat: bool,
    weights: bool,
    by: str | None,
    plot: str | None,
    exit_code: bool,
) -> int:
    """Show what changed between any two of: revision, vector, built folder, checkpoint, persona.toml; or two readouts.

    Without arguments: what is edited in persona.toml. With one: from that to persona.toml. With two: from the first
    to the second. A vector is NAME or NAME@REV; a folder of the name of a revision or vector is written ./NAME.
    Recipes are compared unless weights are asked for; a checkpoint has nothing but weights, so they are read.

    \b
    persona diff
    persona diff HEAD~2 HEAD
    persona diff main calmer --stat
    persona diff voice@HEAD~3 voice --weights
    persona diff feelings@HEAD~3 feelings       # a readout: cosines by concept and layer
    persona diff HEAD merged/ --weights --by tensor
    persona diff runs/a runs/b
    persona diff --weights --plot weights.png
    """
    from persona.verbs.diff import diff

    _check_options(by, plot, stat=stat, weights=weights)
    picture = Picture(app, plot)
    found = diff(
        _repository(app, after), expanded(app, before), expanded(app, after),
        weights=weights, stat=stat, by=by or "layer", cwd=app.folder, progress=app.progress(),
    )  # fmt: skip
    for text in found.notes:
        note(f"note: {utf8(text)}")
    picture.write(lambda suffix: _drawn(found, suffix))
    app.show("diff", found, picture.below(lambda console: _render(console, found, weights=weights)))
    return 1 if exit_code and found.differs else 0


def _drawn(found: DiffResult, suffix: str) -> bytes:
    from persona.cli.plots import heatmap

    if found.weights is None:
        raise UsageError("--plot draws how vectors of a recipe agree", "Compare two revisions on one base with it.")
    return heatmap.draw(found.weights, suffix)


def _check_options(by: str | None, plot: str | None, *, stat: bool, weights: bool) -> None:
    if plot and not weights:
        raise UsageError("--plot says how to show --weights", "Give --weights, too.")
    if by and not (weights or stat):
        raise UsageError("--by says how to show --weights or --stat", "Give --weights or --stat, too.")


def _repository(app: App, after: str | None) -> Repository | None:
    """Two folders can be compared anywhere."""
    try:
        return app.repository()
    except NoRepository:
        if after is None:
            raise
        return None


def expanded(app: App, text: str | None) -> str | None:
    """What begins with ``~name/`` is a path, and no ancestor of HEAD."""
    return str(app.path(text).absolute()) if text and text.startswith("~") and "/" in text else text


def _render(console: Console, found: DiffResult, *, weights: bool) -> None:
    recipes = {*found.kinds} <= {"revision", "work tree"}
    if not recipes:
        console.print(f"[bold]{escape(utf8(found.before))} → {escape(utf8(found.after))}[/]")
    changed(console, found.changes, "" if recipes else " ")
    if found.readouts:
        from persona.cli.tables import readouts

        readouts.differences(console, found.readouts)
    for one in found.unlike:
        console.print(f" {escape(one.what)} {escape(one.how)} since the build; see 'persona verify'", style="yellow")
    for file in found.files:
        console.print(f" {escape(file.text)}", style="yellow")
    if found.tensors is not None:
        _tensors(console, found, weights=weights)
    elif not recipes and not found.differs:
        what = found.kinds[0] if found.kinds[0] == found.kinds[1] else ""
        same = f"the same {what}" if what in ("vector", "readout") else "the same recipe; --stat reads the weights"
        console.print(f" {same}")
    if found.measured:
        from persona.cli.tables.scores import moves

        moves(console, found.measured)
    if found.weights is not None:
        from persona.cli.tables.weights import weights as show

        show(console, found.weights, found.before, found.after)


def _tensors(console: Console, found: DiffResult, *, weights: bool) -> None:
    from persona.cli.tables import compared

    assert found.tensors is not None
    what = "τ" if found.kinds == ("vector", "vector") else "W"
    compared.inventory(console, found.tensors)
    if not weights:
        compared.stat(console, found.tensors, what)
        return
    console.print(f"\n[bold]{compared.how_many(found.tensors)}[/]")
    if found.tensors.rows:
        compared.rows(console, found.tensors, what)
