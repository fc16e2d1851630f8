"""``persona readout score``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona.cli.app import App, json_option
from persona.cli.complete import SIDE
from persona.cli.output import utf8
from persona.cli.plots.picture import Picture
from persona.cli.readout_running import repository_if_any, running_options, say_notes
from persona.cli.render import count, table
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.readout.score import ReadoutScore, ScoredText

MOST_COLUMNS = 5
"""Concepts that a table of tokens shows: those that differ most over them."""


@click.command("score")
@click.argument("text", metavar="TEXT|FILE|-")
@click.option("--model", type=SIDE, metavar="REV|PATH", help="The model that reads it; persona.toml otherwise.")
@running_options
@click.option("--units", type=click.Choice(("std", "raw")), help="std where the readout has them, unless given.")
@click.option("--per-token", is_flag=True, help="Also show each token of the text, at the last layer.")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw a heat map: a .png or .svg file.")
@json_option
@click.pass_obj
def command(
    app: App,
    text: str,
    model: str | None,
    readout: str | None,
    dtype: str | None,
    device: str,
    blocks: str | None,
    batch_size: int,
    units: str | None,
    per_token: bool,
    plot: str | None,
) -> None:
    """Show what a text reads as along a readout, concept by layer.

    A FILE is one text, or with .jsonl the 'text' of each line; - is standard input. Scores are in standard deviations
    (std) from what is usual in texts that have not the concept, as the readout's training found it.

    \b
    persona readout score "I hear you. Tell me more." --readout readouts/mood
    persona readout score letter.txt --readout readouts/mood --model HEAD~1 --per-token
    persona readout score replies.jsonl --readout readouts/mood --plot mood.png
    """
    from persona.verbs.readout.score import readout_score

    picture = Picture(app, plot)
    found = readout_score(
        repository_if_any(app), _texts(app, text), readout, model,
        per_token=per_token, units=units, cwd=app.folder, dtype=dtype, device=device, blocks=blocks,
        batch_size=batch_size, progress=app.progress(),
    )  # fmt: skip
    say_notes(app, found)
    picture.write(lambda suffix: _drawn(found, suffix))
    app.show("readout score", found, picture.below(lambda console: _render(console, found)))


def _drawn(found: ReadoutScore, suffix: str) -> bytes:
    from persona.cli.plots import readout_bars

    title = f"{found.model}, {found.units}"
    return readout_bars.picture(found.mean, found.concepts, found.layers, title, suffix)


def _texts(app: App, said: str) -> tuple[str, ...]:
    """Standard input, the texts of a file, or what was said itself."""
    from persona.workspace.reading import texts_in

    if said == "-":
        return (sys.stdin.read(),)
    path = app.path(said)
    if "\n" not in said and len(said.encode()) < 1000 and path.is_file():
        return texts_in(path, whole=True)
    if not said.strip() or (" " not in said.strip() and ("/" in said or "." in said[:-1])):
        raise UsageError(f"there is no file '{said}'", "A text that looks like a file's name can be piped: give '-'.")
    return (said,)


def _render(console: Console, found: ReadoutScore) -> None:
    one = len(found.texts) == 1
    what = _shortened(found.texts[0].text) if one else f"{len(found.texts):,} texts"
    console.print(f"[bold]{escape(what)}[/]")
    unit = "standard deviations from usual" if found.units == "std" else "raw projections"
    console.print(f"read by {escape(utf8(found.model))} along {escape(utf8(found.readout))}, {unit}\n")
    _bars(console, found)
    for text in found.texts:
        if text.tokens:
            console.print()
            _tokens(console, found, text, head=not one)


def _bars(console: Console, found: ReadoutScore) -> None:
    from persona.cli.plots.readout_bars import bar, number, width

    spreads = found.spread
    heads = ["mean", "±"] if spreads is not None else ["score"]
    most = max(abs(value) for row in found.mean for value in row)
    wide = width(console, max(map(len, found.concepts)) + 26)
    rows = table("concept", "layer", *heads, *([""] if wide else []), right=("layer", *heads))
    for at, concept in enumerate(found.concepts):
        for column, layer in enumerate(found.layers):
            value = found.mean[at][column]
            cells: list[str | Text] = [escape(concept) if column == 0 else "", str(layer), number(value)]
            cells += [f"{spreads[at][column]:.2f}"] if spreads is not None else []
            rows.add_row(*cells, *([bar(value, most, wide)] if wide else []))
    console.print(rows)


def _tokens(console: Console, found: ReadoutScore, text: ScoredText, *, head: bool) -> None:
    """A row for each token, at the last layer, of the concepts that differ most over them."""
    from persona.cli.plots.readout_bars import number

    values = [[row[-1] for row in token.scores] for token in text.tokens]
    spans = [max(column) - min(column) for column in zip(*values, strict=True)]
    shown = sorted(sorted(range(len(spans)), key=lambda at: -spans[at])[:MOST_COLUMNS])
    if head:
        console.print(escape(_shortened(text.text)), style="bold")
    left_out = len(spans) - len(shown)
    beside = f"; {count(left_out, 'concept')} more in --json" if left_out else ""
    console.print(f"Each token, at layer {found.layers[-1]}{beside}\n")
    names = [found.concepts[at] for at in shown]
    rows = table("token", *names, right=names)
    for token, line in zip(text.tokens, values, strict=True):
        rows.add_row(escape(repr(token.token)[1:-1]), *(number(line[at]) for at in shown))
    console.print(rows)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line if len(line) <= 60 else line[:59] + '…'}”"
