"""`persona anchors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.render import count
from persona.cli.running import device_option

if TYPE_CHECKING:
    from persona.verbs.anchors import AnchorsResult


@click.command("anchors")
@click.option("-o", "--out", required=True, type=click.Path(readable=False), metavar="FILE", help="File to write.")
@click.option("--on", metavar="REV", type=REV, help="Answer with a build of this revision. [default: the base]")
@click.option(
    "--anchor", "prompts", metavar="FILE", multiple=True, type=click.Path(readable=False),
    help="Prompts to answer besides the built-in ones; repeatable.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Random seed for the order of the rows.")  # fmt: skip
@device_option
@click.option("--replace", is_flag=True, help="Replace an existing file.")
@json_option
@click.pass_obj
def command(
    app: App, /, out: str, on: str | None, prompts: tuple[str, ...], seed: int, device: str, replace: bool
) -> None:
    """Write a model's own answers to neutral prompts

    Mix these rows into the data of a training loop of your own, two for every four rows: answers to everything else then
    stay as they are. 'persona train' does this itself. Answers that do not end within 64 tokens are left out, because a
    trainer would learn to end there.

    \b
    persona anchors -o anchors.jsonl
    persona anchors -o anchors.jsonl --anchor prompts.txt --on HEAD
    """
    from persona.verbs.anchors import anchors

    done = anchors(
        app.repository(), app.path(out), on=on, prompts=[app.path(path) for path in prompts], seed=seed,
        device=device, replace=replace, progress=app.progress(),
    )  # fmt: skip
    app.show("anchors", done, lambda console: _render(console, done))


def _render(console: Console, done: AnchorsResult) -> None:
    for text in done.notes:
        console.print(f"[yellow]{escape(text)}[/]")
    own = f" ({done.own} from --anchor)" if done.own else ""
    left_out = done.prompts - done.rows
    why = f"; {count(left_out, 'answer')} without an end left out" if left_out else ""
    console.print(f"{count(done.prompts, 'prompt')}{own}, {count(done.rows, 'row')} in {escape(str(done.out))}{why}")
