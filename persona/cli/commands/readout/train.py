"""``persona readout train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.commands.diff import expanded
from persona.cli.complete import AGGREGATOR, SIDE
from persona.cli.output import note, utf8
from persona.cli.render import count, print_lines, table
from persona.cli.running import batch_option, blocks_option, device_option, dtype_option
from persona.errors import NoRepository

if TYPE_CHECKING:
    from persona.readout.quality import LayerQuality
    from persona.readout.training import TrainedConcept
    from persona.repository import Repository
    from persona.verbs.readout.train import ReadoutTrainResult

ACROSS = 8
"""Layers that a table of 80 columns has room for."""


@click.command("train")
@click.option(
    "--pairs", required=True, type=click.Path(readable=False), metavar="PAIRS",
    help="Labelled texts, as 'persona readout pairs' writes them.",
)  # fmt: skip
@click.option(
    "-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to write the readout to."
)
@click.option(
    "--model", type=SIDE, metavar="REV|PATH",
    help="What to read the texts with: a revision, a vector on its base, or a folder; persona.toml as it stands otherwise.",
)  # fmt: skip
@click.option(
    "--layers", default="0.6-0.8", show_default=True, metavar="LAYERS",
    help="Indices (3,18,33), ranges (14-18), depths (0.6-0.8), or auto: the best layer of each concept.",
)  # fmt: skip
@click.option(
    "--aggregator", type=AGGREGATOR, default="mean", show_default=True, metavar="NAME",
    help="How texts become a direction: mean, pca, logistic or whitened.",
)  # fmt: skip
@click.option(
    "--pooling", type=click.Choice(["mean", "last", "assistant"]), default="mean", show_default=True,
    help="Over which tokens of a text.",
)  # fmt: skip
@click.option("--concept", "concepts", multiple=True, metavar="NAME", help="Only this concept; may be repeated.")
@dtype_option
@batch_option
@device_option
@blocks_option
@click.option(
    "--too-long", type=click.Choice(["error", "cut", "skip"]), default="error", show_default=True,
    help="What becomes of texts that are longer than the model reads.",
)  # fmt: skip
@click.option(
    "--top-components", "components", type=click.IntRange(min=0), metavar="K",
    help="Neutral components that 'whitened' removes; half of the negatives' variance otherwise.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N",
    help="Decides which texts are held out, and which are paired at random.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace a readout that is there.")
@json_option
@click.pass_obj
def command(
    app: App,
    pairs: str,
    out: str,
    model: str | None,
    layers: str,
    aggregator: str,
    pooling: str,
    concepts: tuple[str, ...],
    dtype: str | None,
    batch_size: int,
    device: str,
    blocks: str | None,
    too_long: str,
    components: int | None,
    seed: int,
    replace: bool,
) -> None:
    """Find the direction of each concept in a model's activations, and say how well it tells texts apart.

    A fifth of the texts is never trained on: the AUC is that of projections of these texts. Activations lie in OUT.partial
    until the end, so the same command goes on where it was stopped.

    \b
    persona readout train --pairs pairs.jsonl -o readouts/mood
    persona readout train --pairs pairs.jsonl -o readouts/mood --layers auto --aggregator logistic
    persona readout train --model main~2 --pairs pairs.jsonl --concept warmth -o readouts/warmth
    persona readout train --model merged/ --pairs pairs.jsonl --layers 14-18,0.9 --dtype bf16 -o readouts/mood
    """
    from persona.verbs.readout.train import readout_train

    target = app.path(out)
    with _kept(target):
        done = readout_train(
            app.path(pairs),
            target,
            expanded(app, model),
            repo=_repository(app, model),
            cwd=app.folder,
            layers=layers,
            aggregator=aggregator,
            pooling=pooling,
            concepts=concepts,
            dtype=dtype,
            batch_size=batch_size,
            device=device,
            blocks=blocks,
            seed=seed,
            components=components,
            too_long=too_long,
            replace=replace,
            progress=app.progress(),
        )
    app.show("readout train", done, lambda console: _render(console, done, out))


def _repository(app: App, model: str | None) -> Repository | None:
    """The recipe's, if there is one; a folder can do without."""
    try:
        return app.repository()
    except NoRepository as error:
        if model is not None:
            return None
        raise NoRepository(error.message, "Give --model PATH, the folder of a model.") from None


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """When someone stops the work, say that it is not lost."""
    from persona.readout.working import folder_of

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if folder_of(out).is_dir():
            note(f"{folder_of(out)} has what was captured: the same command goes on from there")
        raise


