"""`persona train`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import NODE, REV, VECTOR
from persona.cli.output import note
from persona.cli.render import count, size
from persona.cli.tables.commits import headline
from persona.cli.tables.facts import sparkline
from persona.errors import UsageError
from persona.recipe.alphas import alpha_text
from persona.threads import cores, free_cores
from persona.training.settings import CHOICES, default_settings

if TYPE_CHECKING:
    from persona.training.anchors import AnchorSummary
    from persona.training.problems import DataSummary
    from persona.verbs.train import TrainNodesResult, TrainResult


@click.command("train")
@click.argument("nodes", nargs=-1, metavar="[NODE]...", type=NODE)
@click.option(
    "--data", metavar="FILE", required=True, type=click.Path(readable=False),
    help="Examples: JSON with a conversation, prompt and completion, or text in each row; or a .txt of [NAME] turns.",
)  # fmt: skip
@click.option(
    "--eval-data", "evaluation", metavar="FILE", type=click.Path(readable=False),
    help="Examples to measure the loss on, before and after.",
)  # fmt: skip
@click.option(
    "--preset", metavar="NAME", default="default", show_default=True,
    help="Preset of settings: default, limbic, or a TOML file.",
)  # fmt: skip
@click.option(
    "--as", "name", metavar="NAME", type=VECTOR, help="Name of the vector. [default: name of the node or data]"
)
@click.option("--on", metavar="REV", type=REV, help="Start from a build of this revision. [default: the base]")
@click.option(
    "-o", "out", metavar="RUN", type=click.Path(readable=False), help="Folder to write the run to. [default: runs/NAME]"
)
@click.option(
    "--method",
    type=click.Choice(CHOICES["method"]),
    help="Training method; qlora needs bitsandbytes. [default: from the preset]",
)
@click.option("--epochs", type=float, metavar="N", help="Number of training epochs. [default: from the preset]")
@click.option("--lr", type=float, metavar="R", help="Learning rate. [default: from the preset]")
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Random seed for initialization and the order of examples. [default: from the preset, or 0]",
)
@click.option(
    "--set", "settings", metavar="K=V", multiple=True,
    help=f"Override a setting of the preset; repeatable. The settings of the default preset: {default_settings()}.",
)  # fmt: skip
@click.option("--speaker", metavar="NAME", help="Speaker whose turns to learn, in conversations of [NAME] turns.")
@click.option("--ewc", type=float, metavar="LAMBDA", help="Strength of elastic weight consolidation.")
@click.option(
    "--ewc-data",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Examples of the old task, for elastic weight consolidation.",
)
@click.option(
    "--anchor", "anchors", metavar="FILE", multiple=True, type=click.Path(readable=False),
    help="Prompts whose answers should stay as they are, besides the built-in ones; repeatable.",
)  # fmt: skip
@click.option("--no-anchor", is_flag=True, help="Train without anchors.")
@click.option("--alpha", type=float, metavar="A", help="Alpha of the vector. [default: 1]")
@click.option("-m", "--message", metavar="MSG", help="Commit message.")
@click.option(
    "--device", metavar="DEVICE", default="cpu", show_default=True, help="Device to train on: cpu, cuda or mps."
)
@click.option("--dry-run", is_flag=True, help="Check the data, show what would be done, and change nothing.")
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    nodes: tuple[str, ...],
    data: str,
    evaluation: str | None,
    preset: str,
    name: str | None,
    on: str | None,
    out: str | None,
    settings: tuple[str, ...],
    speaker: str | None,
    ewc_data: str | None,
    anchors: tuple[str, ...],
    no_anchor: bool,
    alpha: float | None,
    message: str | None,
    device: str,
    dry_run: bool,
    **common: Any,
) -> None:
    """Train a vector on examples and commit it

    Starts from the base, because a vector is a difference from it. Problems with the data are reported before training.
    The loss covers only the assistant's tokens, located with the chat template. Run the same command again to resume
    after an interruption.

    The vector implements NODE of the memory graph. With several NODEs, trains one vector for each, on the examples
    with "node": "NODE".

    A narrow data set also changes answers to everything else. With the default preset, the model first answers neutral
    prompts; these answers, the anchors, are learned beside the data, so that they stay as they are.

    \b
    persona train pattern-listening --data listening.jsonl --as listening
    persona train --data chat.txt --speaker RIYA --as riya --dry-run
    persona train --data turns.jsonl --preset limbic --set max_length=8192
    persona train --data new.jsonl --as new --ewc 100 --ewc-data old.jsonl
    persona train listening pacing --data all.jsonl
    """
    from persona.checkpoints.provenance.code import training_code
    from persona.training.settings import parse_changes
    from persona.verbs.train import train, train_nodes

    repo = app.repository()
    names = {"lr": "learning_rate"}
    flags = {names.get(key, key): value for key, value in common.items() if value is not None}
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        note(f"note: {text}")

    options: dict[str, Any] = {
        "evaluation": app.optional_path(evaluation),
        "preset": app.path(preset) if app.path(preset).suffix == ".toml" else preset,
        "changes": {**parse_changes(settings), **flags, **({"anchor_share": 0.0} if no_anchor else {})},
        "speaker": speaker,
        "on": on,
        "out": app.optional_path(out),
        "ewc_data": app.optional_path(ewc_data),
        "anchors": [app.path(path) for path in anchors],
        "alpha": alpha,
        "message": message,
        "author": app.author(repo),
        "device": device,
        "dry_run": dry_run,
        "code": None if dry_run else training_code([Path(app.folder)]),
        "command": app.command,
        "told": tell,
        "progress": app.progress(),
    }
    if anchors and no_anchor:
        raise UsageError("--anchor and --no-anchor exclude each other", "Leave one of them out.")
    if len(nodes) > 1 and name is not None:
        raise UsageError("--as cannot be used with several nodes", "Omit it: each vector is named after its node.")
    if device == "cpu" and not dry_run:
        _note_if_busy()
    done: TrainResult | TrainNodesResult
    try:
        if len(nodes) > 1:
            done = train_nodes(repo, app.path(data), nodes, **options)
        else:
            done = train(repo, app.path(data), node=nodes[0] if nodes else None, name=name, **options)
    except KeyboardInterrupt:
        note("the newest checkpoint is kept: run the same command to resume")
        raise
    app.show("train", done, lambda console: _render_all(console, done, told))


def _note_if_busy() -> None:
    """Say so if torch is about to use cores that other programs keep busy, as its threads then wait for each other."""
    known = os.environ.get("OMP_NUM_THREADS", "")
    threads, free = min(int(known) if known.isdecimal() else cores(), cores()), free_cores()
    if threads > free:
        note(
            f"note: other programs are using cores of this machine, and {threads} threads may be slower than {free}: "
            f"OMP_NUM_THREADS={free} persona train …"
        )


def _render_all(console: Console, done: TrainResult | TrainNodesResult, told: Sequence[str]) -> None:
    for number, run in enumerate(getattr(done, "runs", (done,))):
        if number:
            console.print()
        if run is not done:
            console.print(f"[bold]{escape(run.name)}[/]")
        _render(console, run, told)


def _render(console: Console, done: TrainResult, told: Sequence[str]) -> None:
    """Print the result of one run, without notes that the user was already `told`."""
    summary(console, "data", done.data)
    if done.evaluation:
        summary(console, "evaluation", done.evaluation)
    if done.old:
        summary(console, "old task", done.old)
    if done.anchors:
        _anchors(console, done.anchors)
    for text in done.notes:
        if text not in told:
            console.print(f"[yellow]{escape(text)}[/]")
    if done.dry_run:
        console.print(
            f"would train {escape(done.name)}: {_settings(done)}, {count(done.steps, 'step')}, in {escape(str(done.run))}"
        )
        return
    _course(console, done)
    _outcome(console, done)


def _settings(done: TrainResult) -> str:
    settings = done.settings
    rank = f" r {settings['rank']}" if settings["method"] != "full" else ""
    return f"{settings['method']}{rank}, learning rate {settings['learning_rate']:g}, preset {escape(Path(done.preset).name)}"


def summary(console: Console, what: str, data: DataSummary) -> None:
    """Print the counts of a file of examples, and a line for each problem."""
    used = f"{data.used} of " if data.used != data.examples else ""
    used += count(data.examples, "example")
    lengths = f"{data.shortest}–{data.longest} (median {data.median})"
    console.print(f"{what:10} {used}, {count(data.tokens, 'token')}, {data.learnt:,} learnt, lengths {lengths}")
    for problem in data.problems:
        lines = ", ".join(where.rpartition(":")[2] for where in problem.where)
        lines += ", …" if problem.count > len(problem.where) else ""
        what = f"{problem.count} {escape(problem.what)}, {problem.done}"
        console.print(f"           [yellow]{what}[/] [dim](line {lines})[/]")


def _anchors(console: Console, anchors: AnchorSummary) -> None:
    """Print the number of anchors, and how they went."""
    own = f" ({anchors.own} from --anchor)" if anchors.own else ""
    tokens = f", {count(anchors.tokens, 'token')} of answers" if anchors.tokens else ""
    loss = f", loss {anchors.first:.3g} → {anchors.last:.3g}" if anchors.first is not None else ""
    console.print(
        f"{'anchors':10} {count(anchors.prompts, 'neutral prompt')}{own}{tokens}, {anchors.per_batch} beside each batch{loss}"
    )


def _course(console: Console, done: TrainResult) -> None:
    """Print steps, losses and the loss curve."""
    if not done.trained:
        console.print(f"this run is already finished, in {escape(str(done.run))}")
    elif done.resumed:
        console.print(f"resumed from step {done.resumed}")
    if done.curve:
        losses = [loss for _, loss in done.curve]
        console.print(
            f"{'loss':10} {sparkline(losses)}  {losses[0]:.3g} → {losses[-1]:.3g}   "
            f"{_settings(done)}, {count(done.steps, 'step')}"
        )
    if done.before is not None and done.after is not None:
        console.print(f"{'evaluation':10} {done.before:.4g} → {done.after:.4g} per token")
    if done.ewc:
        ewc = done.ewc
        console.print(
            f"{'old task':10} Σ F δ² {ewc.drift:.3g}, λ {ewc.strength:g}, trace F {ewc.trace:.3g}, "
            f"{count(ewc.tensors, 'tensor')}, {size(4 * ewc.entries)}"
        )


def _outcome(console: Console, done: TrainResult) -> None:
    """Print the commit, or why there is none."""
    committed = done.committed
    if committed is None or committed.recorded is None:
        for text in committed.notes if committed else ():
            console.print(escape(text))
        return
    headline(console, committed.recorded)
    kept = f"{committed.form}, {count(committed.tensors, 'tensor')}, {size(committed.kept_bytes)} kept"
    console.print(f" + [green]{escape(done.name)}[/]   α {alpha_text(committed.alpha or 0.0)}   {kept}")
    for text in committed.notes:
        console.print(f"   {escape(text)}")
