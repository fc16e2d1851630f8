"""``persona convert``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import utf8
from persona.cli.render import count, size


@click.command("convert")
@click.argument("path", type=click.Path(readable=False), metavar="PATH")
@click.option("-o", "--out", required=True, type=click.Path(readable=False), metavar="OUT", help="Folder to make.")
@json_option
@click.pass_obj
def command(app: App, path: str, out: str) -> None:
    """Turn pickled weights (.bin, .pt) into safetensors, without running anything that they hold.

    PATH is a file or a folder; configs and tokenizer of a folder come along. A file that would have to run code to
    be opened is refused.

    \b
    persona convert old-model -o old-model-safe
    persona convert runs/voice/adapter_model.bin -o voice-safe
    """
    from persona.verbs.convert import convert

    done = convert(app.path(path), app.path(out), progress=app.progress())

    def render(console: Console) -> None:
        console.print(f"Wrote {escape(utf8(out))}: {count(done.tensors, 'tensor')}, {size(done.nbytes)}")
        if done.files:
            console.print(f" with {escape(utf8(', '.join(done.files)))}")

    app.show("convert", done, render)
