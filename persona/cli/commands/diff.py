"""`persona diff`."""

from __future__ import annotations

import re
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

RANGE = re.compile(r"(?P<left>|[^./]|[^./].*?[^./])(?P<dots>\.{2,3})(?P<right>|[^./].*)")
"""Two revisions, or one and HEAD; nothing that looks like a path."""


@click.command("diff")
@click.argument("before", required=False, metavar="[A]", type=SIDE)
@click.argument("after", required=False, metavar="[B]", type=SIDE)
@click.option("--stat", is_flag=True, help="Compare weights: one line per changed layer, and a summary.")
@click.option("--weights", is_flag=True, help="Compare weights in detail, and report how much the vectors interfere.")
@click.option("--by", type=click.Choice(("layer", "tensor")), help="Rows of --stat and --weights. [default: layer]")
@click.option(
    "--plot", type=click.Path(readable=False), metavar="FILE", help="Draw --weights as a heat map (.png or .svg)."
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
    """Show changes between recipes, vectors or models

    A..B is the same as A B, and A...B what changed in B since it parted from A; either may be left out for HEAD.

    A and B can each be a revision, a vector (NAME or NAME@REV), a built folder or a checkpoint. Two readouts can be
    compared as well. B defaults to persona.toml, and A to HEAD. Write ./NAME for a folder with the name of a revision
    or vector. Only recipes are compared, unless --stat or --weights is given or a side is a checkpoint.

    \b
    persona diff
    persona diff HEAD~2 HEAD
    persona diff main..calmer
    persona diff main calmer --stat
    persona diff voice@HEAD~3 voice --weights
    persona diff feelings@HEAD~3 feelings       # readouts: cosines by concept and layer
    persona diff HEAD merged/ --weights --by tensor
    persona diff runs/a runs/b
    persona diff --weights --plot weights.png
    """
    from persona.verbs.diff import diff

    _check_options(by, plot, stat=stat, weights=weights)
    before, after = _sides(app, before, after)
    picture = Picture(app, plot)
    result = diff(
        _repository(app, after), expanded(app, before), expanded(app, after),
        weights=weights, stat=stat, by=by or "layer", cwd=app.folder, progress=app.progress(),
    )  # fmt: skip
    for text in result.notes:
        note(f"note: {utf8(text)}")
    picture.write(lambda suffix: _drawn(result, suffix))
    app.show("diff", result, picture.below(lambda console: _render(console, result, weights=weights)))
    return 1 if exit_code and result.differs else 0


def _drawn(result: DiffResult, suffix: str) -> bytes:
    from persona.cli.plots import heatmap

    if result.weights is None:
        raise UsageError("--plot needs two recipes on the same base", "Compare two revisions, or leave --plot out.")
    return heatmap.draw(result.weights, suffix)


def _check_options(by: str | None, plot: str | None, *, stat: bool, weights: bool) -> None:
    if plot and not weights:
        raise UsageError("--plot needs --weights", "Add --weights.")
    if by and not (weights or stat):
        raise UsageError("--by needs --weights or --stat", "Add --weights or --stat.")


def _sides(app: App, before: str | None, after: str | None) -> tuple[str | None, str | None]:
    """The two sides of ``A..B`` or ``A...B``; other arguments as they are."""
    found = None if before is None or after is not None else RANGE.fullmatch(before)
    if found is None or app.path(before or "").exists():
        return before, after
    left, right = found["left"] or "HEAD", found["right"] or "HEAD"
    if found["dots"] == "..":
        return left, right
    repo = app.repository()
    ends = repo.resolve(left), repo.resolve(right)
    bases = repo.ancestry.merge_bases([ends[0]], ends[1])
    if not bases:
        raise UsageError(
            f"'{left}' and '{right}' have no common ancestor", f"Compare them: persona diff {left} {right}"
        )
    return bases[0], right


def _repository(app: App, after: str | None) -> Repository | None:
    """The repository; None outside one, where two folders can still be compared."""
    try:
        return app.repository()
    except NoRepository:
        if after is None:
            raise
        return None


def expanded(app: App, text: str | None) -> str | None:
    """Expand `~name/...`, which is a path; `~` alone is revision syntax."""
    return str(app.path(text).absolute()) if text and text.startswith("~") and "/" in text else text


def _render(console: Console, result: DiffResult, *, weights: bool) -> None:
    recipes = {*result.kinds} <= {"revision", "work tree"}
    if not recipes:
        console.print(f"[bold]{escape(utf8(result.before))} → {escape(utf8(result.after))}[/]")
    changed(console, result.changes, "" if recipes else " ")
    if result.readouts:
        from persona.cli.tables import readouts

        readouts.differences(console, result.readouts)
    for difference in result.unlike:
        what = f" {escape(difference.what)} {escape(difference.how)} since the build; see 'persona verify'"
        console.print(what, style="yellow")
    for file in result.files:
        console.print(f" {escape(file.text)}", style="yellow")
    if result.tensors is not None:
        _tensors(console, result, weights=weights)
    elif not recipes and not result.differs:
        what = result.kinds[0] if result.kinds[0] == result.kinds[1] else ""
        same = f"the same {what}" if what in ("vector", "readout") else "the same recipe; --stat compares the weights"
        console.print(f" {same}")
    if result.measured:
        from persona.cli.tables.scores import moves

        moves(console, result.measured)
    if result.weights is not None:
        from persona.cli.tables.weights import weights as show

        show(console, result.weights, result.before, result.after)


def _tensors(console: Console, result: DiffResult, *, weights: bool) -> None:
    from persona.cli.tables import compared

    assert result.tensors is not None
    what = "τ" if result.kinds == ("vector", "vector") else "W"
    compared.inventory(console, result.tensors)
    if not weights:
        compared.stat(console, result.tensors, what)
        return
    console.print(f"\n[bold]{compared.how_many(result.tensors)}[/]")
    if result.tensors.rows:
        compared.rows(console, result.tensors, what)