def _render(console: Console, done: ReadoutTrainResult, out: str) -> None:
    where = count(len(done.layers), "layer")
    console.print(f"Wrote {escape(utf8(out))}: {count(len(done.concepts), 'concept')} at {where} of {done.blocks}")
    console.print(f" on {escape(done.model)}: {escape(_texts(done))}")
    console.print()
    console.print(_summary(done.concepts))
    for at in range(0, len(done.layers), ACROSS):
        console.print()
        console.print(_by_layer(done, done.layers[at : at + ACROSS]))
    print_lines(console, _words(done))


def _texts(done: ReadoutTrainResult) -> str:
    parts = [count(done.texts, "text"), count(done.tokens, "token")]
    parts += [f"{done.resumed:,} of them run before"] if done.resumed else []
    parts += [f"{done.cut:,} cut"] if done.cut else []
    parts += [f"{done.skipped:,} too long and left out"] if done.skipped else []
    return ", ".join(parts)


def _summary(concepts: tuple[TrainedConcept, ...]) -> object:
    heads = ("trained on", "held out", "best layer", "AUC", "95 %", "random")
    rows = table("concept", *heads, right=heads)
    for one in concepts:
        there = next((quality for quality in one.layers if quality.layer == one.best), None)
        counts = [f"{side[0]:,} + {side[1]:,}" for side in (one.trained, one.held_out)]
        best = "" if one.best is None else str(one.best)
        style = "yellow" if one.verdict else ""
        rows.add_row(escape(one.concept), *counts, best, *_figures(there), style=style)
    return rows


def _figures(quality: LayerQuality | None) -> tuple[str, str, str]:
    if quality is None or quality.auc is None:
        return ("", "", "")
    return f"{quality.auc:.2f}", f"{quality.low:.2f}–{quality.high:.2f}", f"{quality.control_high:.2f}"


def _by_layer(done: ReadoutTrainResult, layers: tuple[int, ...]) -> object:
    heads = [f"layer {layer}" if layer == layers[0] else str(layer) for layer in layers]
    rows = table("AUC", *heads, right=heads)
    for one in done.concepts:
        by_layer = {quality.layer: quality for quality in one.layers}
        rows.add_row(escape(one.concept), *(_cell(by_layer[layer], layer == one.best) for layer in layers))
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
        yield "\nPoint the same way, or opposite ways (|cos| above 0.7):"
    for cluster in done.clusters:
        yield f" {escape(', '.join(cluster.concepts))}  {cluster.cosine:+.2f}"
    said = [(one.concept, one.verdict or one.remark) for one in done.concepts if one.verdict or one.remark]
    if said:
        yield ""
    for concept, words in said:
        yield f"[yellow]{escape(concept)}[/] {escape(words or '')}."


def _signs(done: ReadoutTrainResult) -> str:
    wrong = [
        f"{one.concept} at layer {quality.layer}"
        for one in done.concepts
        for quality in one.layers
        if not quality.positives_higher
    ]
    if not wrong:
        return "Positives project higher than negatives everywhere."
    more = f", and {len(wrong) - ACROSS:,} more" if len(wrong) > ACROSS else ""
    return f"Positives project no higher than negatives (!): {escape(', '.join(wrong[:ACROSS]))}{more}"
