"""``persona readout tune``."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import SIDE
from persona.cli.output import utf8
from persona.cli.readout_running import repository_if_any, running_options, say_notes
from persona.cli.render import count, table

if TYPE_CHECKING:
    from persona.readout.tuning import SteeringTrial
    from persona.verbs.readout.tune import ReadoutTuneResult

MOST = 12
"""Trials that are shown: the largest effects within the bounds, and beyond them."""


@click.command("tune")
@click.option("--toward", metavar="CONCEPT", help="Steer towards this concept.")
@click.option("--away-from", metavar="CONCEPT", help="Steer away from this one; with --toward, each has a strength.")
@click.option(
    "--prompts", type=click.Path(readable=False), required=True, metavar="FILE",
    help="What the model replies to: a line each, or with .jsonl the 'text' of each line.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(readable=False), required=True, metavar="FILE",
    help="Keep the trials here, as JSON; if it is there, go on from it.",
)  # fmt: skip
@click.option("--model", type=SIDE, metavar="REV|PATH", help="The model that is steered; persona.toml otherwise.")
@running_options
@click.option("--trials", type=click.IntRange(min=1), default=40, show_default=True, metavar="N", help="How many.")
@click.option(
    "--most", type=click.FloatRange(min=0, min_open=True), default=16.0, show_default=True, metavar="S",
    help="Strengths up to this, in standard deviations of the readout.",
)  # fmt: skip
@click.option(
    "--max-perplexity", type=click.FloatRange(min=1), default=1.5, show_default=True, metavar="X",
    help="Replies may have so many times the perplexity of unsteered ones.",
)  # fmt: skip
@click.option(
    "--max-repetition", type=click.FloatRange(min=0), default=0.1, show_default=True, metavar="S",
    help="So much larger may the share of runs of three tokens be that come again.",
)  # fmt: skip
@click.option(
    "--max-special", type=click.FloatRange(min=0), default=0.05, show_default=True, metavar="S",
    help="So much larger may the share of special tokens be.",
)  # fmt: skip
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=40, show_default=True, metavar="N", help="Of a reply."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="T",
    help="Of the sampling of replies; 0 takes the likeliest token each time.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Of all chance.")
@click.option("--plain", is_flag=True, help="Give prompts to the model as they are, without its chat template.")
@json_option
@click.pass_obj
def command(
    app: App,
    toward: str | None,
    away_from: str | None,
    prompts: str,
    out: str,
    model: str | None,
    readout: str | None,
    dtype: str | None,
    device: str,
    blocks: str | None,
    batch_size: int,
    trials: int,
    most: float,
    max_perplexity: float,
    max_repetition: float,
    max_special: float,
    max_tokens: int,
    temperature: float,
    seed: int,
    plain: bool,
) -> int:
    """Find the layer and the strengths that steer furthest while replies stay coherent; exits with 1 if none do.

    Each trial lets the steered model reply to all prompts, and the unsteered one read the replies: how far they moved along
    the readout, and their perplexity, repetition and special tokens, which must keep within bounds. Needs optuna:
    pip install 'persona-vcs[tune]'.

    \b
    persona readout tune --toward warmth --prompts prompts.txt --readout readouts/mood -o tune.json
    persona readout tune --toward warmth --away-from coldness --prompts prompts.txt --readout readouts/mood -o tune.json
    persona readout tune --away-from haste --prompts p.jsonl --readout readouts/mood -o haste.json --trials 100
    """
    from persona.readout.tuning import ReplyBounds, SteeringSearch
    from persona.verbs.readout.tune import readout_tune
    from persona.workspace.reading import texts_in

    bounds = ReplyBounds(max_perplexity, max_repetition, max_special)
    search = SteeringSearch(toward, away_from, most, bounds, max_tokens, temperature, seed)
    found = readout_tune(
        repository_if_any(app), app.path(out), texts_in(app.path(prompts)), search, readout, model,
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
    resumed = f", {found.resumed - 1} of them from before" if found.resumed else ""  # beside the unsteered one
    console.print(f"{count(len(found.trials) - 1, 'trial')}{resumed}, {count(found.prompts, 'prompt')}\n")
    _trials(console, found)
    console.print()
    for line in textwrap.wrap(found.said, min(console.width, 100)) if console.is_terminal else [found.said]:
        console.print(escape(line), style="" if found.best else "yellow")
    if found.best is not None:
        console.print(f"\nunsteered  {escape(_shortened(found.trials[0].reply))}")
        console.print(f"steered    {escape(_shortened(found.best.reply))}")
    console.print(f"\nKept in {escape(utf8(out))}")


def _trials(console: Console, found: ReadoutTuneResult) -> None:
    named = [name for name in ("toward", "away_from") if getattr(found, name) is not None]
    heads = ("#", "layer", *(name.replace("_", " ") for name in named), "effect", "perplexity", "repeats", "special")
    rows = table(*heads, "", right=heads)
    shown = [found.trials[0], *sorted(found.trials[1:], key=lambda one: (not one.feasible, -one.effect))[:MOST]]
    for one in shown:
        style = "bold green" if one == found.best else "" if one.feasible else "dim"
        rows.add_row(*_cells(one, named), style=style)
    console.print(rows)
    if len(found.trials) > len(shown):
        console.print(f"… and {len(found.trials) - len(shown)} more: they are in the file", style="dim")


def _cells(one: SteeringTrial, named: list[str]) -> list[str]:
    strengths = [f"{getattr(one, name):.2f}" if one.layer is not None else "–" for name in named]
    effect = f"{one.effect:+.2f} ± {one.error:.2f}" if one.layer is not None else "unsteered"
    return [
        str(one.number), "–" if one.layer is None else str(one.layer), *strengths, effect,
        f"{one.perplexity:.4g}", f"{one.repetition:.1%}", f"{one.special:.1%}",
        f"over: {', '.join(one.broken)}" if one.broken else "",
    ]  # fmt: skip


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 66 else f"{line[:65]}…"
