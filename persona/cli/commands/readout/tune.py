"""``persona readout tune``."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SIDE
from persona.cli.output import utf8
from persona.cli.readout_running import repository_if_any, running_options, say_notes
from persona.cli.render import count, table
from persona.cli.running import options_of
from persona.readout.tuning import ReplyBounds, SteeringSearch

if TYPE_CHECKING:
    from persona.readout.tuning import SteeringTrial
    from persona.verbs.readout.tune import ReadoutTuneResult

MOST = 12
"""Largest number of trials in the table, besides trial 0."""


@click.command("tune")
@options_of(SteeringSearch, "search")
@options_of(ReplyBounds, "bounds")
@click.option(
    "--prompts", type=click.Path(readable=False), required=True, metavar="FILE",
    help="Prompts to reply to, one per line; in a .jsonl file, the 'text' of each line.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(readable=False), required=True, metavar="FILE",
    help="JSON file for the trials; if it exists, resume from it.",
)  # fmt: skip
@click.option("--model", type=SIDE, metavar="REV|FOLDER", help="Model to steer. [default: persona.toml]")
@running_options
@click.option(
    "--trials", type=click.IntRange(min=1), default=40, show_default=True, metavar="N", help="Number of trials."
)
@click.option("--plain", is_flag=True, help="Do not apply the model's chat template to prompts.")
@json_option
@click.pass_obj
def command(
    app: App,
    search: SteeringSearch,
    bounds: ReplyBounds,
    prompts: str,
    out: str,
    model: str | None,
    readout: str | None,
    dtype: str | None,
    device: str,
    blocks: str | None,
    batch_size: int,
    trials: int,
    plain: bool,
) -> int:
    """Find the best layer and strengths for steering

    Searches for the largest effect that leaves replies coherent. In each trial the steered model replies to all prompts, and
    the unsteered model reads the replies: how far they moved along the readout, and their perplexity, repetition and special
    tokens, which must stay within bounds. Exits with code 1 if no trial succeeds. Needs optuna: pip install
    'persona-vcs[tune]'.

    \b
    persona readout tune --toward warmth --prompts p.txt --readout readouts/mood -o tune.json
    persona readout tune --toward warmth --away-from coldness --prompts p.txt --readout readouts/mood -o tune.json
    persona readout tune --away-from haste --prompts p.jsonl --readout readouts/mood -o haste.json
    """
    from persona.verbs.readout.tune import readout_tune
    from persona.workspace.reading import texts_in

    found = readout_tune(
        repository_if_any(app), app.path(out), texts_in(app.path(prompts)), replace(search, bounds=bounds), readout, model,
        count=trials, plain=plain, cwd=app.folder, dtype=dtype, device=device, blocks=blocks,
        batch_size=batch_size, progress=app.progress(),
    )  # fmt: skip
    say_notes(app, found)
    app.show("readout tune", found, lambda console: _render(console, found, out))
    return 0 if found.best is not None else 1


def _render(console: Console, found: ReadoutTuneResult, out: str) -> None:
    way = " and ".join(
        f"{words} {escape(name)}"
        for words, name in (("towards", found.toward), ("away from", found.away_from))
        if name is not None
    )
    console.print(f"[bold]{escape(utf8(found.model))}, {way}[/]")
    resumed = f", {found.resumed - 1} of them resumed" if found.resumed else ""  # without trial 0
    console.print(f"{count(len(found.trials) - 1, 'trial')}{resumed}, {count(found.prompts, 'prompt')}\n")
    _trials(console, found)
    console.print()
    for line in textwrap.wrap(found.said, min(console.width, 100)) if console.is_terminal else [found.said]:
        console.print(escape(line), style="" if found.best else "yellow")
    if found.best is not None:
        console.print(f"\nunsteered  {escape(_shortened(found.trials[0].reply))}")
        console.print(f"steered    {escape(_shortened(found.best.reply))}")
    console.print(f"\nTrials saved in {escape(utf8(out))}")


def _trials(console: Console, found: ReadoutTuneResult) -> None:
    named = [name for name in ("toward", "away_from") if getattr(found, name) is not None]
    heads = ("#", "layer", *(name.replace("_", " ") for name in named), "effect", "perplexity", "repeats", "special")
    rows = table(*heads, "", right=heads)
    shown = [found.trials[0], *sorted(found.trials[1:], key=lambda trial: (not trial.feasible, -trial.effect))[:MOST]]
    for trial in shown:
        style = "bold green" if trial == found.best else "" if trial.feasible else "dim"
        rows.add_row(*_cells(trial, named), style=style)
    console.print(rows)
    if len(found.trials) > len(shown):
        console.print(f"… and {len(found.trials) - len(shown)} more (see the file)", style="dim")


def _cells(trial: SteeringTrial, named: list[str]) -> list[str]:
    strengths = [f"{getattr(trial, name):.2f}" if trial.layer is not None else "–" for name in named]
    effect = f"{trial.effect:+.2f} ± {trial.error:.2f}" if trial.layer is not None else "unsteered"
    return [
        str(trial.number), "–" if trial.layer is None else str(trial.layer), *strengths, effect,
        f"{trial.perplexity:.4g}", f"{trial.repetition:.1%}", f"{trial.special:.1%}",
        f"over: {', '.join(trial.broken)}" if trial.broken else "",
    ]  # fmt: skip


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 66 else f"{line[:65]}…"
