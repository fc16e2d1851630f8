"""`persona readout train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.commands.diff import expanded
from persona.cli.complete import AGGREGATOR, SIDE
from persona.cli.output import note, utf8
from persona.cli.readout_running import model_options
from persona.cli.render import count, print_lines, table
from persona.errors import NoRepository

if TYPE_CHECKING:
    from persona.readout.quality import LayerQuality
    from persona.readout.training import TrainedConcept
    from persona.repository import Repository
    from persona.verbs.readout.train import ReadoutTrainResult

ACROSS = 8
"""Maximum number of layers side by side in a table of 80 columns."""


@click.command("train")
@click.option(
    "--pairs", required=True, type=click.Path(readable=False), metavar="FILE",
    help="Labelled texts, as written by 'persona readout pairs'.",
)  # fmt: skip
@click.option(
    "-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to write the readout to."
)
@click.option(
    "--model", type=SIDE, metavar="REV|FOLDER",
    help="Model to train on: a revision, a vector on its base, or a folder. [default: persona.toml]",
)  # fmt: skip
@click.option(
    "--layers", default="0.6-0.8", show_default=True, metavar="LAYERS",
    help="Indices (3,18,33), ranges (14-18), depths (0.6-0.8), or auto for the best layer of each concept.",
)  # fmt: skip
@click.option(
    "--aggregator", type=AGGREGATOR, default="mean", show_default=True, metavar="NAME",
    help="How texts become a direction: mean, pca, logistic or whitened.",
)  # fmt: skip
@click.option(
    "--pooling", type=click.Choice(["mean", "last", "assistant"]), default="mean", show_default=True,
    help="Tokens to average over.",
)  # fmt: skip
@click.option("--concept", "concepts", multiple=True, metavar="NAME", help="Train only this concept; repeatable.")
@model_options
@click.option(
    "--too-long", type=click.Choice(["error", "cut", "skip"]), default="error", show_default=True,
    help="What to do with texts longer than the model's context.",
)  # fmt: skip
@click.option(
    "--top-components", "components", type=click.IntRange(min=0), metavar="K",
    help="Neutral components that 'whitened' removes. [default: half of the negatives' variance]",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N",
    help="Random seed for held-out texts and random pairs.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace an existing readout.")
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    pairs: str,
    out: str,
    model: str | None,
    **options: Any,
) -> None:
    """Train a direction for each concept

    A fifth of the texts is held out from training; the AUC is measured on them. Attention sinks are left out: a text's
    first token, and tokens with an activation more than 4 times as long as the text's median. Activations are kept in OUT.partial
    until the end, so the same command resumes an interrupted run.

    \b
    persona readout train --pairs pairs.jsonl -o readouts/mood
    persona readout train --pairs pairs.jsonl -o readouts/mood --layers auto --aggregator logistic
    persona readout train --model main~2 --pairs pairs.jsonl --concept warmth -o readouts/warmth
    persona readout train --model merged/ --pairs pairs.jsonl --layers 14-18,0.9 --dtype bf16 -o readouts/mood
    """
    from persona.verbs.readout.train import readout_train

    target = app.path(out)
    with _explaining_resume(target):
        done = readout_train(
            app.path(pairs), target, expanded(app, model),
            repo=_repository(app, model), cwd=app.folder, progress=app.progress(), **options,
        )  # fmt: skip
    app.show("readout train", done, lambda console: _render(console, done, out))


def _repository(app: App, model: str | None) -> Repository | None:
    """The current repository; None outside one, if a model is given."""
    try:
        return app.repository()
    except NoRepository as error:
        if model is not None:
            return None
        raise NoRepository(error.message, "Outside a repository, pass --model FOLDER.") from None


@contextmanager
def _explaining_resume(out: Path) -> Iterator[None]:
    """On an interrupt, say that the same command resumes the run."""
    from persona.readout.working import folder_of

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if folder_of(out).is_dir():
            note(f"activations so far are kept in {folder_of(out)}: run the same command to resume")
        raise


def _render(console: Console, done: ReadoutTrainResult, out: str) -> None:
    from persona.readout.sinks import in_words

    where = count(len(done.layers), "layer")
    console.print(f"Wrote {escape(utf8(out))}: {count(len(done.concepts), 'concept')} at {where} of {done.blocks}")
    console.print(f" on {escape(done.model)}: {escape(_texts(done))}")
    console.print(f" attention sinks left out: {in_words(done.sinks, done.layers)}")
    console.print()
    console.print(_summary(done.concepts))
    for at in range(0, len(done.layers), ACROSS):
        console.print()
        console.print(_by_layer(done, done.layers[at : at + ACROSS]))
    print_lines(console, _words(done))


def _texts(done: ReadoutTrainResult) -> str:
    parts = [count(done.texts, "text"), count(done.tokens, "token")]
    parts += [f"{done.resumed:,} resumed"] if done.resumed else []
    parts += [f"{done.cut:,} cut"] if done.cut else []
    parts += [f"{done.skipped:,} too long and left out"] if done.skipped else []
    return ", ".join(parts)


def _summary(concepts: tuple[TrainedConcept, ...]) -> object:
    heads = ("trained on", "held out", "best layer", "AUC", "95 %", "random")
    rows = table("concept", *heads, right=heads)
    for concept in concepts:
        at_best = next((quality for quality in concept.layers if quality.layer == concept.best), None)
        counts = [f"{positive:,} + {negative:,}" for positive, negative in (concept.trained, concept.held_out)]
        best = "" if concept.best is None else str(concept.best)
        style = "yellow" if concept.verdict else ""
        rows.add_row(escape(concept.concept), *counts, best, *_figures(at_best), style=style)
    return rows


def _figures(quality: LayerQuality | None) -> tuple[str, str, str]:
    if quality is None or quality.auc is None:
        return ("", "", "")
    return f"{quality.auc:.2f}", f"{quality.low:.2f}–{quality.high:.2f}", f"{quality.control_high:.2f}"


def _by_layer(done: ReadoutTrainResult, layers: tuple[int, ...]) -> object:
    heads = [f"layer {layer}" if layer == layers[0] else str(layer) for layer in layers]
    rows = table("AUC", *heads, right=heads)
    for concept in done.concepts:
        by_layer = {quality.layer: quality for quality in concept.layers}
        cells = (_cell(by_layer[layer], layer == concept.best) for layer in layers)
        rows.add_row(escape(concept.concept), *cells)
    return rows


def _cell(quality: LayerQuality, is_best: bool) -> str:
    if quality.auc is None:
        return "–"
    text = f"{quality.auc:.2f}" + ("" if quality.positives_higher else "!")
    return f"[bold]{text}[/]" if is_best else text


def _words(done: ReadoutTrainResult) -> Iterator[str]:
    yield ""
    yield _signs(done)
    if done.clusters:
        yield "\nSimilar or opposite directions (|cos| above 0.7):"
    for cluster in done.clusters:
        yield f" {escape(', '.join(cluster.concepts))}  {cluster.cosine:+.2f}"
    remarks = [(concept.concept, concept.verdict or concept.remark) for concept in done.concepts]
    if any(remark for _, remark in remarks):
        yield ""
    for concept, remark in remarks:
        if remark:
            yield f"[yellow]{escape(concept)}[/] {escape(remark)}."


def _signs(done: ReadoutTrainResult) -> str:
    wrong = [
        f"{concept.concept} at layer {quality.layer}"
        for concept in done.concepts
        for quality in concept.layers
        if not quality.positives_higher
    ]
    if not wrong:
        return "Positives project higher than negatives everywhere."
    more = f", and {len(wrong) - ACROSS:,} more" if len(wrong) > ACROSS else ""
    return f"Positives project no higher than negatives (!): {escape(', '.join(wrong[:ACROSS]))}{more}"
