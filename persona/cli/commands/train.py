"""``persona train``."""

from __future__ import annotations

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
from persona.training.settings import CHOICES

if TYPE_CHECKING:
    from persona.training.problems import DataSummary
    from persona.verbs.train import TrainNodesResult, TrainResult


@click.command("train")
@click.argument("nodes", nargs=-1, metavar="[NODE]...", type=NODE)
@click.option(
    "--data", metavar="FILE", required=True, type=click.Path(readable=False),
    help="What is learnt: JSONL of messages, prompt and completion, or text; or a .txt of [NAME] turns.",
)  # fmt: skip
@click.option(
    "--eval-data", "evaluation", metavar="FILE", type=click.Path(readable=False),
    help="Examples that are not trained on: the loss on them is measured before and after.",
)  # fmt: skip
@click.option(
    "--preset", metavar="NAME", default="default", show_default=True,
    help="Settings: default, limbic, or a TOML file of your own.",
)  # fmt: skip
@click.option(
    "--as", "name", metavar="NAME", type=VECTOR, help="The vector's name; the node's, or the data's otherwise."
)
@click.option("--on", metavar="REV", type=REV, help="Begin with a build of this revision; with the base otherwise.")
@click.option(
    "-o", "out", metavar="RUN", type=click.Path(readable=False), help="The run's folder; runs/NAME otherwise."
)
@click.option("--method", type=click.Choice(CHOICES["method"]), help="What is trained; qlora needs bitsandbytes.")
@click.option("--epochs", type=float, metavar="N", help="How often each example is seen.")
@click.option("--lr", type=float, metavar="R", help="The learning rate.")
@click.option("--seed", type=int, metavar="N", help="Of the order of examples, and of what begins at random.")
@click.option("--set", "settings", metavar="K=V", multiple=True, help="Any other setting of the preset; repeatable.")
@click.option("--speaker", metavar="NAME", help="Whose turns are learnt of conversations between [NAME]s.")
@click.option(
    "--ewc", type=float, metavar="LAMBDA", help="Elastic weight consolidation: how firmly the old task is kept."
)
@click.option(
    "--ewc-data",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Examples of the old task, for its Fisher diagonal.",
)
@click.option("--alpha", type=float, metavar="A", help="How strongly the vector acts; 1 otherwise.")
@click.option("-m", "--message", metavar="MSG", help="What the commit is for.")
@click.option("--device", metavar="NAME", default="cpu", show_default=True, help="Where to train: cpu, cuda, mps.")
@click.option("--dry-run", is_flag=True, help="Look at the data, and say what would be done.")
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
    alpha: float | None,
    message: str | None,
    device: str,
    dry_run: bool,
    **common: Any,
) -> None:
    """Train a behaviour on examples, and commit it as a vector that implements NODE.

    Training begins with the base, as a vector is a difference to it. What is wrong with the data is said first. The loss
    is over the assistant's tokens, as the chat template has them. After a kill or Ctrl-C the same command goes on.

    With several NODEs each is trained by itself, one after the other, on the rows of FILE that say "node": "NODE".

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
    heard: list[str] = []

    def tell(text: str) -> None:
        heard.append(text)
        note(f"note: {text}")

    how: dict[str, Any] = {
        "evaluation": app.optional_path(evaluation),
        "preset": app.path(preset) if app.path(preset).suffix == ".toml" else preset,
        "changes": {**parse_changes(settings), **flags},
        "speaker": speaker,
        "on": on,
        "out": app.optional_path(out),
        "ewc_data": app.optional_path(ewc_data),
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
    if len(nodes) > 1 and name is not None:
        raise UsageError(
            "--as names one vector, and there are several nodes", "Each is called as its node: leave it out."
        )
    done: TrainResult | TrainNodesResult
    try:
        if len(nodes) > 1:
            done = train_nodes(repo, app.path(data), nodes, **how)
        else:
            done = train(repo, app.path(data), node=nodes[0] if nodes else None, name=name, **how)
    except KeyboardInterrupt:
        note("what was trained up to the newest checkpoint is kept: the same command goes on from there")
        raise
    app.show("train", done, lambda console: _render_all(console, done, heard))


def _render_all(console: Console, done: TrainResult | TrainNodesResult, heard: Sequence[str]) -> None:
    for number, one in enumerate(getattr(done, "runs", (done,))):
        if number:
            console.print()
        if one is not done:
            console.print(f"[bold]{escape(one.name)}[/]")
        _render(console, one, heard)


def _render(console: Console, done: TrainResult, heard: Sequence[str]) -> None:
    summary(console, "data", done.data)
    if done.evaluation:
        summary(console, "evaluation", done.evaluation)
    if done.old:
        summary(console, "old task", done.old)
    for text in done.notes:
        if text not in heard:
            console.print(f"[yellow]{escape(text)}[/]")
    if done.dry_run:
        console.print(
            f"would train {escape(done.name)}: {_how(done)}, {count(done.steps, 'step')}, in {escape(str(done.run))}"
        )
        return
    _course(console, done)
    _outcome(console, done)


def _how(done: TrainResult) -> str:
    settings = done.settings
    rank = f" r {settings['rank']}" if settings["method"] != "full" else ""
    return f"{settings['method']}{rank}, learning rate {settings['learning_rate']:g}, preset {escape(Path(done.preset).name)}"


def summary(console: Console, what: str, data: DataSummary) -> None:
    """What a file of examples has: counts, and one line for each problem."""
    used = (
        f"{data.used} of {count(data.examples, 'example')}"
        if data.used != data.examples
        else count(data.used, "example")
    )
    lengths = f"{data.shortest}–{data.longest} (median {data.median})"
    console.print(f"{what:10} {used}, {count(data.tokens, 'token')}, {data.learnt:,} learnt, lengths {lengths}")
    for one in data.problems:
        lines = ", ".join(where.rpartition(":")[2] for where in one.where) + (
            ", …" if one.count > len(one.where) else ""
        )
        console.print(f"           [yellow]{one.count} {escape(one.what)}, {one.done}[/] [dim](line {lines})[/]")


def _course(console: Console, done: TrainResult) -> None:
    """Steps and the loss curve."""
    if not done.trained:
        console.print(f"this run was finished already, in {escape(str(done.run))}")
    elif done.resumed:
        console.print(f"went on from step {done.resumed}")
    if done.curve:
        losses = [loss for _, loss in done.curve]
        console.print(
            f"{'loss':10} {sparkline(losses)}  {losses[0]:.3g} → {losses[-1]:.3g}   {_how(done)}, {count(done.steps, 'step')}"
        )
    if done.before is not None and done.after is not None:
        console.print(f"{'evaluation':10} {done.before:.4g} → {done.after:.4g} per token")
    if done.ewc:
        one = done.ewc
        console.print(
            f"{'old task':10} Σ F δ² {one.drift:.3g}, λ {one.strength:g}, trace F {one.trace:.3g}, "
            f"{count(one.tensors, 'tensor')}, {size(4 * one.entries)}"
        )


def _outcome(console: Console, done: TrainResult) -> None:
    """The commit, or why there is none."""
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
