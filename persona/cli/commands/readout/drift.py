"""`persona readout drift`."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SIDE
from persona.cli.output import utf8
from persona.cli.plots.picture import Picture
from persona.cli.readout_running import repository_if_any, running_options, say_notes
from persona.cli.render import table

if TYPE_CHECKING:
    from persona.verbs.readout.drift import ReadoutDrift


@click.command("drift")
@click.argument("before", metavar="A", type=SIDE)
@click.argument("after", metavar="[B]", required=False, type=SIDE)
@click.option(
    "--texts", type=click.Path(readable=False), required=True, metavar="FILE",
    help="Texts to read, one per line; in a .jsonl file, the 'text' of each line.",
)  # fmt: skip
@running_options
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw a heat map (.png or .svg).")
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    before: str,
    after: str | None,
    texts: str,
    readout: str | None,
    plot: str | None,
    **model_options: Any,
) -> None:
    """Compare how two models read the same texts

    A and B are revisions, vectors or folders; B defaults to the current persona.toml. Shifts of the mean are in
    standard deviations of the texts in A, with 95 % intervals of the paired differences. A concept has moved if its
    shift is at least 0.2 and statistically significant, corrected for the number of concepts and layers.

    \b
    persona readout drift HEAD~1 HEAD --texts letters.jsonl --readout readouts/mood
    persona readout drift main --texts letters.jsonl --readout readouts/mood
    persona readout drift merged/ other/ --texts letters.jsonl --readout readouts/mood --plot drift.svg
    """
    from persona.verbs.readout.drift import readout_drift
    from persona.workspace.reading import texts_in

    picture = Picture(app, plot)
    drift = readout_drift(
        repository_if_any(app), before, after, texts_in(app.path(texts)), readout,
        cwd=app.folder, progress=app.progress(), **model_options,
    )  # fmt: skip
    say_notes(app, drift)
    picture.write(lambda suffix: _drawn(drift, suffix))
    app.show("readout drift", drift, picture.below(lambda console: _render(console, drift)))


def _drawn(drift: ReadoutDrift, suffix: str) -> bytes:
    from persona.cli.plots import readout_bars

    by_place = {(shift.concept, shift.layer): shift.shift for shift in drift.shifts}
    values = [[by_place[concept, layer] for layer in drift.layers] for concept in drift.concepts]
    return readout_bars.picture(values, drift.concepts, drift.layers, f"{drift.before} → {drift.after}, std", suffix)


def _render(console: Console, drift: ReadoutDrift) -> None:
    from persona.cli.plots.readout_bars import bar, number, width

    console.print(f"[bold]{escape(utf8(drift.before))} → {escape(utf8(drift.after))}[/]")
    console.print(f"{drift.texts:,} texts along {escape(utf8(drift.readout))}\n")
    for line in textwrap.wrap(drift.said, min(console.width, 100)) if console.is_terminal else [drift.said]:
        console.print(escape(line))
    console.print()
    most = max((abs(shift.shift) for shift in drift.shifts if not math.isnan(shift.shift)), default=0.0)
    wide = width(console, max(map(len, drift.concepts)) + 38)
    heads = ("layer", "shift", "95 % interval")
    rows = table("concept", *heads, *([""] if wide else []), right=heads)
    last = ""
    for shift in drift.shifts:
        interval = f"{number(shift.low)} to {number(shift.high)}"
        value = f"[bold]{number(shift.shift)}[/]" if shift.moved else number(shift.shift)
        cells = [escape(shift.concept) if shift.concept != last else "", str(shift.layer), value, interval]
        rows.add_row(*cells, *([bar(shift.shift, most, wide)] if wide else []))
        last = shift.concept
    console.print(rows)
