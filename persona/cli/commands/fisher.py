"""``persona fisher``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.commands.train import summary
from persona.cli.complete import VECTOR
from persona.cli.render import count, size
from persona.cli.running import device_option, dtype_option
from persona.cli.tables.commits import headline

if TYPE_CHECKING:
    from persona.verbs.fisher import FisherResult


@click.command("fisher")
@click.argument("name", type=VECTOR)
@click.option(
    "--data", metavar="FILE", required=True, type=click.Path(readable=False),
    help="Examples of what the vector was trained for, in a format of 'persona train'.",
)  # fmt: skip
@click.option("--speaker", metavar="NAME", help="Speaker whose turns count, in conversations of [NAME] turns.")
@click.option(
    "--preset",
    metavar="NAME",
    default="default",
    show_default=True,
    help="Preset of settings for reading data: default, limbic, or a TOML file.",
)
@click.option("--set", "settings", metavar="K=V", multiple=True, help="Override any setting of the preset; repeatable.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="Random seed for labels and --limit.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only N random examples.")
@dtype_option
@device_option
@click.option("-m", "--message", metavar="MSG", help="Commit message.")
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    name: str,
    data: str,
    speaker: str | None,
    preset: str,
    settings: tuple[str, ...],
    seed: int,
    limit: int | None,
    dtype: str | None,
    device: str,
    message: str | None,
) -> None:
    """Estimate which weights a vector needs most

    Estimates the Fisher diagonal of the base with that vector alone, over the tokens that 'persona train' would learn, and
    commits it with the vector; the merge method fisher uses it. A few hundred examples are enough. Needs memory for the
    model, its gradients, and 4 bytes for each weight that the vector changes.

    \b
    persona fisher listening --data listening.jsonl
    persona fisher suggesting --data suggesting.jsonl --limit 200 --device cuda
    """
    from persona.training.settings import parse_changes
    from persona.verbs.fisher import fisher

    repo = app.repository()
    done = fisher(
        repo,
        name,
        app.path(data),
        speaker=speaker,
        preset=app.path(preset) if app.path(preset).suffix == ".toml" else preset,
        changes=parse_changes(settings),
        seed=seed,
        limit=limit,
        dtype=dtype,
        device=device,
        message=message,
        author=app.author(repo),
        command=app.command,
        progress=app.progress(),
    )
    app.show("fisher", done, lambda console: _render(console, done))


def _render(console: Console, done: FisherResult) -> None:
    summary(console, "data", done.data)
    if done.recorded is not None:
        headline(console, done.recorded)
    used = f"{count(done.tokens, 'token')} of {count(done.examples, 'example')}"
    large = f"{count(done.tensors, 'tensor')}, {size(done.nbytes)}"
    console.print(
        f" [green]{escape(done.name)}[/]   F [yellow]{done.fisher.short}[/]   {large}   trace {done.trace:.4g}, {used}"
    )
    for text in done.notes:
        console.print(f"   {escape(text)}")
    if done.waiting:
        console.print(f"   vectors without a Fisher diagonal: {escape(', '.join(done.waiting))}")
    elif not done.weighs:
        console.print(escape('   To use it, set in persona.toml:  [merge]  method = "fisher"'))
