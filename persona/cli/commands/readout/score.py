"""`persona readout score`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

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
    from persona.verbs.readout.score import ReadoutScore, ScoredText, ScoredToken

MOST_COLUMNS = 5
"""Maximum number of concepts in a table of tokens; those that vary most are shown."""


@click.command("score")
@click.argument("text", metavar="TEXT|FILE|-")
@click.option("--model", type=SIDE, metavar="REV|FOLDER", help="Model to read with. [default: persona.toml]")
@running_options
@click.option("--units", type=click.Choice(("std", "raw")), help="Unit of the scores. [default: std if known]")
@click.option("--per-token", is_flag=True, help="Also show each token, at the last layer.")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw a heat map (.png or .svg).")
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    text: str,
    model: str | None,
    readout: str | None,
    units: str | None,
    per_token: bool,
    plot: str | None,
    **model_options: Any,
) -> None:
    """Score texts by concept and layer

    A FILE is one text, or with .jsonl the 'text' of each line; - is standard input. The unit std is standard
    deviations from the mean of the readout's training texts without the concept.

    \b
    persona readout score "I hear you. Tell me more." --readout readouts/mood
    persona readout score letter.txt --readout readouts/mood --model HEAD~1 --per-token
    persona readout score replies.jsonl --readout readouts/mood --plot mood.png
    """
    from persona.verbs.readout.score import readout_score

    picture = Picture(app, plot)
    scores = readout_score(
        repository_if_any(app), _texts(app, text), readout, model,
        per_token=per_token, units=units, cwd=app.folder, progress=app.progress(), **model_options,
    )  # fmt: skip
    say_notes(app, scores)
    picture.write(lambda suffix: _drawn(scores, suffix))
    app.show("readout score", scores, picture.below(lambda console: _render(console, scores)))


def _drawn(scores: ReadoutScore, suffix: str) -> bytes:
    from persona.cli.plots import readout_bars

    title = f"{scores.model}, {scores.units}"
    return readout_bars.picture(scores.mean, scores.concepts, scores.layers, title, suffix)


def _texts(app: App, argument: str) -> tuple[str, ...]:
    """The text on standard input, the texts of a file, or the argument itself."""
    from persona.workspace.reading import texts_in

    if argument == "-":
        return (sys.stdin.read(),)
    path = app.path(argument)
    if "\n" not in argument and len(argument.encode()) < 1000 and path.is_file():
        return texts_in(path, whole=True)
    if not argument.strip() or (" " not in argument.strip() and ("/" in argument or "." in argument[:-1])):
        raise UsageError(f"no file '{argument}'", "To score a text that looks like a file name, pipe it and give '-'.")
    return (argument,)


def _render(console: Console, scores: ReadoutScore) -> None:
    single = len(scores.texts) == 1
    what = _shortened(scores.texts[0].text) if single else f"{len(scores.texts):,} texts"
    console.print(f"[bold]{escape(what)}[/]")
    unit = "standard deviations from usual" if scores.units == "std" else "raw projections"
    console.print(f"read by {escape(utf8(scores.model))} along {escape(utf8(scores.readout))}, {unit}\n")
    _bars(console, scores)
    for text in scores.texts:
        if text.tokens:
            console.print()
            _tokens(console, scores, text, head=not single)


def _bars(console: Console, scores: ReadoutScore) -> None:
    from persona.cli.plots.readout_bars import bar, number, width

    spreads = scores.spread
    heads = ["mean", "±"] if spreads is not None else ["score"]
    most = max(abs(value) for row in scores.mean for value in row)
    wide = width(console, max(map(len, scores.concepts)) + 26)
    rows = table("concept", "layer", *heads, *([""] if wide else []), right=("layer", *heads))
    for at, concept in enumerate(scores.concepts):
        for column, layer in enumerate(scores.layers):
            value = scores.mean[at][column]
            cells: list[str | Text] = [escape(concept) if column == 0 else "", str(layer), number(value)]
            cells += [f"{spreads[at][column]:.2f}"] if spreads is not None else []
            rows.add_row(*cells, *([bar(value, most, wide)] if wide else []))
    console.print(rows)


def _tokens(console: Console, scores: ReadoutScore, text: ScoredText, *, head: bool) -> None:
    """Print a row per token with scores at the last layer, for the concepts that vary most."""
    from persona.cli.plots.readout_bars import number

    values = [[row[-1] for row in token.scores] for token in text.tokens]
    read = [line for token, line in zip(text.tokens, values, strict=True) if not _sink(token)] or values
    spans = [max(column) - min(column) for column in zip(*read, strict=True)]
    shown = sorted(sorted(range(len(spans)), key=lambda at: -spans[at])[:MOST_COLUMNS])
    if head:
        console.print(escape(_shortened(text.text)), style="bold")
    left_out = len(spans) - len(shown)
    beside = f"; {count(left_out, 'concept')} more in --json" if left_out else ""
    console.print(f"Each token, at layer {scores.layers[-1]}{beside}\n")
    names = [scores.concepts[at] for at in shown]
    sinks = any(map(_sink, text.tokens))
    rows = table("token", *names, *([""] if sinks else []), right=names)
    for token, line in zip(text.tokens, values, strict=True):
        cells = [f"[dim]{number(line[at])}[/]" if _sink(token) else number(line[at]) for at in shown]
        rows.add_row(escape(repr(token.token)[1:-1]), *cells, *(["sink" if _sink(token) else ""] if sinks else []))
    console.print(rows)
    if sinks:
        console.print("\nThe score of the text is a mean without attention sinks.")


def _sink(token: ScoredToken) -> bool:
    """Whether a token is left out of the score at the last layer."""
    return token.sink[-1:] == (True,)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line if len(line) <= 60 else line[:59] + '…'}”"
